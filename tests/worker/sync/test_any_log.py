"""However late and in whatever order records come into the tenant's log, pulling it brings every one of them (P23).

A model log: records are ordered by ids that say about when they happened, dated seconds off, found by id at once and by
date some seconds later; each may be written as late as the overlap allows, before others that were read already. Pulls
begin, are stopped between two pages, lose an answer, take their time, and find their checkpoint aged out. Some records say
no date, or one of the year 9999: they are not promised, but must not stop the others.

`EXAMPLES=5000 .venv/bin/pytest tests/worker/sync/test_any_log.py` looks longer, and elsewhere each time.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
import zstandard
from hypothesis import HealthCheck, Phase, example, given, settings, strategies as st
from sqlalchemy import Engine, create_engine, text

from tests.worker.sync.answering import Purse
from worker.auth0.log_pages import CheckpointExpired, Page
from worker.domain.feeds import Entry
from worker.errors import TenantDown
from worker.sync.catch_up import CatchUp

OVERLAP, SKEW = 60.0, 1.0
LONG_AGO = 1000.0
EPOCH = datetime(2026, 11, 1, tzinfo=UTC)
TAKE, SEARCHED = 4, 1000


@dataclass(frozen=True)
class Record:
    """A record of the log; times in seconds. `at` None: it says no date."""

    log_id: str
    at: float | None
    written: float
    promised: bool


@dataclass
class Log:
    """The log, under the method names of its client. Each request takes `slow` seconds, a search sees what is `lag` old."""

    slow: float
    lag: float
    now: float = 3600.0
    records: list[Record] = field(default_factory=list)
    gone: str = ""
    asked: int = 0
    breaks_at: int = -1
    since_when: float | None = None
    """When the first answer was given: what is written later is promised."""

    # How it grows

    def write(self, happened: float, skew: float, late: float, says: str) -> None:
        """Write a record `late` seconds after it happened; `says`: its date is when it happened, or was written, or is none."""
        log_id = f"{int(happened * 1000):012d}{len(self.records):06d}"
        at = {"happened": happened + skew, "written": happened + late + skew, "future": 1e9}.get(says)
        promised = says in ("happened", "written")
        self.records.append(Record(log_id, at, happened + late, promised))

    def forget_all_but(self, kept: int) -> None:
        """Let the oldest age out."""
        old = self._written()[: -kept or None]
        self.gone = max([self.gone, *(one.log_id for one in old)])

    def left(self) -> list[Record]:
        """Return what has not aged out."""
        return sorted((one for one in self.records if one.log_id > self.gone), key=lambda one: one.log_id)

    def _written(self, lag: float = 0.0) -> list[Record]:
        return [one for one in self.left() if one.written <= self.now - lag]

    # How it answers

    def after(self, log_id: str) -> Page:
        """Answer by checkpoint."""
        served_at = self._ask()
        if log_id <= self.gone:
            raise CheckpointExpired(served_at)
        found = [one for one in self._written() if one.log_id > log_id]
        return self._page(found[:TAKE], served_at, TAKE)

    def before(self, date: datetime) -> Page:
        """Answer the newest record from before that date; of several the last."""
        served_at = self._ask()
        return self._page([one for one in self._by_date() if _date(one) < date][-1:], served_at, 1)

    def since(self, date: datetime, number: int) -> Page:
        """Answer by date; of several of one date the last first, as the simulator does."""
        served_at = self._ask()
        assert (number + 1) * TAKE <= SEARCHED, "a search shows no more"
        found = [one for one in self._by_date() if _date(one) >= date]
        return self._page(found[number * TAKE :][:TAKE], served_at, TAKE)

    def _ask(self) -> datetime:
        self.asked += 1
        self.now += self.slow
        if self.asked == self.breaks_at:
            raise TenantDown("no answer")
        self.since_when = self.now if self.since_when is None else self.since_when
        return moment(int(self.now))

    def _by_date(self) -> list[Record]:
        dated = [one for one in reversed(self._written(self.lag)) if one.at is not None]
        return sorted(dated, key=_date)

    def _page(self, found: list[Record], served_at: datetime, take: int) -> Page:
        latest = served_at + timedelta(minutes=1)
        entries = [Entry(one.log_id, None if one.at is None or _date(one) > latest else _date(one)) for one in found]
        body = json.dumps([{"log_id": one.log_id} for one in found]).encode()
        return Page(body, len(found), entries, served_at, is_the_end=len(found) < take)


def moment(seconds: float) -> datetime:
    """Return a time of the model, to the millisecond, as dates are told."""
    return EPOCH + timedelta(milliseconds=int(seconds * 1000))


def _date(record: Record) -> datetime:
    assert record.at is not None
    return moment(record.at) if record.at < 1e8 else datetime(9999, 1, 1, tzinfo=UTC)


LATE = st.sampled_from([0.0, 0.0, 1.0, 20.0, OVERLAP])
SAYS = st.sampled_from(["happened"] * 4 + ["written"] * 2 + ["nothing", "future"])
WRITES = st.tuples(
    st.just("write"),
    st.sampled_from([1, 2, 4, 9, 30]),
    st.sampled_from([0.0, 0.001, 0.25, 5.0]),
    st.sampled_from([-SKEW, 0.0, SKEW]),
    LATE,
    SAYS,
)
PULLS = st.tuples(st.just("pull"), st.sampled_from([1, 2, 3, 100]), st.sampled_from([-1, -1, 1, 2, 3, 5]))
WAITS = st.tuples(st.just("wait"), st.sampled_from([0.5, 5.0, 31.0, 61.0, 300.0]))
AGING = st.tuples(st.just("forget"), st.integers(0, 12))
STEPS = st.lists(st.one_of(WRITES, WRITES, PULLS, PULLS, WAITS, AGING), min_size=3, max_size=12)
# Records from before the first pull: how long ago, how late, what they say.
BEFORE = st.lists(st.tuples(st.sampled_from([0.5, 20.0, 59.0, 59.5, 62.0, 66.0, LONG_AGO]), LATE, SAYS), max_size=8)


OLD, PULL = (LONG_AGO, 0.0, "happened"), ("pull", 100, -1)


def write(
    count: int = 1, *, every: float = 0.0, skew: float = 0.0, late: float = 0.0, says: str = "happened"
) -> tuple[Any, ...]:
    """Return a step that writes records."""
    return ("write", count, every, skew, late, says)


@pytest.fixture(scope="module")
def engine(module_database_url: str) -> Iterator[Engine]:
    engine = create_engine(module_database_url.replace("postgresql:", "postgresql+psycopg:"))
    yield engine
    engine.dispose()


class Reader:
    """Pulls the log, stopped or broken where it is told."""

    def __init__(self, engine: Engine, log: Log, ahead: float) -> None:
        self.engine, self.log = engine, log
        self.overlap = timedelta(seconds=OVERLAP + 2 * SKEW)
        self.begins = log.now + ahead - self.overlap.total_seconds()
        with engine.begin() as connection:
            connection.execute(text("TRUNCATE feeds, inbox, conditions"))
            connection.execute(
                text("INSERT INTO feeds (name, stands_for) VALUES ('logs', :since)"), {"since": moment(self.begins)}
            )

    def pull(self, pages: int, breaks_at: int = -1) -> int:
        """Pull so many pages at most; return how many requests it took."""
        before, left = self.log.asked, iter(range(pages))
        self.log.breaks_at = before + breaks_at if breaks_at > 0 else -1
        loop = CatchUp(self.engine, cast("Any", self.log), cast("Any", Purse()), self.overlap)
        with contextlib.suppress(TenantDown):
            loop.run(go_on=lambda: next(left, None) is not None)
        return self.log.asked - before

    def pulled(self) -> set[str]:
        """Return the ids of all records that were pulled."""
        with self.engine.connect() as connection:
            bodies = connection.execute(text("SELECT body FROM inbox WHERE source = 'pulled'")).scalars()
            return {one["log_id"] for body in bodies for one in json.loads(zstandard.decompress(body))}

    def promised(self) -> set[str]:
        """Return the ids that must have been pulled: of all that happened since we began, and is left."""
        began, since_when = self.begins + 2 * SKEW, self.log.since_when or self.log.now
        return {
            one.log_id
            for one in self.log.left()
            if one.promised and (one.written > since_when or min(one.at or 0, int(one.log_id[:12]) / 1000) >= began)
        }


# EXAMPLES=5000 looks longer, and elsewhere each time.
_LONGER = int(os.environ.get("EXAMPLES", "0"))


@settings(
    max_examples=_LONGER or 300,
    derandomize=not _LONGER,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
)
# A record that is written late to stand before all that the very first reading saw.
@example([], [write(late=20.0), write(every=5.0), PULL], 0.0, 0, 0)
# A reading that stops between two pages close to the log's end, and goes on when these have grown.
@example([OLD], [write(late=20.0), write(9), ("pull", 2, -1), ("wait", 300.0)], 0.0, 0, 0)
# The same by date, and with the oldest records forgotten meanwhile.
@example([], [write(late=20.0), write(9, every=0.25), ("pull", 2, -1), ("wait", 300.0)], 0.0, 0, 0)
@example([], [write(30, every=0.25), ("pull", 3, -1), ("forget", 25)], 0.0, 0, 0)
# A first reading that begins too late, since our clock is ahead.
@example([(59.5, OVERLAP, "happened"), (59.0, 0.0, "happened")], [PULL], 30.0, 0, 0)
# Dates as far off as they may be: a record's is early by that much, and the one before it comes late.
@example([OLD], [("wait", 0.5), write(1, skew=SKEW, late=OVERLAP), write(1, every=0.25, skew=-SKEW), ("wait", 59.5), PULL], 0.0, 0, 0)  # fmt: skip
# Records without a date: the last there is, and more than a page of them.
@example([OLD], [write(late=20.0), write(says="nothing"), PULL], 0.0, 0, 0)
@example([OLD], [write(30, says="nothing"), write()], 0.0, 0, 0)
@example([OLD], [write(late=20.0), write(4, says="nothing"), PULL], 0.0, 0, 0)
@given(BEFORE, STEPS, st.sampled_from([0.0, -170.0, 30.0]), st.sampled_from([0, 1, 20]), st.sampled_from([0, 5]))
def test_every_record_is_pulled(
    engine: Engine, before: list[Any], steps: list[Any], ahead: float, slow: int, lag: int
) -> None:
    log = Log(slow, lag)
    for ago, late, says in before:
        log.write(log.now - ago, 0.0, min(late, OVERLAP - lag), says)
    reader = Reader(engine, log, ahead)
    for step in steps:
        match step:
            case ("write", count, every, skew, late, says):
                for _ in range(count):
                    log.now += every
                    # As late as allowed: no later than the overlap after it happened, and after its date.
                    log.write(log.now, skew, max(0.0, min(late, OVERLAP - lag + min(skew, 0.0))), says)
            case ("pull", pages, breaks_at):
                reader.pull(pages, breaks_at)
            case ("wait", seconds):
                log.now += seconds
            case ("forget", kept):
                log.forget_all_but(kept)
    log.slow = 0
    for _ in range(3):
        log.now += 2 * OVERLAP
        reader.pull(1000)
    assert reader.promised() <= reader.pulled()
    # Whatever happened, a log that stands still is not read again and again: only what is odd at its end.
    assert reader.pull(1000) <= 2 + sum(not one.promised for one in log.left()) // TAKE
