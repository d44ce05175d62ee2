"""Drain: deliveries become knowledge. Claims pending inbox rows, decodes them, merges each user's news, marks who must be looked at."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DataError, OperationalError

from worker.auth0 import wire
from worker.domain.events import NOTHING, News, instant, interpret
from worker.errors import BadRecord
from worker.logs import get_logger
from worker.store import inbox, notes, users
from worker.store.inbox import Claimed
from worker.store.users import UserNews

# Each source is claimed by itself, so that a week of resumed log records holds up nothing else (P22).
SOURCES = ("logs",)

# Batches large enough that one statement carries thousands of users, small enough for a small dyno's memory.
BATCH_ROWS = 2_000
BATCH_BYTES = 8 * 1024 * 1024
# Longer than a batch takes by far; a killed worker's deliveries are claimed again after it.
LEASE = timedelta(seconds=30)
# A record dated later than this is dated wrongly: believed, it would hold `login_seen_at` ahead for ever.
HORIZON = timedelta(days=1)

# What PostgreSQL, or the way to it, refuses to hold.
REFUSED = (DataError, UnicodeError)
_ODD = re.compile(r"[^A-Za-z0-9_]")

log = get_logger(__name__)


@dataclass(slots=True)
class Knowledge:
    """What a batch of records says, merged."""

    news: dict[str, UserNews] = field(default_factory=dict)
    connections_gone: dict[str, datetime | None] = field(default_factory=dict)
    reconcile: set[str] = field(default_factory=set)
    counted: Counter[str] = field(default_factory=Counter)
    parked: list[tuple[int, int, str, bytes]] = field(default_factory=list)

    def learn(self, inbox_id: int, delivery: wire.Decoded, latest: datetime) -> None:
        """Merge all that a delivery says (P6); nothing depends on the order. No date after `latest` is believed."""
        self.park(inbox_id, delivery.bad)
        for record in delivery.records:
            self.learn_record(inbox_id, record, latest)

    def learn_record(self, inbox_id: int, record: wire.LogRecord, latest: datetime) -> None:
        """Merge what one record says."""
        meaning = interpret(record, latest)
        self.counted["log_records"] += 1
        if meaning is NOTHING:
            return
        for news in meaning.news:
            self._hear(news)
        if meaning.connection_gone:
            self.connections_gone[meaning.connection_gone] = instant(record.date, latest)
        if meaning.reconcile:
            self.reconcile.add(meaning.reconcile)
        if meaning.unknown:
            self.counted[f"log_code_unknown:{_ODD.sub('?', record.type[:40])}"] += 1
        if meaning.bad:
            self.park(inbox_id, [wire.BadRecord(record.position, meaning.bad, record.raw())])

    def park(self, inbox_id: int, bad: Sequence[wire.BadRecord]) -> None:
        """Set records aside with their reasons and their bytes."""
        self.parked.extend((inbox_id, one.position, one.reason, one.raw) for one in bad)
        self.counted["log_records_parked"] += len(bad)

    def _hear(self, news: News) -> None:
        held = self.news.get(news.user_id)
        if held is None:
            held = self.news[news.user_id] = UserNews(news.user_id, creates=False)
        held.hear(news)


def drain(engine: Engine, source: str, *, go_on: Callable[[], bool]) -> int:
    """Drain one source until nothing is pending or `go_on` says stop; return how many deliveries were drained."""
    drained = 0
    while go_on():
        with engine.begin() as connection:
            _without_waiting(connection)
            claimed = inbox.claim(connection, source, rows=BATCH_ROWS, size=BATCH_BYTES, lease=LEASE)
        if not claimed:
            break
        try:
            _drain_batch(engine, source, claimed)
        except OperationalError:
            _give_back(engine, claimed)
            raise
        drained += len(claimed)
    return drained


def _drain_batch(engine: Engine, source: str, claimed: Sequence[Claimed]) -> None:
    now = datetime.now(UTC)
    readable = []
    for delivery in claimed:
        try:
            if delivery.attempts >= inbox.PARKED_AT:
                raise BadRecord(f"given up after {inbox.PARKED_AT - 1} attempts, each of which ended its process")
            readable.append((delivery, wire.decode_delivery(delivery.content())))
        except BadRecord as error:
            _park(engine, delivery, str(error))
    if readable:
        _apply(engine, source, readable, now)


def _apply(engine: Engine, source: str, readable: Sequence[tuple[Claimed, wire.Decoded]], now: datetime) -> None:
    """Write what the deliveries say in one transaction; where PostgreSQL refuses a value, find whose it is."""
    known = Knowledge()
    for delivery, decoded in readable:
        known.learn(delivery.id, decoded, now + HORIZON)
    deliveries = [delivery for delivery, _ in readable]
    try:
        _write(engine, source, known, deliveries)
    except REFUSED:
        if len(readable) == 1:
            _apply_one_by_one(engine, source, *readable[0], now)
        else:
            half = len(readable) // 2
            _apply(engine, source, readable[:half], now)
            _apply(engine, source, readable[half:], now)
        return
    log.info(
        "drained",
        source=source,
        deliveries=len(deliveries),
        first=deliveries[0].id,
        last=deliveries[-1].id,
        records=known.counted["log_records"],
        users=len(known.news),
        parked=len(known.parked),
        oldest_s=round(max(delivery.age for delivery in deliveries), 3),
        seconds=round((datetime.now(UTC) - now).total_seconds(), 3),
    )


def _apply_one_by_one(engine: Engine, source: str, delivery: Claimed, decoded: wire.Decoded, now: datetime) -> None:
    """Apply each record by itself and park those that PostgreSQL refuses, so that their neighbours count."""
    rest = Knowledge()
    rest.park(delivery.id, decoded.bad)
    for record in decoded.records:
        alone = Knowledge()
        alone.learn_record(delivery.id, record, now + HORIZON)
        try:
            _write(engine, source, alone, [])
        except REFUSED:
            refused = "PostgreSQL cannot hold a value of this record"
            rest.park(delivery.id, [wire.BadRecord(record.position, refused, record.raw())])
    _write(engine, source, rest, [delivery])


def _write(engine: Engine, source: str, known: Knowledge, deliveries: Sequence[Claimed]) -> None:
    with engine.begin() as connection:
        _without_waiting(connection)
        users.mark(connection, known.news.values())
        for name, date in sorted(known.connections_gone.items()):
            users.mark_connection(connection, name, date)
        if known.reconcile or known.connections_gone:
            reasons = known.reconcile or {"a connection was deleted with its users"}
            notes.raise_condition(connection, "reconcile_wanted", "; ".join(sorted(reasons)))
        notes.park_records(connection, source, known.parked)
        known.counted["deliveries_drained"] += len(deliveries)
        notes.count(connection, known.counted)
        inbox.done(connection, deliveries)


def _without_waiting(connection: Connection) -> None:
    """Let this transaction commit without waiting for the disk: a crash of PostgreSQL undoes marks and "done" alike, and drain does both again."""
    connection.exec_driver_sql("SET LOCAL synchronous_commit = off")


def _park(engine: Engine, delivery: Claimed, reason: str) -> None:
    with engine.begin() as connection:
        inbox.park(connection, delivery.id, reason)
        notes.count(connection, {"deliveries_parked": 1})
    log.error("parked a delivery", id=delivery.id, reason=reason)


def _give_back(engine: Engine, claimed: Sequence[Claimed]) -> None:
    """Release a claim that PostgreSQL's absence ended; while it stays away, the claim ends by its time."""
    try:
        with engine.begin() as connection:
            inbox.release(connection, claimed)
    except OperationalError:
        log.warning("could not release a claim", deliveries=len(claimed))
