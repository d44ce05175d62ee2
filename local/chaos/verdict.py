"""What must be true when the faults are over, each a question with its own answer: PROTOCOL's "equal", plays, roles, wishes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg

from local.chaos.listeners import Told
from local.chaos.stage import CAP, TIERS
from local.comparison import compare

_SHOWN = 20

# No export has it. Of whom a reconcile alone told, everything else was lost, it comes with their next change.
_NOT_EXPORTED = "profile.locale"

_PLAYS = "SELECT playlist_id, play_id::text, listener, (played_at AT TIME ZONE 'UTC')::date FROM plays"
_PLAYLISTS = "SELECT playlist_id, user_id, plays FROM playlists"
_SHOWN_ROLES = "SELECT user_id, coalesce(roles, '{}') FROM live_users"
_SHOWN_WISHES = "SELECT user_id, display_name, plan FROM live_users"
_PARKED = """
SELECT 'record of ' || source, reason FROM parked
UNION ALL SELECT 'delivery of ' || source, error FROM inbox WHERE state = 'parked'
UNION ALL SELECT 'push of ' || key, value ->> 'reason' FROM pushes, jsonb_each(parked)
"""
_LEFT = """
SELECT 'deliveries pending', count(*) FROM inbox WHERE state = 'pending'
UNION ALL SELECT 'users marked', count(*) FROM news WHERE braked_at IS NULL
UNION ALL SELECT 'deletions braked', count(*) FROM news WHERE braked_at IS NOT NULL
UNION ALL SELECT 'pushes due', count(*) FROM pushes WHERE due_at < 'infinity'
UNION ALL SELECT 'pushes braked', count(*) FROM pushes WHERE braked_at IS NOT NULL
UNION ALL SELECT 'wishes open', count(*) FROM wishes
"""


@dataclass(frozen=True)
class Finding:
    """One question and what is wrong, if anything."""

    question: str
    wrong: list[str]

    def lines(self) -> Iterable[str]:
        yield f"{'no ' if self.wrong else 'yes'}  {self.question}"
        yield from (f"       {one}" for one in self.wrong[:_SHOWN])
        if len(self.wrong) > _SHOWN:
            yield f"       … and {len(self.wrong) - _SHOWN} more"


def findings(database_url: str, truth: list[dict[str, Any]], told: Told, musicians: list[str]) -> list[Finding]:
    """Answer every question about a tenant and a copy that stand still."""
    with psycopg.connect(database_url) as connection:
        plays = connection.execute(_PLAYS).fetchall()
        playlists = connection.execute(_PLAYLISTS).fetchall()
        roles = {user_id: set(held) for user_id, held in connection.execute(_SHOWN_ROLES)}
        wishes = {user_id: (name, plan) for user_id, name, plan in connection.execute(_SHOWN_WISHES)}
        parked = connection.execute(_PARKED).fetchall()
        left = connection.execute(_LEFT).fetchall()
    users, differences = compare(truth, database_url)
    return [
        Finding(
            f"the copy equals the tenant, {users} users",
            [str(one) for one in differences if one.attribute != _NOT_EXPORTED],
        ),
        Finding("nothing is left to do", [f"{count} {what}" for what, count in left if count]),
        Finding("nothing was parked", [f"{what}: {why}" for what, why in parked]),
        Finding("every play that was accepted is kept, once, and no other", wrong_plays(told, plays)),
        Finding("the sums are those of the plays kept, with each day's cap", wrong_sums(plays, playlists)),
        Finding("roles are what plays earn, in Auth0 and in SQL", wrong_roles(truth, playlists, roles)),
        Finding("the last name and plan chosen are in Auth0 and in SQL", wrong_wishes(truth, wishes, told)),
        Finding("whom nobody deleted is there", [one for one in musicians if one not in roles]),
    ]


def wrong_plays(told: Told, plays: Iterable[tuple[int, str, str, Any]]) -> list[str]:
    """Compare the plays kept with those that people were told are taken; of dropped playlists nothing is known."""
    kept = Counter((playlist, play) for playlist, play, _, _ in plays if playlist not in told.dropped)
    accepted = {one for one in told.accepted if one[0] not in told.dropped}
    return [
        *(f"play {play} of playlist {playlist} was accepted and is lost" for playlist, play in accepted - kept.keys()),
        *(f"play {play} of playlist {playlist} is kept and was not accepted" for playlist, play in kept.keys() - accepted),
        *(f"play {play} of playlist {playlist} is kept {n} times" for (playlist, play), n in kept.items() if n > 1),
    ]  # fmt: skip


def wrong_sums(plays: Iterable[tuple[int, str, str, Any]], playlists: Iterable[tuple[int, str, int]]) -> list[str]:
    """Add the plays up anew: at most so many of one listener a day, none of the owner's own."""
    owners = {playlist: owner for playlist, owner, _ in playlists}
    days = Counter(
        (playlist, listener, day) for playlist, _, listener, day in plays if owners.get(playlist) != listener
    )
    sums: Counter[int] = Counter()
    for (playlist, _, _), count in days.items():
        sums[playlist] += min(count, CAP)
    return [
        f"playlist {playlist} says {said} plays, and has {sums[playlist]}"
        for playlist, _, said in playlists
        if said != sums[playlist]
    ]


def wrong_roles(
    truth: Iterable[Mapping[str, Any]], playlists: Iterable[tuple[int, str, int]], shown: Mapping[str, set[str]]
) -> list[str]:
    """Compare roles with what the playlists of a person, under all linked ids, have earned."""
    earned_by: defaultdict[str, int] = defaultdict(int)
    for _, owner, plays in playlists:
        earned_by[owner] += plays
    wrong = []
    for user in truth:
        ids = {user["user_id"], *(f"{one['provider']}|{one['user_id']}" for one in user["identities"])}
        total = sum(earned_by[one] for one in ids)
        earned = {role for role, plays in TIERS.items() if total >= plays}
        held = set(user.get("app_metadata", {}).get("roles") or ())
        for where, has in (("Auth0", held), ("SQL", shown.get(user["user_id"], set()))):
            if has & TIERS.keys() != earned:
                wrong.append(
                    f"{user['user_id']} with {total} plays has {sorted(has)} in {where}, earned {sorted(earned)}"
                )
    return wrong


def wrong_wishes(
    truth: Iterable[Mapping[str, Any]], shown: Mapping[str, tuple[str | None, str | None]], told: Told
) -> list[str]:
    """Compare names and plans with what was chosen last and confirmed."""
    there = {user["user_id"]: user for user in truth}
    wrong = []
    for chosen, place, key, column in (
        (told.names, "user_metadata", "displayName", 0),
        (told.plans, "app_metadata", "plan", 1),
    ):
        for person, value in chosen.items():
            held = there.get(person, {}).get(place, {}).get(key)
            said = shown.get(person, (None, None))[column]
            if (held, said) != (value, value):
                wrong.append(f"{person} chose {value!r}; Auth0 has {held!r}, SQL {said!r}")
    return wrong
