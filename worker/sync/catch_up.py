"""Catch-up: pulls the tenant's log by checkpoint into the inbox, so that what no webhook brought is read all the same (P23)."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Engine

from worker.auth0.log_pages import CheckpointExpired, LogPages, Page
from worker.auth0.pace import Budget
from worker.domain.feeds import Checkpoint, log_retention, settle
from worker.errors import Error
from worker.logs import get_logger
from worker.store import feeds, notes
from worker.store.feeds import Place

NAME: Final = "logs"
# Stands for a log_id where the log is read by date: a time is kept with it, and no record.
BY_DATE: Final = ""
# Of any plan. Who was away for longer, and finds nothing older in the log, may have lost something.
SHORTEST_RETENTION: Final = log_retention("free")

log = get_logger(__name__)


@dataclass(slots=True)
class CatchUp:
    """The loop, over what it needs; `overlap`: how late a record may be written at most. It never sleeps."""

    engine: Engine
    pages: LogPages
    budget: Budget
    overlap: timedelta
    pages_read: int = 0

    def run(self, *, go_on: Callable[[], bool]) -> float | None:
        """Read to the log's end, or until `go_on` says stop or the budget is spent; return in how many seconds to go on.

        None: the end was reached, or another process is at it.
        """
        with self.engine.begin() as connection:
            place = feeds.hold(connection, NAME, back=self.overlap)
        if place is None:
            return None
        trouble: str | None = None
        try:
            return self._read(place, go_on)
        except Error as error:
            trouble = str(error)
            raise
        finally:
            with self.engine.begin() as connection:
                feeds.release(connection, place, trouble)
            if self.pages_read:
                log.info("pulled", pages=self.pages_read)

    def _read(self, place: Place, go_on: Callable[[], bool]) -> float | None:
        while go_on():
            grant = self.budget.take("read_logs", "mass")
            if not grant.granted:
                return max(grant.wait, 0.05)
            try:
                more = self._step(place)
            except CheckpointExpired as expired:
                self._begin_anew(place, expired.served_at)
                continue
            if not more:
                return None
        return 0.0

    def _step(self, place: Place) -> bool:
        """Ask for what is next, and store it; return whether there is more to read."""
        if place.position is not None:
            return self._read_on(place, place.position)
        return self._read_by_date(place) if place.history else self._begin(place)

    def _begin(self, place: Place) -> bool:
        """Look for the newest record from before where we begin: whatever is told later stands behind it."""
        page = self.pages.before(place.stands_for)
        until = page.served_at - self.overlap
        found = [Checkpoint(one.log_id, one.date) for one in page.records if one.date is not None]
        if not found and until - place.stands_for > SHORTEST_RETENTION:
            raise CheckpointExpired(page.served_at)
        place.stands_for = min(place.stands_for, until)  # it was by our clock (P1): one that is ahead has us ask again
        if not found:
            place.history = _by_date(page.served_at, place.stands_for)
        elif found[0].at <= until:
            place.position, place.history = found[0].log_id, found
        return self._keep(place)

    def _read_by_date(self, place: Place) -> bool:
        """Read what has nothing older before it, by date and not by ids: no record is old enough to begin behind.

        Each page begins at the newest date of the one before, whatever Auth0 forgets meanwhile; pages of one date are counted.
        At the end the next reading looks for its beginning again, among what was old when this one began.
        """
        began, *reached = place.history
        since = reached[-1].at
        page = self.pages.since(since, len(reached) - 1)
        until = began.at - self.overlap
        if page.is_the_end:
            place.history, place.stands_for = [], until
        else:
            newest = max((one.date for one in page.records if one.date), default=since)
            same = [one for one in reached if one.at == newest]
            place.history = [began, *same, Checkpoint(BY_DATE, newest)]
            place.stands_for = max(place.stands_for, min(newest, until))
        return self._keep(place, page) and not page.is_the_end

    def _read_on(self, place: Place, position: str) -> bool:
        """Read the page behind a record; a reading that reaches the end begins again where nothing can have changed."""
        page = self.pages.after(position)
        place.position = page.last or position
        if place.history[-1].log_id == position:  # nothing young was read so far
            until = page.served_at - self.overlap
            place.history = settle(place.history, page.records, until)
            if place.history[-1].log_id == page.last and not page.is_the_end:
                until = max(place.stands_for, place.history[0].at - self.overlap)  # others may be dated earlier
            place.stands_for = until
        if page.is_the_end:
            place.history = place.history[:1]
            place.position = place.history[0].log_id
        return self._keep(place, page) and not page.is_the_end

    def _keep(self, place: Place, page: Page | None = None) -> bool:
        """Store a page, and with it where the pull stands; False where another process took the lease."""
        with self.engine.begin() as connection:
            if not feeds.move(connection, place):
                log.warning("another process pulls too, this one stops")
                return False
            if page is not None:
                self.pages_read += 1
                if page.count:
                    feeds.put(connection, "pulled", [page.body])
        return True

    def _begin_anew(self, place: Place, now: datetime) -> None:
        """The record to go on from has aged out: begin with the oldest there is, and have the gap reconciled."""
        log.error("the log's checkpoint has expired, some of the log was never read")
        place.position, place.history = None, _by_date(now, place.stands_for)
        with self.engine.begin() as connection:
            feeds.move(connection, place)
            notes.raise_condition(
                connection, "reconcile_wanted", "the tenant's log was pulled too late: some of it had aged out"
            )


def _by_date(began: datetime, reached: datetime) -> list[Checkpoint]:
    """Return the history of a reading by date: when it began, and where it is (once for each page that ended there)."""
    return [Checkpoint(BY_DATE, began), Checkpoint(BY_DATE, reached)]
