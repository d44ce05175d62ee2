"""Catch-up: pulls the tenant's log by checkpoint into the inbox, so that what no webhook brought is read all the same (P23)."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy import Engine

from worker.auth0.log_pages import CheckpointExpired, LogPages, Page
from worker.auth0.pace import Budget
from worker.domain.feeds import Checkpoint, begin_again_from, remember
from worker.errors import Error
from worker.logs import get_logger
from worker.store import feeds, notes
from worker.store.feeds import Place

NAME: Final = "logs"

log = get_logger(__name__)


@dataclass(slots=True)
class CatchUp:
    """The loop, over what it needs; `overlap`: how far back each reading begins. It never sleeps."""

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
            page = self._page(place)
            if page is None:
                self._begin_anew(place)
            elif not self._keep(place, page):
                return None
        return 0.0

    def _page(self, place: Place) -> Page | None:
        """Read what is next; None where Auth0 no longer knows where we were."""
        try:
            return self.pages.since(place.stands_for) if place.position is None else self.pages.after(place.position)
        except CheckpointExpired:
            return None

    def _keep(self, place: Place, page: Page) -> bool:
        """Store a page, and with it where the pull stands; return whether there is more to read."""
        self.pages_read += 1
        began, going_on = place.position is None, page.last is not None
        if page.last is not None:
            place.position = page.last
            at = place.stands_for if began else page.latest
            place.history = remember(place.history, Checkpoint(page.last, at), self.overlap)
        # A page by date is only where to begin: what stands behind its first record comes next.
        ends = page.is_the_end and not (began and going_on)
        if ends:
            place.position = begin_again_from(place.history, page.served_at, self.overlap) or place.position
        if not began or ends:
            place.stands_for = (page.served_at if ends else page.latest) - self.overlap
        with self.engine.begin() as connection:
            if not feeds.move(connection, place):
                log.warning("another process pulls too, this one stops")
                return False
            if page.count:
                feeds.put(connection, "pulled", [page.body])
        return not ends

    def _begin_anew(self, place: Place) -> None:
        """The record to go on from has aged out: begin with the oldest there is, and have the gap reconciled."""
        log.error("the log's checkpoint has expired, some of the log was never read")
        place.position, place.history = None, []
        with self.engine.begin() as connection:
            feeds.move(connection, place)
            notes.raise_condition(
                connection, "reconcile_wanted", "the tenant's log was pulled too late: some of it had aged out"
            )
