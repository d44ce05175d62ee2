"""After the faults: what the product must do by itself, and what an operator does, until tenant and copy stand still."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import psycopg

from local.chaos.stage import Stage
from local.copy_watch import CopyWatch
from local.processes import NotHealthy

_PATIENCE = 150.0  # seconds; a lease that a killed worker left behind holds for 60, a pull's for 120
_RING_EVERY = 3.0

_READ_TO_THE_END = """
SELECT count(*) = 2 FROM feeds WHERE moved_at > %s AND trouble IS NULL AND stands_for > %s - interval '10 min'
"""
_RECONCILED = "SELECT count(*) > 0 FROM runs WHERE kind = 'reconcile' AND state = 'complete' AND started_at > %s"
_GIVEN_UP = "SELECT state = 'failed' FROM runs WHERE kind = 'reconcile' ORDER BY started_at DESC LIMIT 1"
_BRAKED = "SELECT (SELECT count(*) FROM news WHERE braked_at IS NOT NULL), (SELECT count(*) FROM pushes WHERE braked_at IS NOT NULL)"


class Aftermath:
    """One catch-up and one reconcile; `say` is told what a person did."""

    def __init__(self, stage: Stage, watch: CopyWatch, say: Callable[[str], None]) -> None:
        self._stage, self._watch, self._say = stage, watch, say
        self._control = stage.tenant.control

    def heal(self) -> None:
        """Wait until the product has started its streams again, and all they had to deliver is delivered."""
        self._wait(self._streams_run, "the streams to be started again", ring="heal")
        self._wait(self._delivered, "the streams to deliver what they have", ring="heal")

    def catch_up(self) -> None:
        """Wait until both pulls have read to their ends."""
        since = self._now()
        for pull in ("catch_up", "listen"):
            self._stage.ring(pull)
        self._wait(
            lambda: self._is(_READ_TO_THE_END, since, since), "the pulls to reach their ends", ring="catch_up listen"
        )
        self._wait(lambda: self._watch.counts().pending == 0, "the inbox to be empty")

    def reconcile(self) -> None:
        """Wait for a reconcile; one that failed lately is not tried again for an hour, so an operator does it."""
        since = self._now()
        if self._is(_GIVEN_UP):
            self._say("the last reconcile failed: `understudy verify --repair` in its place")
            self._stage.persistently("verify", "--repair", go_on=self._patience())
        else:
            self._wait(lambda: self._is(_RECONCILED, since), "a reconcile", ring="reconcile")

    def settle(self) -> None:
        """Wait until nothing is on its way; answer the brake as an operator would who knows that all of it is meant."""
        self._wait(self._watch.is_quiet, "the copy to settle")
        deletions, removals = self._row(_BRAKED)
        if deletions or removals:
            self._say(
                f"the brake holds {deletions} deletions and {removals} losses of a role: let them be asked again, and pass"
            )
            self._stage.understudy("brake", "--recheck")
            self._wait(self._watch.is_quiet, "the copy to settle")
            self._stage.understudy("brake", "--allow-deletes", "1000", "--allow-roles", "1000")
            self._wait(self._watch.is_quiet, "the copy to settle")

    def verify(self) -> None:
        """Let the product compare for itself; raises ProcessDied with what it found."""
        self._stage.understudy("verify")

    def _streams_run(self) -> bool:
        logs, events = (self._control("GET", name)["streams"] for name in ("streams", "event-streams"))
        return all(one["status"] in ("active", "enabled") for one in [*logs, *events])

    def _delivered(self) -> bool:
        events = self._control("GET", "event-streams")["streams"]
        return all(one["pending"] == one["failed"] == 0 for one in events) and not any(
            self._control("GET", "stats")["pending"].values()
        )

    def _wait(self, true: Callable[[], bool], what: str, *, ring: str = "") -> None:
        rung = 0.0

        def is_true() -> bool:
            nonlocal rung
            if ring and time.monotonic() - rung > _RING_EVERY:
                rung = time.monotonic()
                for task in ring.split():
                    self._stage.ring(task)
            return true()

        self._stage.processes.wait_until(is_true, what, time.monotonic() + _PATIENCE)

    def _patience(self) -> Callable[[], bool]:
        deadline = time.monotonic() + _PATIENCE
        return lambda: time.monotonic() < deadline

    def _now(self) -> datetime:
        now: datetime = self._row("SELECT clock_timestamp()")[0]
        return now

    def _is(self, question: str, *given: Any) -> bool:
        row = self._row(question, *given)
        return bool(row and row[0])

    def _row(self, question: str, *given: Any) -> tuple[Any, ...]:
        with psycopg.connect(self._stage.database_url, autocommit=True) as connection:
            return connection.execute(question.encode(), given).fetchone() or ()


__all__ = ["Aftermath", "NotHealthy"]
