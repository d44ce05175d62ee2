"""Drain: deliveries become knowledge. Claims pending inbox rows, source by source, and hands what they hold to the source's reader."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, OperationalError

from worker.errors import BadRecord
from worker.logs import describe, get_logger
from worker.store import inbox, notes, rhythm
from worker.store.inbox import Claimed
from worker.store.session import without_waiting
from worker.sync.answers import refuses_a_value
from worker.sync.cutting import cut_drained, cut_parked, without_forgotten

# A claim: while PostgreSQL writes one part of it the next is prepared. Between two claims neither has anything to do, so
# they are large (an eighth of the time went there at 24 MiB); yet no other source waits much longer than a second for its turn.
BATCH_ROWS = 2_000
BATCH_BYTES = 64 * 1024 * 1024
# A part: large enough that one statement carries thousands of users, small enough for a small dyno's memory.
PART_BYTES = 6 * 1024 * 1024
# Longer than a batch takes by far; a killed worker's deliveries are claimed again after it.
LEASE = timedelta(seconds=30)
# What is dated later than this is dated wrongly: believed, it would hold a row ahead for ever.
HORIZON = timedelta(days=1)

# What a record's value makes of a mistake of ours. A record that meets one is parked, like what PostgreSQL refuses to hold: nobody
# else's waits until it is mended. What the machine lacks (memory, time, a server) is none of these.
FAULTS = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, AssertionError, RecursionError)

log = get_logger(__name__)

R = TypeVar("R")
# A record that cannot be understood: its place in the delivery (from 0), why, its bytes. The reason holds no personal data.
Bad = tuple[int, str, bytes]
# Ends a batch, in the transaction that writes it: counts, and parks records, each with its delivery's inbox id.
Finish = Callable[[Connection, Mapping[str, int], Sequence[tuple[int, Bad]]], None]
# Writes what a batch says, and returns numbers for the log line.
Writer = Callable[[Engine, Finish], Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Delivery(Generic[R]):
    """A claimed delivery and the records it holds."""

    claimed: Claimed
    records: Sequence[R]
    bad: Sequence[Bad] = ()


@dataclass(frozen=True, slots=True)
class Part(Generic[R]):
    """A part of a claim, ready to be written: deliveries that were decoded, and those that cannot be, each with the reason."""

    readable: list[Delivery[R]]
    unreadable: list[tuple[Claimed, str]]
    write: Writer


class Source(Protocol[R]):
    """One kind of delivery: what its bodies hold, and what becomes of it. Each is claimed by itself (P22)."""

    @property
    def name(self) -> str:
        """What `inbox.source` holds."""

    @property
    def rings(self) -> str:
        """The loop that has work to do when some of it was drained."""

    @property
    def hurried(self) -> bool:
        """Whether somebody waits for each single one: then what is pending is claimed at once, however little it is.

        Else a batch that was not full ends the source's turns, and what comes later, with a ring of its own, is drained
        with more of its kind: a batch costs what some hundred small deliveries do.
        """

    def decode(self, content: bytes) -> tuple[Sequence[R], Sequence[Bad]]:
        """Return the records of a body and those that are none; raise BadRecord where it is no such body at all.

        Called in a thread, while an earlier part is written: whatever can be found out without the database belongs here.
        """

    def origin(self, record: R) -> tuple[int, bytes]:
        """Return a record's place in its delivery, and its bytes."""

    def prepare(self, deliveries: Sequence[Delivery[R]], now: datetime) -> Writer:
        """Merge what the records say, and return what writes it, calling `finish` in the (last) transaction.

        Called in a thread too, like `decode`. Whatever part of it is written twice, because a process died or a value
        was refused, must do no harm.
        """


def take_turns(
    engine: Engine, sources: Sequence[Source[Any]], *, go_on: Callable[[], bool], ring: Callable[[str], object]
) -> None:
    """Drain all sources, a batch of each in turn, until nothing is worth a turn or `go_on` says stop; then ring for what follows.

    A source that raises ends its own turns, not the others' (P22); the error is raised in the end.
    """
    taking = list(sources)
    bells: set[str] = set()
    failures: list[Exception] = []
    more = True
    while more and go_on():
        more = False
        for source in tuple(taking):
            try:
                drained, again = _take_turn(engine, source)
            except Exception as error:  # noqa: BLE001 raised below
                taking.remove(source)
                failures.append(error)
            else:
                more = more or again
                bells |= {source.rings} if drained else set()
    for bell in sorted(bells):
        ring(bell)
    if failures:
        raise failures[0]


def _take_turn(engine: Engine, source: Source[Any]) -> tuple[bool, bool]:
    """Drain one claim's worth; return whether there was any, and whether there may be more that is worth a claim."""
    claimed = _drain_some(engine, source, _claim)
    if not claimed or source.hurried or _full(claimed):
        return bool(claimed), bool(claimed)
    # Where new ones keep coming, none pending is a moment that never comes: what is drained last has its turn now.
    return True, bool(_drain_some(engine, source, _claim_troubled))


def drain(engine: Engine, source: Source[Any], *, go_on: Callable[[], bool]) -> int:
    """Drain one source until nothing is pending or `go_on` says stop; return how many deliveries were drained."""
    drained = 0
    while go_on() and (claimed := _drain_some(engine, source, _claim)):
        drained += len(claimed)
    return drained


def _drain_some(
    engine: Engine, source: Source[Any], claim: Callable[[Connection, str], list[Claimed]]
) -> Sequence[Claimed]:
    """Drain what `claim` claims, and return it."""
    with engine.begin() as connection:
        without_waiting(connection)
        claimed = claim(connection, source.name)
    if claimed:
        try:
            _drain_batch(engine, source, claimed)
        except OperationalError:
            _give_back(engine, claimed)
            raise
    return claimed


_claim = partial(inbox.claim, rows=BATCH_ROWS, size=BATCH_BYTES, lease=LEASE)
_claim_troubled = partial(inbox.claim_troubled, lease=LEASE)


def _full(claimed: Sequence[Claimed]) -> bool:
    """Whether a claim left something behind, or may have."""
    return len(claimed) == BATCH_ROWS or sum(delivery.size for delivery in claimed) >= BATCH_BYTES


def _drain_batch(engine: Engine, source: Source[R], claimed: Sequence[Claimed]) -> None:
    """Write a claim part by part; while PostgreSQL writes one, a thread reads and merges the next."""
    first, *others = _parts(claimed)
    part = _prepare(source, first)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="prepare") as ahead:
        for other in others:
            following = ahead.submit(_prepare, source, other)
            _write_part(engine, source, part)
            part = following.result()
        _write_part(engine, source, part)


def _parts(claimed: Sequence[Claimed]) -> list[list[Claimed]]:
    """Cut a claim into parts of about PART_BYTES."""
    parts: list[list[Claimed]] = [[]]
    size = 0
    for delivery in claimed:
        if size >= PART_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(delivery)
        size += delivery.size
    return parts


def _prepare(source: Source[R], claimed: Sequence[Claimed]) -> Part[R]:
    """Unpack, decode and merge deliveries; set those apart that cannot be."""
    readable: list[Delivery[R]] = []
    unreadable: list[tuple[Claimed, str]] = []
    for delivery in claimed:
        try:
            if delivery.attempts >= inbox.PARKED_AT:
                raise BadRecord(f"given up after {inbox.PARKED_AT - 1} attempts, each of which ended its process")
            readable.append(Delivery(delivery, *source.decode(delivery.content())))
        except BadRecord as error:
            unreadable.append((delivery, str(error)))
        except FAULTS as error:
            unreadable.append((delivery, _fault(error)))
    now = datetime.now(UTC)
    try:
        return Part(readable, unreadable, source.prepare(readable, now))
    except FAULTS:
        sound = [_without_faulty(source, delivery, now) for delivery in readable]
        return Part(sound, unreadable, source.prepare(sound, now))


def _without_faulty(source: Source[R], delivery: Delivery[R], now: datetime) -> Delivery[R]:
    """Set the records of a delivery apart that cannot be prepared."""
    records, bad = [], list(delivery.bad)
    for record in delivery.records:
        try:
            source.prepare([Delivery(delivery.claimed, [record])], now)
        except FAULTS as error:
            position, raw = source.origin(record)
            bad.append((position, _fault(error), raw))
        else:
            records.append(record)
    return Delivery(delivery.claimed, records, bad)


def _fault(error: Exception) -> str:
    """Say why a record is parked that met a mistake of ours, here and in the log."""
    log.error("a mistake of ours", error=describe(error))
    return f"a mistake of ours ({describe(error)}): replay it after an upgrade"


def _why(error: Exception) -> str:
    """Say why a record cannot be written; raise what is nobody's record's fault."""
    if isinstance(error, DBAPIError | UnicodeError):
        if refuses_a_value(error):
            return "PostgreSQL cannot hold a value of this record"
        raise error
    return _fault(error)


def _write_part(engine: Engine, source: Source[R], part: Part[R]) -> None:
    for delivery, reason in part.unreadable:
        _park(engine, delivery, reason)
    if part.readable:
        _apply(engine, source, part.readable, part.write)


def _apply(engine: Engine, source: Source[R], deliveries: Sequence[Delivery[R]], write: Writer) -> None:
    """Write what the deliveries say; where one of them cannot be written, find which."""
    began = datetime.now(UTC)
    try:
        said = write(engine, _finish(source, deliveries))
    except (DBAPIError, *FAULTS) as error:
        if isinstance(error, DBAPIError) and not refuses_a_value(error):
            raise
        if len(deliveries) == 1:
            _apply_one_by_one(engine, source, deliveries[0])
        else:
            half = len(deliveries) // 2
            for some in (deliveries[:half], deliveries[half:]):
                _apply(engine, source, some, source.prepare(some, began))
        return
    log.info(
        "drained",
        source=source.name,
        deliveries=len(deliveries),
        first=deliveries[0].claimed.id,
        last=deliveries[-1].claimed.id,
        **said,
        oldest_s=round(max(delivery.claimed.age for delivery in deliveries), 3),
        seconds=round((datetime.now(UTC) - began).total_seconds(), 3),
    )


def _apply_one_by_one(engine: Engine, source: Source[R], delivery: Delivery[R]) -> None:
    """Apply each record by itself and park those that cannot be written, so that their neighbours count."""
    now = datetime.now(UTC)
    bad = list(delivery.bad)
    for record in delivery.records:
        try:
            source.prepare([Delivery(delivery.claimed, [record])], now)(engine, partial(_note, source))
        except (DBAPIError, *FAULTS) as error:
            why = _why(error)
            position, raw = source.origin(record)
            bad.append((position, why, raw))
    rest: list[Delivery[R]] = [Delivery(delivery.claimed, [], bad)]
    source.prepare(rest, now)(engine, _finish(source, rest))


def _finish(source: Source[R], deliveries: Sequence[Delivery[R]]) -> Finish:
    """Return what ends a batch: its deliveries are done in the transaction that writes what they say."""
    claimed = [delivery.claimed for delivery in deliveries]
    unreadable = [(delivery.claimed.id, bad) for delivery in deliveries for bad in delivery.bad]

    def finish(connection: Connection, counted: Mapping[str, int], bad: Sequence[tuple[int, Bad]]) -> None:
        cut_drained(connection, source.name, claimed)
        _note(source, connection, {**counted, "deliveries_drained": len(claimed)}, [*unreadable, *bad])
        rhythm.note(connection, source.name, max(one.received_at for one in claimed))
        inbox.done(connection, claimed)

    return finish


def _note(
    source: Source[Any], connection: Connection, counted: Mapping[str, int], bad: Sequence[tuple[int, Bad]]
) -> None:
    kept = without_forgotten(connection, bad)
    notes.park_records(connection, source.name, [(inbox_id, *one) for inbox_id, one in kept])
    notes.count(connection, {**counted, "records_parked": len(kept)})


def _park(engine: Engine, delivery: Claimed, reason: str) -> None:
    with engine.begin() as connection:
        cut_parked(connection, delivery)
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
