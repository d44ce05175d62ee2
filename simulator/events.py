"""Events of the tenant: made of each change to a user, kept for those who pull, told to those who are pushed."""

from __future__ import annotations

import asyncio
import base64
import random
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from simulator.clock import Clock, iso
from simulator.cloud_events import Event
from simulator.errors import ApiError
from simulator.users import User

UNLINKS = ("both", "primary", "none")


@dataclass
class Emission:
    """What becomes an event, and in which shape. Each field is something that Auth0's documentation leaves open."""

    logins: bool = True
    """Whether a login alone is a `user.updated`."""
    unlinks: str = "both"
    """`both`: the primary's `user.updated` and the secondary's `user.created`; `primary`: the former alone; `none`."""
    previous_object: float = 0.3
    context: float = 0.5
    social_false: float = 0.0
    """How often `isSocial: false` is written out."""
    bare_deletes: float = 0.0
    """How often a deletion tells `user_id` and `deleted_at` alone."""
    retention: int = 100_000
    """Events kept for pulling."""

    def __post_init__(self) -> None:
        if self.unlinks not in UNLINKS:
            raise ValueError(f"unlinks is one of {', '.join(UNLINKS)}")


@dataclass
class PullPace:
    """How the Events API sends."""

    heartbeat: float = 15.0
    """Seconds between two heartbeats, each with an `offset-only` message."""
    comments: float | None = None
    """Seconds between two comments that tell nothing; null: there are none."""
    cycle: float = 300.0
    """Seconds after which a connection is closed."""
    connections: int | None = None
    """Connections that may be open at once; the plan says it unless this does."""


class Events:
    """Makes the tenant's events and keeps the last ones in their order."""

    def __init__(self, clock: Clock, rng: random.Random, tenant: str) -> None:
        self.emission = Emission()
        self.pull = PullPace()
        self.closing = False
        self.tenant = tenant
        self.on_event: list[Callable[[Event], None]] = []
        self.bells: set[asyncio.Event] = set()
        """Rung with every event, for those who wait for one."""
        self._clock = clock
        self._rng = rng
        self._kept: list[Event] = []
        self._number = 0
        self._silent = False
        self._unlinked: set[str] = set()

    def close(self) -> None:
        """Let all who wait for events go."""
        self.closing = True
        for bell in self.bells:
            bell.set()

    def note(self, old: User | None, new: User | None) -> None:
        """Hear of a change: a user's profile before (None: there was none) and after (None: gone)."""
        if self._silent or not self._is_told(old, new):
            return
        rng, emission = self._rng, self.emission
        kind = "user.deleted" if new is None else "user.created" if old is None else "user.updated"
        tells_previous = kind == "user.updated" and rng.random() < emission.previous_object
        self._happen(
            kind,
            user=new or old,
            previous=old if tells_previous else None,
            with_context=rng.random() < emission.context,
            with_social_false=rng.random() < emission.social_false,
            bare=rng.random() < emission.bare_deletes,
        )

    @contextmanager
    def silence(self) -> Iterator[None]:
        """What changes meanwhile happened before the story began."""
        self._silent = True
        try:
            yield
        finally:
            self._silent = False

    def inject(self, raw: dict[str, Any]) -> Event:
        """Let a CloudEvent of one's own happen: its keys replace the usual ones, whatever they are."""
        return self._happen(str(raw.get("type", "")), raw=raw)

    def new_test(self, kind: str, data: dict[str, Any] | None) -> Event:
        """Make a test event, which only its stream gets."""
        return self._new(kind, raw={"data": data or {"object": _example(iso(self._clock()))}}, is_test=True)

    @property
    def newest(self) -> int:
        """Number of the latest event; 0 when nothing has happened."""
        return self._number

    @property
    def kept(self) -> int:
        return len(self._kept)

    def after(self, number: int, limit: int) -> list[Event]:
        """Up to `limit` events behind that number. ApiError 410 when some of them are no longer kept."""
        first = self._number - len(self._kept) + 1
        if number < first - 1:
            raise ApiError(410, "The offset has expired. Use from_timestamp to resume.", "cursor_expired")
        start = number - first + 1
        return self._kept[start : start + limit]

    def number_before(self, time: str) -> int:
        """Number behind which the events of that time (ISO 8601, milliseconds, Z) and later stand, as far as they are kept."""
        place = bisect_left(self._kept, time, key=attrgetter("time"))
        return self._number - len(self._kept) + place

    def expire(self, keep: int = 0) -> int:
        """Forget all but the last `keep` events, as age would; answers how many are left."""
        del self._kept[: max(0, len(self._kept) - keep)]
        return len(self._kept)

    def _is_told(self, old: User | None, new: User | None) -> bool:
        if old is None and new is not None and new.user_id in self._unlinked:
            self._unlinked.discard(new.user_id)
            return self.emission.unlinks == "both"
        if old is None or new is None:
            return True
        if len(new.identities) < len(old.identities):
            left = {identity.full_id for identity in new.identities}
            self._unlinked.update(i.full_id for i in old.identities if i.full_id not in left)
            return self.emission.unlinks != "none"
        return self.emission.logins or new.logins_count == old.logins_count

    def _happen(self, kind: str, **what: Any) -> Event:
        event = self._new(kind, **what)
        self._kept.append(event)
        if len(self._kept) > self.emission.retention + self.emission.retention // 10:
            self.expire(self.emission.retention)
        for hear in self.on_event:
            hear(event)
        for bell in self.bells:
            bell.set()
        return event

    def _new(self, kind: str, **what: Any) -> Event:
        letters = base64.b64encode(self._rng.randbytes(18), altchars=b"Aa").decode()
        number = self._number + 1
        if not what.get("is_test"):
            self._number = number
        given = what.get("raw") or {}
        return Event(number, str(given.get("id", f"evt_{letters[:22]}")), kind, iso(self._clock()), **what)


def offset_of(number: int) -> str:
    """Name a place in the history, for those who pull."""
    return base64.urlsafe_b64encode(f"offset {number}".encode()).decode()


def number_of_offset(offset: str) -> int:
    """ValueError for what is no offset."""
    word, _, number = base64.urlsafe_b64decode(offset.encode("ascii")).decode("ascii").partition(" ")
    if word != "offset":
        raise ValueError(offset)
    return int(number)


def _example(now: str) -> dict[str, Any]:
    """Whom Auth0's test events tell of when they are given nobody."""
    return {
        "user_id": "auth0|507f1f77bcf86cd799439020",
        "email": "john.doe@example.com",
        "email_verified": False,
        "created_at": now,
        "updated_at": now,
        "identities": [
            {
                "connection": "Username-Password-Authentication",
                "provider": "auth0",
                "user_id": "507f1f77bcf86cd799439020",
            }
        ],
        "name": "John Doe",
        "nickname": "John Doe",
        "logins_count": 1,
    }
