"""What was pulled of the tenant's log: the same records as the log stream's, without those that are known already (P23)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection, Engine

from worker.auth0 import wire
from worker.domain.events import NOTHING, Meaning, news_date
from worker.store import heard
from worker.sync.drain import HORIZON, Bad, Delivery, Finish, Writer
from worker.sync.learn import LogRecords, Understood, digest, log_id_in


@dataclass(frozen=True, slots=True)
class _Raw:
    """Where a record came from that cannot be decoded."""

    body: bytes

    def raw(self, _position: int) -> bytes:
        """Return its bytes."""
        return self.body


@dataclass(frozen=True, slots=True)
class PulledRecords:
    """The source "pulled": pages of the tenant's log."""

    records: LogRecords = field(default_factory=lambda: LogRecords(noting=True, name="pulled"))
    name: str = "pulled"
    rings: str = "refresh"
    hurried: bool = False

    def decode(self, content: bytes) -> tuple[Sequence[Understood], Sequence[Bad]]:
        """Return the records of a page, each with what it means; a bad one among them, since it too may be known already."""
        understood, bad = self.records.decode(content)
        return [*understood, *(_bad(one) for one in bad)], ()

    def origin(self, record: Understood) -> tuple[int, bytes]:
        """Return a record's place in its page, and its bytes as they came."""
        return self.records.origin(record)

    def prepare(self, deliveries: Sequence[Delivery[Understood]], now: datetime) -> Writer:
        """Return what marks whom the records name that are not known; PostgreSQL says which those are."""
        return partial(self._write, deliveries, now)

    def _write(
        self, deliveries: Sequence[Delivery[Understood]], now: datetime, engine: Engine, finish: Finish
    ) -> Mapping[str, int]:
        with engine.begin() as connection:
            known = heard.known(connection, *_asked(deliveries))
        missed = [_without(delivery, known) for delivery in deliveries]
        counted = Counter(
            log_records_pulled=sum(len(delivery.records) for delivery in deliveries),
            log_records_missed=sum(len(delivery.records) for delivery in missed),
        )

        def finish_pulled(connection: Connection, told: Mapping[str, int], bad: Sequence[tuple[int, Bad]]) -> None:
            finish(connection, {**told, **counted}, bad)

        said = self.records.prepare(missed, now)(engine, finish_pulled)
        return {**said, "pulled": counted["log_records_pulled"]}


def _bad(one: Any) -> Understood:
    position, reason, raw = one
    record = wire.LogRecord(type="", log_id=log_id_in(raw), position=position, origin=_Raw(raw))
    return record, Meaning(bad=reason)


def _asked(deliveries: Sequence[Delivery[Understood]]) -> tuple[set[int], datetime | None]:
    """Return what is to be looked up, and since when it can have been heard (our clock)."""
    digests: set[int] = set()
    dates: list[datetime | None] = []
    latest = datetime.now(UTC) + HORIZON
    for delivery in deliveries:
        for record, meaning in delivery.records:
            if meaning is not NOTHING and (known_by := digest(record)) is not None:
                digests.add(known_by)
                dates.append(news_date(record.date, latest))
    told = [date for date in dates if date is not None]
    return digests, min(told) - heard.MARGIN if told and len(told) == len(dates) else None


def _without(delivery: Delivery[Understood], known: set[int]) -> Delivery[Understood]:
    """Return a page without what is known, or means nothing; what it holds is known from now on: pages overlap too."""
    unknown = []
    for record, meaning in delivery.records:
        known_by = digest(record)
        if meaning is not NOTHING and known_by not in known:
            unknown.append((record, meaning))
            if known_by is not None:
                known.add(known_by)
    return Delivery(delivery.claimed, unknown, delivery.bad)
