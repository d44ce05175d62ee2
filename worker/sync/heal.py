"""Heal: looks whether Auth0's streams to us run, says loudly where they do not, and starts them again where that is wanted."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, TypeVar

from sqlalchemy import Connection, Engine

from worker.auth0.client import Rejected
from worker.auth0.pace import Budget
from worker.auth0.streams import MOST, Kind, Stream, Streams
from worker.errors import Error, Refused, Throttled
from worker.logs import get_logger
from worker.store import notes

# What this loop raises, and it alone ends.
CONDITIONS: Final = ("streams_unwatched", "log_stream_stopped", "event_stream_stopped", "event_deliveries_failed")
# Between looks at the budget, in seconds.
_PATIENCE: Final = 0.5

T = TypeVar("T")

log = get_logger(__name__)


@dataclass(slots=True)
class Heal:
    """The loop, over what it needs. `endpoints`: where our streams lead; `probe` raises an Error where our own end is not healthy."""

    engine: Engine
    streams: Streams
    budget: Budget
    endpoints: Mapping[Kind, str]
    probe: Callable[[], None]
    starts: bool
    log_kept: timedelta | None = None
    """For how long Auth0 queues for a stopped log stream; None where the log is pulled, which looks after itself."""

    def run(self, *, go_on: Callable[[], bool]) -> None:
        """Look at each stream, until `go_on` says stop; raises Throttled where the budget is spent by then."""
        try:
            for kind, endpoint in self.endpoints.items():
                self._look(kind, endpoint, go_on)
        except Refused as error:
            self._note("streams_unwatched", f"the streams cannot be looked after: {error}")
            raise
        self._note("streams_unwatched", None)

    def _look(self, kind: Kind, endpoint: str, go_on: Callable[[], bool]) -> None:
        ours = [one for one in self._call(partial(self.streams.list, kind), go_on) if one.endpoint == endpoint]
        if not ours:
            self._note_stop(kind, f"no {kind} stream of the tenant leads to us: run `understudy setup`")
            return
        failed = sum(self._failures(one, go_on) for one in ours) if kind == "event" else 0
        stopped = [one for one in ours if not one.runs]
        self._say(kind, stopped, failed)  # first: whoever is killed below leaves it said
        if self.starts and (stopped or failed) and self._is_healthy():
            # First: a stream with too many of them cannot be enabled before.
            left = 0 if failed and self._redeliver(ours, failed, go_on) else failed
            self._say(kind, [one for one in stopped if not self._start(one, go_on)], left)

    def _failures(self, stream: Stream, go_on: Callable[[], bool]) -> int:
        return self._call(partial(self.streams.failed, stream), go_on)

    def _redeliver(self, ours: list[Stream], failed: int, go_on: Callable[[], bool]) -> bool:
        """Ask for what failed once more; tell whether Auth0 will send all of it."""
        try:
            for one in ours:
                self._call(partial(self.streams.redeliver, one), go_on)
        except Rejected as error:
            log.error("failed deliveries cannot be asked for", failed=failed, reason=str(error))
            return False
        log.warning("asked for failed deliveries once more", failed=failed)
        with self.engine.begin() as connection:
            notes.count(connection, {"redeliveries_asked_for": 1})
        return True

    def _start(self, stream: Stream, go_on: Callable[[], bool]) -> bool:
        try:
            self._call(partial(self.streams.start, stream), go_on)
        except Rejected as error:
            log.error("a stream cannot be started", kind=stream.kind, reason=str(error))
            return False
        log.warning("started a stream again", kind=stream.kind, was=stream.status)
        with self.engine.begin() as connection:
            notes.count(connection, {"streams_started": 1})
        return True

    def _say(self, kind: Kind, stopped: list[Stream], failed: int) -> None:
        self._note_stop(
            kind,
            f"Auth0 has {stopped[0].status} our {kind} stream: see why in its health, then start it, or set HEAL_STREAMS"
            if stopped
            else None,
        )
        many = f"{MOST} or more" if failed >= MOST else str(failed)
        if kind == "event":
            self._note(
                "event_deliveries_failed",
                f"{many} deliveries of our event stream failed: redeliver them in Auth0's dashboard, or set HEAL_STREAMS"
                if failed
                else None,
            )

    def _is_healthy(self) -> bool:
        try:
            self.probe()
        except Error as error:
            log.error("our own end does not take deliveries, no stream is started", reason=str(error))
            return False
        return True

    def _note_stop(self, kind: Kind, detail: str | None) -> None:
        """Note whether a stream is stopped; what is lost by that is to be reconciled when it shows, and again when it is over.

        Whoever started it, and whoever was killed over it.
        """
        name = f"{kind}_stream_stopped"
        with self.engine.begin() as connection:
            since = notes.condition_since(connection, name)
            self._put(connection, name, detail)
            if (since is None) == (detail is None):  # it is as it was
                return
            if kind == "event":  # for a log stream alone Auth0 queues
                notes.raise_condition(
                    connection, "reconcile_wanted", "the event stream was stopped: its events of that time are lost"
                )
            elif since is not None and self.log_kept is not None and datetime.now(UTC) - since > self.log_kept:
                notes.raise_condition(
                    connection, "reconcile_wanted", "the log stream was stopped for longer than Auth0 keeps the log"
                )

    def _note(self, name: str, detail: str | None) -> None:
        with self.engine.begin() as connection:
            self._put(connection, name, detail)

    def _put(self, connection: Connection, name: str, detail: str | None) -> None:
        if detail is not None:
            notes.raise_condition(connection, name, detail)
        elif notes.end_condition(connection, name):
            log.info("over", condition=name)

    def _call(self, send: Callable[[], T], go_on: Callable[[], bool]) -> T:
        while not (grant := self.budget.take("other", "mass")).granted:
            if not go_on():
                raise Throttled("the budget is spent", retry_after=grant.wait)
            time.sleep(min(max(grant.wait, 0.01), _PATIENCE))
        return send()
