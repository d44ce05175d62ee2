"""What has to be written to one user's metadata in Auth0, and when (P15 to P18), as pure functions.

Three things there are ours, the *parts* of a push: `app_metadata.roles` (as far as rules name them), `app_metadata.plan`
and `user_metadata.displayName`. Nothing else is ever sent.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Literal
from uuid import UUID

from worker.domain.roles import RoleChange, Rule, role_change

Part = Literal["roles", "plan", "displayName"]
Attribute = Literal["displayName", "plan"]

PLACES: Mapping[Part, str] = {"roles": "app_metadata", "plan": "app_metadata", "displayName": "user_metadata"}

PROFILE_CAP = 10 * 1024
"""Bytes of a whole profile that Auth0 takes. Source: auth0.com/docs, "Deprecations and Migrations", 2026-08-04."""

MOST_IN_A_DAY = 10
"""Pushes for one user, after which somebody else must be undoing them (P18)."""
_REST, _LONGEST_REST = timedelta(seconds=10), timedelta(minutes=5)
# Of somebody who waits for a wish: who signs up gets a default name pushed, and chooses another one right away.
_WISHED_REST, _LONGEST_WISHED_REST = timedelta(seconds=1), timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Wish:
    """A chosen value and its number, which is new with every choice (P17)."""

    value: str
    number: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one person's metadata should say: roles earned, wishes open, and the name to write where there is none."""

    earned: tuple[str, ...] = ()
    wishes: Mapping[Attribute, Wish] = field(default_factory=dict)
    default_name: str = ""

    def made_of(self, updated_at: str | None) -> str:
        """Return what a push is made of (P18): one that was parked is tried again when this differs.

        Without `updated_at` (where somebody else keeps undoing us) foreign changes make no difference.
        """
        numbers = sorted((attribute, wish.number) for attribute, wish in self.wishes.items())
        return json.dumps([updated_at, sorted(self.earned), numbers, self.default_name])


@dataclass(frozen=True, slots=True)
class Difference:
    """What a profile lacks. `values`: what to send, by part. `shown`: wishes that it shows already, by number.

    `unwritable`: parts that cannot be written without destroying what is there, and why. `by_default`: the display name to
    send is nobody's choice.
    """

    values: Mapping[Part, Any] = field(default_factory=dict)
    roles: RoleChange | None = None
    shown: Mapping[Attribute, int] = field(default_factory=dict)
    unwritable: Mapping[Part, str] = field(default_factory=dict)
    by_default: bool = False

    @property
    def default_only(self) -> bool:
        """Whether nothing but a default name is to be sent."""
        return self.by_default and set(self.values) == {"displayName"}

    def only(self, parts: Collection[Part]) -> "Difference":
        """Return the same with only these parts to send."""
        values: dict[Part, Any] = {part: value for part, value in self.values.items() if part in parts}
        return replace(self, values=values, roles=self.roles if "roles" in values else None)

    def without_losses(self) -> "Difference":
        """Return the same with no role taken away (P19)."""
        if self.roles is None or not self.roles.lost:
            return self
        others = self.only(self.values.keys() - {"roles"})
        if not self.roles.gained:
            return others
        kept = RoleChange([*self.roles.held, *self.roles.gained], self.roles.gained, (), self.roles.held)
        return replace(others, values={**others.values, "roles": kept.roles}, roles=kept)

    def body(self) -> dict[str, dict[str, Any]]:
        """Return the PATCH that sends it. Auth0 merges metadata at the first level; an empty object would wipe it all."""
        body: dict[str, dict[str, Any]] = {}
        for part, value in self.values.items():
            body.setdefault(PLACES[part], {})[part] = value
        return body


def difference(profile: Mapping[str, Any], wanted: Wanted, rules: Sequence[Rule]) -> Difference:
    """Compare a profile's metadata with what is wanted of it."""
    values: dict[Part, Any] = {}
    shown: dict[Attribute, int] = {}
    unwritable: dict[Part, str] = {}
    app, user = (_metadata(profile, place) for place in ("app_metadata", "user_metadata"))
    change = None
    held = [] if app is None or app.get("roles") is None else app["roles"]
    if app is not None and isinstance(held, list):
        change = role_change(held, rules, wanted.earned)
        if change is not None:
            values["roles"] = change.roles
    elif wanted.earned:
        unwritable["roles"] = "app_metadata.roles is no list"
    attribute: Attribute
    for attribute, place, metadata in (("plan", "app_metadata", app), ("displayName", "user_metadata", user)):
        wish = wanted.wishes.get(attribute)
        if wish is None:
            continue
        if metadata is None:
            unwritable[attribute] = f"{place} is no object"
        elif metadata.get(attribute) == wish.value:
            shown[attribute] = wish.number
        else:
            values[attribute] = wish.value
    nameless = user is not None and user.get("displayName") is None and "displayName" not in wanted.wishes
    if wanted.default_name and nameless:
        values["displayName"] = wanted.default_name
    return Difference(values, change, shown, unwritable, by_default=bool(wanted.default_name) and nameless)


def not_shown(profile: Mapping[str, Any], values: Mapping[Part, Any]) -> list[Part]:
    """Return the parts that an answer does not show as they were sent."""
    return [part for part, value in values.items() if (_metadata(profile, PLACES[part]) or {}).get(part) != value]


def size_with(profile: Mapping[str, Any], body: Mapping[str, Mapping[str, Any]]) -> int:
    """Return the bytes that a profile would have after a PATCH: Auth0 does not say that it is the cap which refuses one."""
    written = {place: {**(_metadata(profile, place) or {}), **sent} for place, sent in body.items()}
    text = json.dumps({**profile, **written}, ensure_ascii=False, separators=(",", ":"))
    return len(text.encode(errors="surrogatepass"))


def _metadata(profile: Mapping[str, Any], place: str) -> Mapping[str, Any] | None:
    """Return one kind of metadata, empty where there is none; None for what is no object."""
    found = profile.get(place)
    if found is None:
        return {}
    return found if isinstance(found, Mapping) else None


def concerns_a_push(known: Mapping[str, Any] | None, said: Mapping[str, Any]) -> bool:
    """Tell whether a snapshot says something that a push may have to answer: metadata, identities, a login without a name."""
    if known is None or any(known.get(key) != said.get(key) for key in ("app_metadata", "user_metadata", "identities")):
        return True
    named = (_metadata(said, "user_metadata") or {}).get("displayName") is not None
    return not named and known.get("last_login") != said.get("last_login")


def rest(pushes_in_the_last_hour: int, *, wished: bool) -> timedelta:
    """Return how long a user rests after a push: whoever earns and loses a role all the time costs few calls.

    Somebody who waits for a wish waits for seconds.
    """
    if pushes_in_the_last_hour == 0:
        return timedelta(0)
    first, longest = (_WISHED_REST, _LONGEST_WISHED_REST) if wished else (_REST, _LONGEST_REST)
    return min(first * (1 << min(pushes_in_the_last_hour - 1, 10)), longest)


_ECHO = "understudy-"


def echo_name(push: UUID) -> str:
    """Return the correlation id that a PATCH carries (Auth0 keeps 64 characters)."""
    return _ECHO + push.hex


def echo_of(correlation_id: str | None) -> UUID | None:
    """Return which push a record's correlation id names, None for what is none of ours."""
    if correlation_id is None or not re.fullmatch(_ECHO + "[0-9a-f]{32}", correlation_id):
        return None
    return UUID(correlation_id.removeprefix(_ECHO))
