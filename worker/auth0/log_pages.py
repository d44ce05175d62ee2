"""The tenant's log by pull: pages by checkpoint, each as it came.

Source: auth0.com/docs, "Retrieve Log Events Using the Management API": a page holds what stands behind `from` in the order
of log_ids, and its `Link` names the next. What an expired `from` is answered with is not documented: 400 and 404 both mean it.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeVar
from urllib.parse import unquote

import msgspec
from auth0.management.core.request_options import RequestOptions

from worker.auth0.client import NO_RETRIES, Tenant
from worker.auth0.transport import Answer, NotUsable
from worker.domain.news import news_date

TAKE: Final = 100
"""Records in a page, Auth0's most."""

T = TypeVar("T")

_NEXT: Final = re.compile(r'<[^>]*[?&]from=([^&>]+)[^>]*>;\s*rel="?next')


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the log: `body` as it came, `last` the log_id to go on from (None: nothing new), times by Auth0's clock."""

    body: bytes = field(repr=False)
    count: int
    last: str | None
    latest: datetime
    """The newest date among its records, never after `served_at`; `served_at` where none has one."""
    served_at: datetime

    @property
    def is_the_end(self) -> bool:
        """Whether the log had no more than this."""
        return self.count < TAKE


class CheckpointExpired(Exception):  # no error: the reading begins anew
    """Auth0 no longer has the record to go on from."""


class LogPages:
    """The tenant's log. Callers take from the budget before they ask: one token of "read_logs" per method."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant

    def after(self, log_id: str) -> Page:
        """Return the page behind a record; raises CheckpointExpired."""
        page = self._ask({"from": log_id, "take": TAKE}, _read_page_or_none)
        if page is None:
            raise CheckpointExpired
        return page

    def since(self, date: datetime) -> Page:
        """Return the first records dated `date` or later, to go on from the first; an empty page where there are none.

        Ordered by date, which is not the order of log_ids: what is written out of order stands among the records, or behind
        the first.
        """
        said = date.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        asked = {"q": f'date:["{said}" TO *]', "sort": "date:1", "per_page": TAKE, "page": 0}
        return self._ask(asked, _read_first_page)

    def _ask(self, parameters: dict[str, Any], read: Callable[[Answer], T]) -> T:
        options: RequestOptions = {**NO_RETRIES, "additional_query_parameters": parameters}
        return self._tenant.ask(
            "read_logs",
            "read:logs",
            lambda api: api.logs.list(page=None, per_page=None, include_totals=None, request_options=options),
            read,
        )


class _Peek(msgspec.Struct, gc=False):
    log_id: Any = None
    date: Any = None


_RECORDS = msgspec.json.Decoder(list[_Peek])


def _read_page_or_none(answer: Answer) -> Page | None:
    body = answer.json_object()
    if answer.status in (400, 404) and body is not None and body.get("statusCode") == answer.status:
        return None
    return _read_page(answer)


def _read_first_page(answer: Answer) -> Page:
    page = _read_page(answer)
    first = next(
        (one.log_id for one in _records(answer.body) or () if isinstance(one.log_id, str) and one.log_id), None
    )
    return replace(page, last=first)


def _read_page(answer: Answer) -> Page:
    records = _records(answer.body) if answer.status == 200 else None
    if records is None:
        raise NotUsable
    served_at = _served_at(answer)
    dates = [date for one in records if (date := news_date(one.date, served_at + timedelta(days=1))) is not None]
    link = _NEXT.search(answer.headers.get("link", ""))
    ids = [one.log_id for one in records if isinstance(one.log_id, str) and one.log_id]
    last = None if not records else unquote(link[1]) if link else ids[-1] if ids else None
    return Page(answer.body, len(records), last, min(max(dates, default=served_at), served_at), served_at)


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
