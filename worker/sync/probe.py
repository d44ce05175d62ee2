"""Probe: where an event stream is silent for longer than usual and nobody pulls, looks whether the tenant has events."""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Engine

from worker.auth0.cloud_events import decode_events
from worker.auth0.event_feed import EventFeed, Message, OffsetExpired, Sign
from worker.auth0.pace import Budget
from worker.errors import Error, TenantDown, Throttled
from worker.logs import get_logger
from worker.store import rhythm
from worker.sync.drain import HORIZON
from worker.sync.snapshots import PULLED, Told

# Between looks at the budget, in seconds.
_PATIENCE: Final = 0.5

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Probe:
    """The look, over what it needs. `floor`: no shorter silence is unusual, and nobody looks more often."""

    engine: Engine
    feed: EventFeed
    budget: Budget
    floor: timedelta

    def run(self, *, go_on: Callable[[], bool]) -> None:
        """Read the first event that is newer than all that were pushed, if there is one; note when it is from, and that we looked.

        Where Auth0 does not let us, nothing is noted: that nobody can tell is for `understudy status` to say.
        """
        with self.engine.begin() as connection:
            since = rhythm.begin_probe(connection, self.floor)
        if since is None:
            return
        try:
            self._pay(go_on)
            newest, looked = self._look(since, go_on)
        except Error as error:
            log.warning("the event stream is silent, and nothing can tell why", reason=str(error))
            return
        with self.engine.begin() as connection:
            if looked:
                rhythm.note(connection, PULLED, datetime.now(UTC))
            if newest is not None:
                rhythm.date(connection, PULLED, newest)
        log.info("looked for events, since their stream is silent", found=newest is not None)

    def _pay(self, go_on: Callable[[], bool]) -> None:
        while not (grant := self.budget.take("other", "mass")).granted:
            if not go_on():
                raise Throttled("the budget is spent", retry_after=grant.wait)
            time.sleep(min(max(grant.wait, 0.01), _PATIENCE))

    def _look(self, since: datetime, go_on: Callable[[], bool]) -> tuple[datetime | None, bool]:
        """Return the date of a newer event, and whether it was read that far, or to the end."""
        told = Told()
        try:
            with closing(self.feed.messages(None, since)) as messages:
                for said in messages:
                    if said is Sign.CAUGHT_UP:
                        return None, True
                    if isinstance(said, Message) and said.event is not None:
                        for event in decode_events(b"[" + said.event + b"]").events:
                            told.learn(0, event, datetime.now(UTC) + HORIZON)
                        if told.dates and max(told.dates) > since:
                            return max(told.dates), True
                    if not go_on():
                        break
        except OffsetExpired as error:
            raise TenantDown(str(error)) from None
        return None, False
