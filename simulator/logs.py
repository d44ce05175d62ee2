"""The tenant log: records as Auth0 writes them, their ids, and the book that keeps the latest ones."""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections.abc import Callable
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
        self._clock = clock
        self._rng = rng
        self._tenant = tenant
        self._retention = retention
        self._on_record = on_record
        self._records: list[LogRecord] = []
        self._ids: list[str] = []
        self._number = 0

    def write(self, code: str, description: str | None, fields: Fields) -> LogRecord:
        """Add a record. Its date is off by up to `skew` seconds, its id is not: neither order is the order of events."""
        now = self._clock()
        log_id = self._next_id(now)
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
            del self._records[: -self._retention], self._ids[: -self._retention]
        self._on_record(record)
        return record
