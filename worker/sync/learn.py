"""What log records say: merged user by user over a batch of deliveries, written as marks in one transaction (P5 to P7)."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, Engine

from worker.auth0 import wire
from worker.domain.events import NOTHING, News, instant, interpret
from worker.store import notes, users
from worker.store.session import without_waiting
from worker.store.users import UserNews
from worker.sync.drain import HORIZON, Bad, Delivery, Finish

_ODD = re.compile(r"[^A-Za-z0-9_]")


@dataclass(slots=True)
class Knowledge:
    """What a batch of records says, merged."""

    news: dict[str, UserNews] = field(default_factory=dict)
    connections_gone: dict[str, datetime | None] = field(default_factory=dict)
    reconcile: set[str] = field(default_factory=set)
    counted: Counter[str] = field(default_factory=Counter)
    bad: list[tuple[int, Bad]] = field(default_factory=list)

    def learn(self, inbox_id: int, record: wire.LogRecord, latest: datetime) -> None:
        """Merge what one record says (P6); nothing depends on the order. No date after `latest` is believed."""
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
            self.bad.append((inbox_id, wire.BadRecord(record.position, meaning.bad, record.raw())))

    def _hear(self, news: News) -> None:
        held = self.news.get(news.user_id)
        if held is None:
            held = self.news[news.user_id] = UserNews(news.user_id, creates=False)
        held.hear(news)


class LogRecords:
    """The source "logs": what Auth0's log stream delivered, and what was pulled of the same records."""

    name = "logs"
    rings = "refresh"

    def decode(self, content: bytes) -> wire.Decoded:
        """Return the records of a delivery and the bad ones."""
        return wire.decode_delivery(content)

    def origin(self, record: wire.LogRecord) -> tuple[int, bytes]:
        """Return a record's place in its delivery, and its bytes as they came."""
        return record.position, record.raw()

    def write(
        self, engine: Engine, deliveries: Sequence[Delivery[wire.LogRecord]], now: datetime, finish: Finish
    ) -> Mapping[str, int]:
        """Mark who must be looked at, in one transaction."""
        known = Knowledge()
        latest = now + HORIZON
        for delivery in deliveries:
            for record in delivery.records:
                known.learn(delivery.claimed.id, record, latest)
        with engine.begin() as connection:
            without_waiting(connection)
            _mark(connection, known)
            finish(connection, known.counted, known.bad)
        return {"records": known.counted["log_records"], "users": len(known.news), "bad": len(known.bad)}


def _mark(connection: Connection, known: Knowledge) -> None:
    users.mark(connection, known.news.values())
    for name, date in sorted(known.connections_gone.items()):
        users.mark_connection(connection, name, date)
    if known.reconcile or known.connections_gone:
        reasons = known.reconcile or {"a connection was deleted with its users"}
        notes.raise_condition(connection, "reconcile_wanted", "; ".join(sorted(reasons)))
