"""Listen: pulls the tenant's events by offset into the inbox, beside what event streams push."""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Engine

from worker.auth0.event_feed import EventFeed, Message, OffsetExpired, Sign
from worker.auth0.pace import Budget
from worker.errors import Error, TenantDown
from worker.logs import get_logger
from worker.store import feeds, notes
from worker.store.feeds import Place
from worker.sync.snapshots import PULLED

NAME: Final = "events"
# Messages stored by one commit: what a kill repeats, and the longest a message waits in memory.
_BATCH: Final = 200
_LINGER: Final = 0.5
# How far back the reading begins where there is no offset to go on from.
BACK: Final = timedelta(minutes=10)
# What happened later than this Auth0 is taken to know still: how long it keeps events it does not say.
_AGED: Final = timedelta(days=1)

log = get_logger(__name__)


@dataclass(slots=True)
class Listen:
    """The loop, over what it needs."""

    engine: Engine
    feed: EventFeed
    budget: Budget
    events_read: int = 0

    def run(self, *, go_on: Callable[[], bool]) -> float | None:
        """Read until nothing comes for a while, or `go_on` says stop; return in how many seconds to go on.

        None: caught up, or another process is at it.
        """
        with self.engine.begin() as connection:
            place = feeds.hold(connection, NAME, back=BACK)
        if place is None:
            return None
        trouble: str | None = None
        try:
            grant = self.budget.take("other", "mass")
            return self._listen(place, go_on) if grant.granted else max(grant.wait, 0.05)
        except Error as error:
            trouble = str(error)
            raise
        finally:
            with self.engine.begin() as connection:
                feeds.release(connection, place, trouble)
            if self.events_read:
                log.info("listened", events=self.events_read)

    def _listen(self, place: Place, go_on: Callable[[], bool]) -> float | None:
        began, offset = datetime.now(UTC), place.position
        try:
            caught_up = self._read(place, go_on)
        except OffsetExpired as error:
            # What is refused though it is recent has not expired, and to begin anew would ask for the same again.
            if place.position is None and place.stands_for > began - _AGED:
                raise TenantDown(f"{error}, though reading was to begin at {place.stands_for:%Y-%m-%d %H:%M}") from None
            self._begin_anew(place)
            return 0.05
        if caught_up:
            place.stands_for = began - BACK  # by our clock, so with room for Auth0's
            self._keep(place, [])
            return None
        return 0.0 if place.position != offset else None

    def _read(self, place: Place, go_on: Callable[[], bool]) -> bool:
        """Read and keep; tell whether that was to the end."""
        waiting: list[Message] = []
        since = time.monotonic()
        try:
            with closing(self.feed.messages(place.position, place.stands_for)) as messages:
                for said in messages:
                    if said is Sign.CAUGHT_UP:
                        return True
                    if isinstance(said, Message):
                        waiting.append(said)
                    if len(waiting) >= _BATCH or (waiting and time.monotonic() - since > _LINGER):
                        if not self._keep(place, waiting):
                            return False
                        waiting, since = [], time.monotonic()
                    if not go_on():
                        return False
            return False  # Auth0 ends each connection after some minutes
        finally:
            if waiting:
                self._keep(place, waiting)

    def _keep(self, place: Place, messages: list[Message]) -> bool:
        """Store events, and with them where the pull stands; markers of a place move it too. False: the lease was lost."""
        events = [one.event for one in messages if one.event is not None]
        if messages:
            place.position = messages[-1].offset
        with self.engine.begin() as connection:
            if not feeds.move(connection, place):
                return False
            if events:
                feeds.put(connection, PULLED, [b"[" + b",".join(events) + b"]"])
                notes.count(connection, {"events_pulled": len(events)})
        self.events_read += len(events)
        return True

    def _begin_anew(self, place: Place) -> None:
        """The offset has expired: begin a little before now, and have the gap reconciled."""
        log.error("the offset of the events has expired, some of them were never read")
        place.position, place.stands_for = None, datetime.now(UTC) - BACK
        with self.engine.begin() as connection:
            feeds.move(connection, place)
            notes.raise_condition(
                connection, "reconcile_wanted", "the tenant's events were pulled too late: some had aged out"
            )
