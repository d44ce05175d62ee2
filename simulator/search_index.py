"""The search index: users as they were a moment ago."""

from __future__ import annotations

from collections import deque
from typing import Any

from msgspec import UNSET

from simulator import search_query
from simulator.clock import Clock
from simulator.errors import invalid_query
from simulator.users import User


class SearchIndex:
    """Shows each change `lag` seconds after it was made: new users are missing, deleted ones still there."""

    def __init__(self, clock: Clock, lag: float) -> None:
        self.lag = lag
        self._clock = clock
        self._shown: dict[str, User] = {}
        self._coming: deque[tuple[float, str, User | None]] = deque()
        self._last: tuple[tuple[str | None, ...], list[User]] | None = None
        """The latest question and who was found, until something changes: pages are asked for one after the other."""

    def note(self, user_id: str, user: User | None) -> None:
        """Take in a change that the index will show in `lag` seconds."""
        self._coming.append((self._clock() + self.lag, user_id, user))

    def catch_up(self) -> None:
        """Show everything at once: for users that were there before the story began."""
        self._show_until(float("inf"))

    def search(self, q: str | None, connection: str | None, sort: str | None) -> list[User]:
        """All users that match, oldest first unless sorted otherwise. ApiError 400 for a bad query."""
        self._show_until(self._clock())
        if self._last is None or self._last[0] != (q, connection, sort):
            self._last = (q, connection, sort), self._found(q, connection, sort)
        return self._last[1]

    def _found(self, q: str | None, connection: str | None, sort: str | None) -> list[User]:
        if q:
            query = search_query.parse(q)
            candidates = self._shown.values() if query.user_ids is None else self._named(query.user_ids)
            found = [user for user in candidates if query.matches(user)]
        else:
            found = list(self._shown.values())
        if connection:
            found = [user for user in found if any(i.connection == connection for i in user.identities)]
        return sorted_by(found, sort) if sort else found

    def _named(self, user_ids: tuple[str, ...]) -> list[User]:
        return [self._shown[user_id] for user_id in user_ids if user_id in self._shown]

    def _show_until(self, now: float) -> None:
        while self._coming and self._coming[0][0] <= now:
            _, user_id, user = self._coming.popleft()
            self._last = None
            if user is None:
                self._shown.pop(user_id, None)
            else:
                self._shown[user_id] = user


def sorted_by(users: list[User], sort: str) -> list[User]:
    """By `field:1` or `field:-1`; users without the field come last."""
    name, _, direction = sort.rpartition(":")
    if name not in User.__struct_fields__ or direction not in {"1", "-1"} or name.endswith("metadata"):
        raise invalid_query(f"Invalid sort {sort}")
    having = [user for user in users if getattr(user, name) is not UNSET]
    lacking = [user for user in users if getattr(user, name) is UNSET]

    def key(user: User) -> Any:
        return getattr(user, name)

    return sorted(having, key=key, reverse=direction == "-1") + lacking
