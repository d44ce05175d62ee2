"""The tenant's events by pull: server-sent events behind an offset, read for as long as they flow.

Source: auth0.com/docs, "Consume Events with the Events API". A connection has no end of its own that says "caught up":
where nothing comes for QUIET seconds it is. auth0-python is not used here: it would reconnect by itself, outside the budget.
"""

from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import httpx
import msgspec

from worker.auth0.client import Tenant
from worker.auth0.transport import CONNECT_SECONDS, MAX_ANSWER_BYTES
from worker.errors import Refused, TenantDown, Throttled
from worker.settings import Settings
from worker.trust import trust

QUIET: Final = 2.0
"""Seconds without a message after which the feed has nothing more to say."""
TYPES: Final = ("user.created", "user.updated", "user.deleted")

_RETRY: Final = 60.0


class OffsetExpired(Exception):  # no error: the reading begins anew
    """Auth0 no longer has what came behind this offset."""


@dataclass(frozen=True, slots=True)
class Message:
    """Where to go on after it, and the event as it came; None where it marks a place alone."""

    offset: str
    event: bytes | None = field(repr=False)


class EventFeed:
    """The Events API. Callers take from the budget before they open it: one token of "other"."""

    def __init__(self, tenant: Tenant, settings: Settings) -> None:
        self._tenant, self._settings = tenant, settings

    def messages(self, offset: str | None, since: datetime) -> Generator[Message, None, None]:
        """Yield what comes behind `offset`, or where that is None what happened since a time, until nothing comes for a while.

        Raises OffsetExpired, Throttled (too many connections, a token that was refused), Refused (scope), TenantDown.
        """
        place = {"from": offset} if offset is not None else {"from_timestamp": _iso(since)}
        token = self._tenant.bearer()
        headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
        limits = httpx.Timeout(self._settings.auth0_timeout.total_seconds(), connect=CONNECT_SECONDS, read=QUIET)
        parameters: dict[str, Any] = {**place, "event_type": list(TYPES)}
        try:
            with (
                httpx.Client(verify=trust(self._settings), timeout=limits) as client,
                client.stream(
                    "GET", f"https://{self._tenant.domain}/api/v2/events", params=parameters, headers=headers
                ) as response,
            ):
                if response.status_code != 200:
                    raise self._refusal(response, token)
                yield from _messages(response.iter_lines())
        except httpx.ReadTimeout:
            return
        except httpx.HTTPError as error:
            raise TenantDown(f"the Events API broke off: {type(error).__name__}") from None

    def _refusal(self, response: httpx.Response, token: str) -> Exception:
        match response.status_code:
            case 400 | 410:
                return OffsetExpired()
            case 401:
                self._tenant.bearer(refused=token)
                return Throttled("Auth0 refused the API token, a new one is needed", retry_after=0.05)
            case 403:
                return Refused("the application lacks the scope read:events: grant it in Auth0", scope="read:events")
            case 429:
                return Throttled("Auth0 allows no more connections to the Events API", retry_after=_seconds(response))
            case status:
                return TenantDown(f"the Events API answered {status}")


def _seconds(response: httpx.Response) -> float:
    try:
        return min(max(float(response.headers.get("retry-after", _RETRY)), 1.0), _RETRY)
    except ValueError:
        return _RETRY


class _Said(msgspec.Struct):
    offset: str | None = None
    event: msgspec.Raw = msgspec.Raw()
    error: Any = None


_SAID: Final = msgspec.json.Decoder(_Said)


def _messages(lines: Iterable[str]) -> Iterator[Message]:
    for fields in _dispatched(lines):
        try:
            said = _SAID.decode(fields.get("data", "{}"))
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            raise TenantDown("the Events API said something that is not its JSON") from None
        if fields.get("event") == "error":
            code = said.error.get("code") if isinstance(said.error, Mapping) else None
            if code == "cursor_expired":
                raise OffsetExpired
            raise TenantDown("the Events API ended with an error")
        offset, event = fields.get("id") or said.offset, bytes(said.event)
        if offset:
            yield Message(offset, event or None)


def _dispatched(lines: Iterable[str]) -> Iterator[dict[str, str]]:
    """Yield the fields of each message. Source: the HTML standard, "Interpreting an event stream"; comments keep it alive."""
    fields: dict[str, str] = {}
    size = 0
    for line in lines:
        if not line:
            if fields:
                yield fields
            fields, size = {}, 0
            continue
        size += len(line)
        if size > MAX_ANSWER_BYTES:
            raise TenantDown("the Events API sent a message without end")
        name, _, value = line.partition(":")
        if name:
            value = value.removeprefix(" ")
            fields[name] = f"{fields[name]}\n{value}" if name == "data" and name in fields else value


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
