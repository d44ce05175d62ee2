"""The tenant's users: what a profile is, and the live ones by id, by e-mail and at random."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

Metadata = dict[str, Any]


class Identity(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """One way to log in. `user_id` is the provider's: text, or an integer for some social providers."""

    user_id: str | int = msgspec.field(name="user_id")
    provider: str
    connection: str
    is_social: bool
    profile_data: Metadata | UnsetType = UNSET

    @property
    def full_id(self) -> str:
        """`provider|user_id`: what the user was called before it was linked."""
        return f"{self.provider}|{self.user_id}"


class User(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A profile as `GET /api/v2/users/{id}` answers it; what is unset is absent.

    Immutable: a change makes a new one, so that the search index can go on showing the old one.
    """

    user_id: str
    created_at: str
    updated_at: str
    identities: tuple[Identity, ...]
    email: str | UnsetType = UNSET
    email_verified: bool | UnsetType = UNSET
    username: str | UnsetType = UNSET
    phone_number: str | UnsetType = UNSET
    phone_verified: bool | UnsetType = UNSET
    name: str | UnsetType = UNSET
    given_name: str | UnsetType = UNSET
    family_name: str | UnsetType = UNSET
    nickname: str | UnsetType = UNSET
    picture: str | UnsetType = UNSET
    locale: str | UnsetType = UNSET
    blocked: bool | UnsetType = UNSET
    last_login: str | UnsetType = UNSET
    last_ip: str | UnsetType = UNSET
    last_password_reset: str | UnsetType = UNSET
    logins_count: int | UnsetType = UNSET
    multifactor: tuple[str, ...] | UnsetType = UNSET
    user_metadata: Metadata | UnsetType = UNSET
    app_metadata: Metadata | UnsetType = UNSET

    @property
    def primary(self) -> Identity:
        return self.identities[0]


class Users:
    """The live users. Every change is announced to `on_change(old profile or None, new profile or None)`."""

    def __init__(self, on_change: Callable[[User | None, User | None], None]) -> None:
        self._by_id: dict[str, User] = {}
        self._ids: list[str] = []
        self._place: dict[str, int] = {}
        self._by_email: dict[str, tuple[str, ...]] = {}
        self._primary_of: dict[str, str] = {}
        self._sorted: list[str] | None = None
        self._on_change = on_change

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[User]:
        return iter(self._by_id.values())

    def get(self, user_id: str) -> User | None:
        return self._by_id.get(user_id)

    def primary_of(self, identity_id: str) -> str | None:
        """Name the user that the identity was linked to, if it was."""
        return self._primary_of.get(identity_id)

    def with_email(self, email: str) -> list[User]:
        return [self._by_id[user_id] for user_id in self._by_email.get(email, ())]

    def put(self, user: User) -> User:
        """Add a user, or replace the one of that id."""
        old = self._by_id.get(user.user_id)
        if old is None:
            self._place[user.user_id] = len(self._ids)
            self._ids.append(user.user_id)
            self._sorted = None
        self._by_id[user.user_id] = user
        self._index_email(old, user)
        if old is None or old.identities is not user.identities:
            self._index_identities(old, user)
        self._on_change(old, user)
        return user

    def remove(self, user_id: str) -> User:
        """Take a user away. KeyError when there is none."""
        user = self._by_id.pop(user_id)
        place, last = self._place.pop(user_id), self._ids.pop()
        if last != user_id:
            self._ids[place] = last
            self._place[last] = place
        self._sorted = None
        self._index_email(user, None)
        self._index_identities(user, None)
        self._on_change(user, None)
        return user

    def any_of(self, rng: random.Random) -> User | None:
        return self._by_id[self._ids[rng.randrange(len(self._ids))]] if self._ids else None

    def any_linked(self, rng: random.Random) -> User | None:
        """Any user who has linked identities."""
        return self._by_id[rng.choice(list(self._primary_of.values()))] if self._primary_of else None

    def sample(self, rng: random.Random, count: int) -> list[str]:
        """Ids of up to `count` different users."""
        return rng.sample(self._ids, min(count, len(self._ids)))

    def newest(self, count: int) -> list[User]:
        """Those who were added last, the newest first."""
        return list(islice(reversed(self._by_id.values()), count))

    def after(self, cursor: str, limit: int) -> list[User]:
        """Up to `limit` users in the order of their ids, from the first one behind `cursor`."""
        if self._sorted is None:
            self._sorted = sorted(self._ids)
        start = bisect_right(self._sorted, cursor)
        return [self._by_id[user_id] for user_id in self._sorted[start : start + limit]]

    def _index_email(self, old: User | None, new: User | None) -> None:
        before = old.email if old is not None else UNSET
        after = new.email if new is not None else UNSET
        if before == after:
            return
        if old is not None and isinstance(before, str):
            left = tuple(i for i in self._by_email[before] if i != old.user_id)
            if left:
                self._by_email[before] = left
            else:
                del self._by_email[before]
        if new is not None and isinstance(after, str):
            self._by_email[after] = (*self._by_email.get(after, ()), new.user_id)

    def _index_identities(self, old: User | None, new: User | None) -> None:
        for identity in old.identities[1:] if old is not None else ():
            self._primary_of.pop(identity.full_id, None)
        for identity in new.identities[1:] if new is not None else ():
            self._primary_of[identity.full_id] = new.user_id if new is not None else ""
