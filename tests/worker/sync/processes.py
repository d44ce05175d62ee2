"""Processes that a test runs one step at a time: real loops, each stopped before every transaction and around every request.

At these points nothing is locked, so whatever else happens meanwhile can happen there, and a process can be killed there.
One that sleeps stops for whoever watches to let time pass.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

from greenlet import getcurrent, greenlet
from sqlalchemy import Connection, Engine, event

from worker.errors import Error

Point = Literal["transaction", "request", "answer", "sleep", "over"]


class Died(BaseException):
    """The process is gone: nothing of it runs any longer, PostgreSQL rolls back what it had not committed."""


class Process:
    """A loop under way. `at` says before what it stands; `kind` is for the one who watches."""

    def __init__(self, kind: str, run: Callable[[], object]) -> None:
        self.kind = kind
        self.at: Point = "transaction"
        self.in_transaction = False
        self.dead = False
        self.breaks: Exception | None = None
        """What its request ends with, instead of the answer."""
        self.answered: dict[str, bool] = {}
        """Whom strong answers were about, and whether there was such a user."""
        self.lag = 0.0
        """In seconds: how far the search index lags that it asks, how long an export takes."""
        self.lags: dict[str, float] = {}
        """By user: where the index lags otherwise."""
        self._run = run
        self._greenlet = greenlet(self._live)
        self._greenlet.process = self

    def _live(self) -> None:
        try:
            with suppress(Died, Error):  # an error of ours is what a task writes into the log
                self._run()
        finally:
            self.at = "over"

    def stand(self, point: Point) -> None:
        """Stop before something, until whoever watches lets it go on."""
        if self.dead:
            raise Died
        self.at = point
        self._greenlet.parent.switch()
        if self.dead:
            raise Died

    def go_on(self, until: Point) -> None:
        """Run until it stands before this, sleeps, or is over."""
        while self.at != "over":
            self._greenlet.switch()
            if self.at in (until, "sleep"):
                return

    def die(self) -> None:
        """Kill it where it stands."""
        self.dead = True
        self.go_on("over")


def sleep(_seconds: float) -> None:
    """Sleep, as long as whoever watches lets this process."""
    process = current()
    assert process is not None
    process.stand("sleep")


def current() -> Process | None:
    """Return the process that asks, None outside of any."""
    found: Any = getcurrent()
    return getattr(found, "process", None)


def stop_before_transactions(engine: Engine) -> None:
    """Have every process stand before each of its transactions with this engine."""

    @event.listens_for(engine, "begin")
    def _begin(_connection: Connection) -> None:
        if process := current():
            process.stand("transaction")
            process.in_transaction = True

    @event.listens_for(engine, "commit")
    def _commit(_connection: Connection) -> None:
        if process := current():
            process.in_transaction = False

    @event.listens_for(engine, "rollback")
    def _rollback(_connection: Connection) -> None:
        if process := current():
            process.in_transaction = False
