"""Management API: the tenant log, by checkpoint and by page."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlencode

import msgspec

from simulator.errors import ApiError, invalid_query
from simulator.logs import LogRecord
from simulator.management import Answer, Call, Endpoint
from simulator.tenant import Tenant
from simulator.users_api import SEARCH_CAP, number_of

RETENTION_DAYS = {"free": 1, "essentials": 5, "professional": 10}
"""Days that a plan keeps its log (Log Data Retention, Auth0 docs); the others 30."""
_DAY = 86_400
_DATE = re.compile(r'date:\[\s*"?([^\s"]+)"?\s+TO\s+"?([^\s"\]}]+)"?\s*([\]}])')


class LogsApi:
    """Handlers of `/api/v2/logs*`."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant

    def endpoints(self) -> list[Endpoint]:
        scopes = ("read:logs", "read:logs_users")
        return [
            Endpoint("GET", "/api/v2/logs", scopes, self.pull),
            Endpoint("GET", "/api/v2/logs/{id}", scopes, self.get),
        ]

    def get(self, call: Call) -> Answer:
        record = self._tenant.logs.find(call.params["id"])
        if record is None:
            raise ApiError(404, "Log not found", "inexistent_log")
        return Answer(record.flat())

    def pull(self, call: Call) -> Answer:
        """With `from`: by checkpoint, whatever else is asked. Otherwise the newest first, by page."""
        self._let_go()
        if "from" in call.query or "take" in call.query:
            return self._from_checkpoint(call)
        per_page, page = number_of(call.query, "per_page", 50, 100), number_of(call.query, "page", 0, None)
        if (page + 1) * per_page > SEARCH_CAP:
            raise ApiError(400, "You can only page through the first 1000 records.", "invalid_paging")
        wanted = _condition(call.query.get("q"))
        found = _sorted([record for record in self._tenant.logs.newest() if wanted(record)], call.query.get("sort"))
        start = page * per_page
        logs = [record.flat() for record in found[start : start + per_page]]
        if call.query.get("include_totals") != "true":
            return Answer(logs)
        return Answer({"start": start, "limit": per_page, "length": len(logs), "total": len(found), "logs": logs})

    def _from_checkpoint(self, call: Call) -> Answer:
        logs, take = self._tenant.logs, number_of(call.query, "take", 50, 100)
        checkpoint = call.query.get("from", "")
        if checkpoint and logs.has_expired(checkpoint) and logs.aging.expired_status != 200:
            raise ApiError(logs.aging.expired_status, "The log_id in from does not exist any more.", "invalid_log_id")
        records = logs.after(checkpoint, take)
        following = urlencode({"from": records[-1].log_id if records else checkpoint, "take": take})
        link = f'<{self._tenant.authority.audience}logs?{following}>; rel="next"'
        return Answer([record.flat() for record in records], headers={"Link": link})

    def _let_go(self) -> None:
        """Forget what is older than the plan keeps it."""
        days = self._tenant.logs.aging.retention_days
        days = RETENTION_DAYS.get(self._tenant.limits.plan, 30) if days is None else days
        self._tenant.logs.expire_before(self._tenant.clock() - days * _DAY)


class _Dated(msgspec.Struct):
    date: str = ""


_decode_date = msgspec.json.Decoder(_Dated).decode


def _date_of(record: LogRecord) -> str:
    try:
        return _decode_date(record.data).date
    except msgspec.ValidationError:
        return ""


def _condition(q: str | None) -> Callable[[LogRecord], bool]:
    """Read `type:s`, `type:(s OR f)`, `date:[a TO b]` and `date:[a TO b}` (without b), joined by AND. Auth0 takes more; ApiError 400 says so here."""
    conditions = [_single(part.strip()) for part in q.split(" AND ")] if q else []
    return lambda record: all(holds(record) for holds in conditions)


def _single(part: str) -> Callable[[LogRecord], bool]:
    if part.startswith("type:"):
        codes = set(part.removeprefix("type:").replace('"', "").strip("() ").split(" OR "))
        return lambda record: record.type in codes
    match = _DATE.fullmatch(part)
    if match is None:
        raise invalid_query("This simulator searches logs by type and date alone")
    since, until = match[1].replace("*", ""), match[2].replace("*", "~")
    if match[3] == "}":
        return lambda record: bool(date := _date_of(record)) and since <= date < until
    return lambda record: bool(date := _date_of(record)) and since <= date and date[: len(until)] <= until


def _sorted(records: list[LogRecord], sort: str | None) -> list[LogRecord]:
    """Sort by `date:1` or `date:-1`; without, as they stand: by their ids."""
    if sort is None:
        return records
    if sort not in {"date:1", "date:-1"}:
        raise invalid_query(f"Invalid sort {sort}")
    return sorted(records, key=_date_of, reverse=sort == "date:-1")
