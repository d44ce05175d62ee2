"""The tenant's log by pull: pages by checkpoint or by date, each as it came.

Source: auth0.com/docs, "Retrieve Log Events Using the Management API" and "Log Search Query Syntax": a page by checkpoint
holds what stands behind `from` in the order of log_ids, and its `Link` names the next; a search shows 1,000 records. What
an expired `from` is answered with is not documented: 400 and 404 both mean it.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeVar
from urllib.parse import unquote

import msgspec
from auth0.management.core.request_options import RequestOptions

from worker.auth0.client import NO_RETRIES, Tenant
from worker.auth0.transport import Answer, NotUsable
from worker.domain.feeds import Entry
from worker.domain.news import news_date

TAKE: Final = 100
"""Records in a page, Auth0's most."""

# A record's date may be seconds off, and the time of an answer is told in whole ones. A later date is wrong.
_SLACK: Final = timedelta(minutes=1)

T = TypeVar("T")

_NEXT: Final = re.compile(r'<[^>]*[?&]from=([^&>]+)[^>]*>;\s*rel="?next')


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the log: `body` as it came, with `count` records, in that order; served at `served_at` by Auth0's clock."""

    body: bytes = field(repr=False)
    count: int
    records: Sequence[Entry] = field(repr=False)
    """Those that have a log_id; a date is None where it says none, or one that is still to come."""
    served_at: datetime
    is_the_end: bool
    """Whether there was no more than this."""

    @property
    def last(self) -> str | None:
        """The log_id to go on from; None: there is nothing new."""
        return self.records[-1].log_id if self.records else None


class CheckpointExpired(Exception):  # no error: the reading begins anew
    """Auth0 no longer has the record to go on from, and said so at `served_at`, by its clock."""

    def __init__(self, served_at: datetime) -> None:
        super().__init__("the checkpoint has expired")
        self.served_at = served_at


class LogPages:
    """The tenant's log. Callers take from the budget before they ask: one token of "read_logs" per method."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant

    def after(self, log_id: str) -> Page:
        """Return the page behind a record, in the order of log_ids; raises CheckpointExpired."""
        page = self._ask({"from": log_id, "take": TAKE}, _read_page_or_none)
        if isinstance(page, datetime):
            raise CheckpointExpired(page)
        return page

    def before(self, date: datetime) -> Page:
        """Return the newest record dated earlier than `date`; an empty page where there is none."""
        return self._search(f"date:[* TO {_said(date)}}}", sort="date:-1", per_page=1, page=0)

    def since(self, date: datetime, number: int) -> Page:
        """Return a page, of ten at most, of the records dated `date` or later, in the order of their dates."""
        return self._search(f"date:[{_said(date)} TO *]", sort="date:1", per_page=TAKE, page=number)

    def _search(self, q: str, **how: Any) -> Page:
        return self._ask({"q": q, **how}, _read_page)

    def _ask(self, parameters: dict[str, Any], read: Callable[[Answer], T]) -> T:
        options: RequestOptions = {**NO_RETRIES, "additional_query_parameters": parameters}
        return self._tenant.ask(
            "read_logs",
            "read:logs",
            lambda api: api.logs.list(page=None, per_page=None, include_totals=None, request_options=options),
            read,
        )


def _said(date: datetime) -> str:
    return date.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


class _Peek(msgspec.Struct, gc=False):
    log_id: Any = None
    date: Any = None


_RECORDS = msgspec.json.Decoder(list[_Peek])


def _read_page_or_none(answer: Answer) -> Page | datetime:
    """Return the page, or when it was said that there is none behind that record any more."""
    body = answer.json_object()
    if answer.status in (400, 404) and body is not None and body.get("statusCode") == answer.status:
        return _served_at(answer)
    return _read_page(answer)


def _read_page(answer: Answer) -> Page:
    found = _records(answer.body) if answer.status == 200 else None
    if found is None:
        raise NotUsable
    served_at = _served_at(answer)
    records = [
        Entry(one.log_id, news_date(one.date, served_at + _SLACK))
        for one in found
        if isinstance(one.log_id, str) and one.log_id
    ]
    link = _NEXT.search(answer.headers.get("link", ""))
    if link and records:
        records[-1] = records[-1]._replace(log_id=unquote(link[1]))
    return Page(answer.body, len(found), records, served_at, is_the_end=len(found) < TAKE)


def _records(body: bytes) -> Sequence[_Peek] | None:
    try:
        return _RECORDS.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        found = json.loads(body, strict=False)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, list):
        return None
    return [_Peek(one.get("log_id"), one.get("date")) if isinstance(one, dict) else _Peek() for one in found]


def _served_at(answer: Answer) -> datetime:
    """Return when Auth0 answered, by its own clock; by ours where it does not say."""
    try:
        return parsedate_to_datetime(answer.headers.get("date", "")).astimezone(UTC)
    except ValueError:
        return datetime.now(UTC)
