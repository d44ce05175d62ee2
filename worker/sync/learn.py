"""What log records say: merged user by user over a batch of deliveries, written as marks in one transaction (P5 to P7)."""

import contextlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

from sqlalchemy import Connection, Engine

from worker.auth0 import wire
from worker.domain.events import NOTHING, Meaning, News, interpret, news_date
from worker.domain.histograms import FRESHNESS, observed
from worker.domain.news import Unreadable, as_key, is_plain_change
from worker.domain.pushes import echo_of
from worker.store import connections, heard, notes, pushed, users
from worker.store.session import without_waiting
from worker.store.users import UserNews
from worker.sync.drain import HORIZON, Bad, Delivery, Finish, Writer

_ODD = re.compile(r"[^A-Za-z0-9_]")

Understood = tuple[wire.LogRecord, Meaning]


@dataclass(slots=True)
class Knowledge:
    """What a batch of records says, merged."""

    news: dict[str, UserNews] = field(default_factory=dict)
    connections: dict[str, object] = field(default_factory=dict)  # names by id, as records have them
    echoes: dict[tuple[UUID, str], News] = field(
        default_factory=dict
    )  # by push and user: of writes that name one of ours
    connections_gone: dict[str, datetime | None] = field(default_factory=dict)
    reconcile: set[str] = field(default_factory=set)
    counted: Counter[str] = field(default_factory=Counter)
    dates: list[datetime] = field(default_factory=list)  # of the records that are news, by Auth0's clock
    bad: list[tuple[int, Bad]] = field(default_factory=list)
    digests: list[int] = field(default_factory=list)  # of the records to be known from now on (P23)

    def learn(self, inbox_id: int, record: wire.LogRecord, meaning: Meaning, latest: datetime) -> None:
        """Merge what one record says (P6); nothing depends on the order. No date after `latest` is believed."""
        self.counted["log_records"] += 1
        if isinstance(record.connection_id, str):  # of a record read leniently it may be anything
            self.connections[record.connection_id] = record.connection
        if meaning is NOTHING:
            return
        if meaning.news and (date := meaning.news[0].date) is not None:
            self.dates.append(date)
        push = echo_of(record.correlation_id) if record.type == "sapi" else None
        for news in meaning.news:
            if push is not None and is_plain_change(news):
                self.echoes[push, news.user_id] = news
            else:
                self.hear(news)
        if meaning.connection_gone:
            self.connections_gone[meaning.connection_gone] = news_date(record.date, latest)
        if meaning.reconcile:
            self.reconcile.add(meaning.reconcile)
        if meaning.unknown:
            self.counted[f"log_code_unknown:{_ODD.sub('?', record.type[:40])}"] += 1
        if meaning.bad:
            self.bad.append((inbox_id, wire.BadRecord(record.position, meaning.bad, record.raw())))

    def hear(self, news: News) -> None:
        """Merge a piece of news with what is known of its user."""
        held = self.news.get(news.user_id)
        if held is None:
            held = self.news[news.user_id] = UserNews(news.user_id, creates=False)
        held.hear(news)


@dataclass(frozen=True, slots=True)
class LogRecords:
    """The source "logs": what Auth0's log stream delivered. `noting`: somebody pulls the same records too (P23)."""

    noting: bool = False
    name: str = "logs"
    rings: str = "refresh"
    hurried: bool = True

    def decode(self, content: bytes) -> tuple[list[Understood], Sequence[Bad]]:
        """Return the records of a delivery, each with what it means, and the bad ones."""
        decoded = wire.decode_delivery(content)
        latest = datetime.now(UTC) + HORIZON
        return [(record, interpret(record, latest)) for record in decoded.records], decoded.bad

    def origin(self, record: Understood) -> tuple[int, bytes]:
        """Return a record's place in its delivery, and its bytes as they came."""
        return record[0].position, record[0].raw()

    def prepare(self, deliveries: Sequence[Delivery[Understood]], now: datetime) -> Writer:
        """Merge who must be looked at; return what marks them, in one transaction."""
        known = Knowledge()
        latest = now + HORIZON
        for delivery in deliveries:
            for record, meaning in delivery.records:
                known.learn(delivery.claimed.id, record, meaning, latest)
        known.digests.extend(_digests(deliveries) if self.noting else ())
        return partial(self._write, known)

    def _write(self, known: Knowledge, engine: Engine, finish: Finish) -> Mapping[str, int]:
        if known.connections_gone:
            _mark_connections(engine, known)
        with engine.begin() as connection:
            without_waiting(connection)
            _mark(connection, known)
            heard.note(connection, known.digests)
            finish(connection, {**known.counted, **fresh(self.name, known.dates)}, known.bad)
        return {"records": known.counted["log_records"], "users": len(known.news), "bad": len(known.bad)}


_LOG_ID = re.compile(rb'"log_id"\s*:\s*"([^"\\]{1,200})"')


def log_id_in(raw: bytes) -> str | None:
    """Find the log_id of a record that cannot be decoded."""
    found = _LOG_ID.search(raw)
    return None if found is None else found[1].decode("utf-8", "replace")


def digest(record: wire.LogRecord) -> int | None:
    """Return what a record is known by, None where it has no id."""
    return heard.digest(record.log_id) if isinstance(record.log_id, str) and record.log_id else None


def _digests(deliveries: Sequence[Delivery[Understood]]) -> Iterator[int]:
    """What the records of a batch that mean anything are known by, the bad ones too."""
    for delivery in deliveries:
        for record, meaning in delivery.records:
            if meaning is not NOTHING and (known_by := digest(record)) is not None:
                yield known_by
        for _, _, raw in delivery.bad:
            if log_id := log_id_in(raw):
                yield heard.digest(log_id)


def fresh(source: str, dates: Iterable[datetime]) -> Mapping[str, int]:
    """Return what to count of how old news is as it is committed, now."""
    now = datetime.now(UTC)
    return observed(f"freshness:{source}", ((now - date).total_seconds() for date in dates), FRESHNESS)


def _mark_connections(engine: Engine, known: Knowledge) -> None:
    """Mark the users of connections that are gone, each in a transaction of its own: it locks in one order, and `_mark` begins anew."""
    for connection_id, date in known.connections_gone.items():
        with engine.begin() as connection:
            without_waiting(connection)
            connections.learn(connection, _named(known.connections))
            if not connections.mark_users(connection, connection_id, date):
                known.reconcile.add("a connection whose name was never seen was deleted, and its users with it")


def _hear_echoes(connection: Connection, known: Knowledge) -> None:
    """Take our own writes for news, unless their answers told us what they say (P20)."""
    known_already = pushed.echoes(connection, known.echoes)
    for (push, _), news in known.echoes.items():
        if push not in known_already:
            known.hear(news)
    known.counted["own_writes_ignored"] += len(known_already)


def _mark(connection: Connection, known: Knowledge) -> None:
    if known.echoes:
        _hear_echoes(connection, known)
    connections.learn(connection, _named(known.connections))
    users.mark(connection, known.news.values())
    if known.reconcile:
        notes.raise_condition(connection, "reconcile_wanted", "; ".join(sorted(known.reconcile)))


def _named(said: Mapping[str, object]) -> dict[str, str]:
    """Return the connections' names that can be kept; what is odd about the others is told where a user's id is."""
    names = {}
    for connection_id, name in said.items():
        if connection_id and isinstance(name, str) and name:
            with contextlib.suppress(Unreadable):
                names[as_key(connection_id)] = as_key(name)
    return names
