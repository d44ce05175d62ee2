"""Drain: deliveries become knowledge. Claims pending inbox rows, decodes them, merges each user's news, marks who must be looked at."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine
from sqlalchemy.exc import DataError, OperationalError

from worker.auth0.wire import Decoded, LogRecord, decode_delivery
from worker.domain.events import interpret
from worker.errors import BadRecord
from worker.logs import get_logger
from worker.store import inbox, notes, users
from worker.store.inbox import Delivery
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

log = get_logger(__name__)


@dataclass(slots=True)
class Knowledge:
    """What a batch of records says, merged."""

    news: dict[str, UserNews] = field(default_factory=dict)
    connections_gone: dict[str, datetime | None] = field(default_factory=dict)
    reconcile: set[str] = field(default_factory=set)
    counted: Counter[str] = field(default_factory=Counter)
    parked: list[tuple[int, int, str, bytes]] = field(default_factory=list)


def drain(engine: Engine, source: str, *, go_on: Callable[[], bool]) -> int:
    """Drain one source until nothing is pending or `go_on` says stop; return how many deliveries were drained."""
    drained = 0
    while go_on():
        with engine.begin() as connection:
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


def _drain_batch(engine: Engine, source: str, claimed: Sequence[Delivery]) -> None:
    started = datetime.now(UTC)
    hopeless = [delivery.id for delivery in claimed if delivery.attempts >= inbox.PARKED_AT]
    if hopeless:
        _park(engine, hopeless, f"given up after {inbox.PARKED_AT - 1} attempts, each of which ended its process")
    readable = []
    for delivery in claimed:
        if delivery.id in hopeless:
            continue
        try:
            readable.append((delivery, decode_delivery(delivery.content())))
        except BadRecord as error:
            _park(engine, [delivery.id], str(error))
    if readable:
        _apply(engine, source, readable, started)


def _apply(engine: Engine, source: str, readable: Sequence[tuple[Delivery, Decoded]], now: datetime) -> None:
    """Write what the deliveries say in one transaction; where PostgreSQL refuses a value, find whose it is."""
    knowledge = gather(((delivery.id, decoded) for delivery, decoded in readable), horizon=now + HORIZON)
    deliveries = [delivery for delivery, _ in readable]
    try:
        _write(engine, source, knowledge, deliveries)
    except DataError:
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
        records=knowledge.counted["log_records"],
        users=len(knowledge.news),
        parked=len(knowledge.parked),
        oldest_s=round(max(delivery.age for delivery in deliveries), 3),
        seconds=round((datetime.now(UTC) - now).total_seconds(), 3),
    )


def _apply_one_by_one(engine: Engine, source: str, delivery: Delivery, decoded: Decoded, now: datetime) -> None:
    """Apply each record by itself and park those that PostgreSQL refuses, so that their neighbours count."""
    parked = [(delivery.id, bad.position, bad.reason, bad.raw) for bad in decoded.bad]
    for record in decoded.records:
        alone = gather([(delivery.id, Decoded([record], []))], horizon=now + HORIZON)
        try:
            _write(engine, source, alone, [])
        except DataError:
            parked.append((delivery.id, record.position, "PostgreSQL cannot hold a value of this record", record.raw()))
    rest = Knowledge(parked=parked, counted=Counter(log_records_parked=len(parked)))
    _write(engine, source, rest, [delivery])


def gather(decoded: Iterable[tuple[int, Decoded]], *, horizon: datetime) -> Knowledge:
    """Merge what records say by user (P6); nothing here depends on their order.

    `decoded` pairs an inbox id with its decoded delivery; `horizon` is the latest date that is believed.
    """
    known = Knowledge()
    for inbox_id, delivery in decoded:
        known.parked.extend((inbox_id, bad.position, bad.reason, bad.raw) for bad in delivery.bad)
        known.counted["log_records"] += len(delivery.records)
        known.counted["log_records_parked"] += len(delivery.bad)
        for record in delivery.records:
            _learn(known, record, horizon)
    return known


def _learn(known: Knowledge, record: LogRecord, horizon: datetime) -> None:
    meaning = interpret(record)
    for news in meaning.news:
        date = news.date
        strong = news.strong
        if date is None or date > horizon:
            # Without a believable date no search could ever show that the news has been seen.
            date, strong = None, True
        held = known.news.get(news.user_id)
        if held is None:
            held = known.news[news.user_id] = UserNews(news.user_id, creates=False)
        held.strong |= strong
        held.creates |= news.creates
        held.deletion_announced |= news.deletion
        if date is not None:
            held.newest = max(held.newest or date, date)
            if news.login:
                held.login_seen_at = max(held.login_seen_at or date, date)
            if news.severed:
                held.deletion_seen_at = max(held.deletion_seen_at or date, date)
    if meaning.connection_gone:
        known.connections_gone[meaning.connection_gone] = record.date
    if meaning.reconcile:
        known.reconcile.add(meaning.reconcile)
    if meaning.unknown:
        known.counted[f"log_code_unknown:{record.type[:40]}"] += 1


def _write(engine: Engine, source: str, known: Knowledge, deliveries: Sequence[Delivery]) -> None:
    with engine.begin() as connection:
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


def _park(engine: Engine, ids: Sequence[int], reason: str) -> None:
    with engine.begin() as connection:
        inbox.park(connection, ids, reason)
        notes.count(connection, {"deliveries_parked": len(ids)})
    log.error("parked deliveries", ids=list(ids), reason=reason)


def _give_back(engine: Engine, claimed: Sequence[Delivery]) -> None:
    """Release a claim that PostgreSQL's absence ended; while it stays away, the claim ends by its time."""
    try:
        with engine.begin() as connection:
            inbox.release(connection, claimed)
    except OperationalError:
        log.warning("could not release a claim", deliveries=len(claimed))
