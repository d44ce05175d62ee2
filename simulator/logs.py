"""The tenant log: records as Auth0 writes them, their ids, and the book that keeps the latest ones."""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from simulator.clock import Clock, compact, iso

Fields = dict[str, Any]

_NULL_WHEN_PULLED = (
    "connection", "connection_id", "client_id", "client_name", "ip", "client_ip", "user_agent", "hostname", "user_id",
    "user_name", "audience", "scope", "strategy", "strategy_type", "auth0_client", "location_info", "details",
)  # fmt: skip


class LogRecord(msgspec.Struct, gc=False):
    """One record: its id, its code, and its `data` as JSON, absent fields left out."""

    log_id: str
    type: str
    data: bytes

    def wrapped(self) -> bytes:
        """As log streams carry it: `{"log_id": …, "data": {…}}`."""
        return b'{"log_id":%b,"data":%b}' % (msgspec.json.encode(self.log_id), self.data)

    def flat(self) -> Fields:
        """As `GET /api/v2/logs` answers it: the bare data, every absent field null."""
        data = msgspec.json.decode(self.data)
        return {**dict.fromkeys(_NULL_WHEN_PULLED), **data} if isinstance(data, dict) else {"data": data}


@dataclass
class LogAging:
    """How the log ages, and how far its ids are from the order in which records can be read."""

    id_skew: float = 0.0
    """An id's time is up to so many seconds too early: a record may come to stand before others that were read already."""
    retention_days: float | None = None
    """Days that records can be pulled; the plan says it unless this does."""
    expired_status: int = 400
    """What pulling from a record answers that is kept no more; with 200 the oldest that is kept follows."""

    def __post_init__(self) -> None:
        if self.expired_status not in {200, 400, 404}:
            raise ValueError("expired_status is one of 200, 400, 404")


class LogBook:
    """Writes records, keeps the last `retention` of them in the order of their ids, tells `on_record` of each."""

    def __init__(
        self,
        clock: Clock,
        rng: random.Random,
        tenant: str,
        *,
        skew: float,
        retention: int,
        on_record: Callable[[LogRecord], None],
    ) -> None:
        self.skew = skew
        self.aging = LogAging()
        self._clock = clock
        self._rng = rng
        self._tenant = tenant
        self._retention = retention
        self._on_record = on_record
        self._records: list[LogRecord] = []
        self._ids: list[str] = []
        self._number = 0
        self._expired_to = ""

    def write(self, code: str, description: str | None, fields: Fields) -> LogRecord:
        """Add a record. Its date is off by up to `skew` seconds, its id is not: neither order is the order of events."""
        now = self._clock()
        log_id = self._next_id(now - self._rng.uniform(0, self.aging.id_skew))
        data = {
            "date": iso(now + self._rng.uniform(-self.skew, self.skew)),
            "type": code,
            "description": description,
            **fields,
            "$event_schema": {"version": "1.0.0"} if self._number % 3 else None,
            "environment_name": "prod-us-1",
            "isMobile": False,
            "log_id": log_id,
            "_id": log_id,
            "tenant_name": self._tenant,
        }
        present = {key: value for key, value in data.items() if value is not None}
        return self._keep(LogRecord(log_id, code, msgspec.json.encode(present)))

    def inject(self, raw: Any) -> LogRecord:
        """Add a record exactly as given; `{"log_id", "data"}` is taken apart, anything else is the data."""
        log_id = self._next_id(self._clock())
        if isinstance(raw, dict) and set(raw) == {"log_id", "data"}:
            log_id, raw = str(raw["log_id"]), raw["data"]
        elif isinstance(raw, dict):
            log_id = str(raw.get("log_id") or log_id)
            raw = {**raw, "log_id": log_id}
        code = str(raw.get("type", "")) if isinstance(raw, dict) else ""
        return self._keep(LogRecord(log_id, code, msgspec.json.encode(raw)))

    def find(self, log_id: str) -> LogRecord | None:
        place = bisect_left(self._ids, log_id)
        return self._records[place] if self._ids[place : place + 1] == [log_id] else None

    def after(self, log_id: str, take: int) -> list[LogRecord]:
        """Up to `take` records behind that id, in the order of ids."""
        start = bisect_right(self._ids, log_id)
        return self._records[start : start + take]

    def has_expired(self, log_id: str) -> bool:
        """Whether that record, or one that stood behind it, is kept no more."""
        return log_id <= self._expired_to

    def expire(self, keep: int) -> int:
        """Forget all but the last `keep` records, as age would; answers how many are left."""
        self._forget(max(0, len(self._ids) - keep))
        return len(self._ids)

    def expire_before(self, moment: float) -> None:
        """Forget records older than that (UNIX seconds)."""
        self._forget(bisect_left(self._ids, f"90020{compact(moment)}"))

    def newest(self) -> list[LogRecord]:
        """All that are kept, the newest first."""
        return self._records[::-1]

    def _next_id(self, now: float) -> str:
        self._number += 1
        return f"90020{compact(now)}0000000000000000001223372{self._number:09d}"

    def _keep(self, record: LogRecord) -> LogRecord:
        place = (
            len(self._ids) if not self._ids or record.log_id > self._ids[-1] else bisect_right(self._ids, record.log_id)
        )
        self._records.insert(place, record)
        self._ids.insert(place, record.log_id)
        if len(self._records) > self._retention + self._retention // 10:
            self.expire(self._retention)
        self._on_record(record)
        return record

    def _forget(self, count: int) -> None:
        if count:
            self._expired_to = self._ids[count - 1]
            del self._records[:count], self._ids[:count]
