"""How long the loops of this process take, and how often they fail, written to PostgreSQL now and then: a commit for each run would cost more than some runs."""

import time
from collections import Counter

from sqlalchemy import Engine

from worker.domain.histograms import LOOP, observed
from worker.store import notes
from worker.store.session import without_waiting

# In seconds; a process that is killed takes so much of its numbers along.
EVERY = 5.0


class Durations:
    """Gathers them."""

    def __init__(self) -> None:
        self._counted: Counter[str] = Counter()
        self._written = 0.0

    def took(self, engine: Engine, loop: str, seconds: float) -> None:
        """Count one run of `loop`; write what was counted if the last time is a while ago."""
        self._counted.update(observed(f"loop:{loop}", [seconds], LOOP))
        self._write(engine)

    def failed(self, engine: Engine, loop: str) -> None:
        """Count one run of `loop` that ended by an error."""
        self._counted[f"loop_failed:{loop}"] += 1
        self._write(engine)

    def _write(self, engine: Engine) -> None:
        if time.monotonic() - self._written < EVERY:
            return
        with engine.begin() as connection:
            without_waiting(connection)
            notes.count(connection, self._counted)
        self._counted.clear()
        self._written = time.monotonic()
