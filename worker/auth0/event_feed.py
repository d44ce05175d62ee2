"""The tenant's events by pull: server-sent events behind an offset, read for as long as they flow.

Source: auth0.com/docs, "Consume Events with the Events API". A connection has no end of its own that says "caught up":
where nothing comes for QUIET seconds it is. auth0-python is not used here: it would reconnect by itself, outside the budget.
"""

import re
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Any, Final

import httpx
import msgspec

from worker.auth0.client import Tenant
from worker.auth0.transport import CONNECT_SECONDS, MAX_ANSWER_BYTES
from worker.errors import Refused, TenantDown, Throttled
from worker.settings import Settings
from worker.trust import trust

QUIET: Final = 2.0
"""Seconds without anything new after which the feed has nothing more to say."""
TYPES: Final = ("user.created", "user.updated", "user.deleted")

_RETRY: Final = 60.0
_MEDIA_TYPE: Final = "text/event-stream"


class OffsetExpired(Exception):  # no error: the reading begins anew
    """Auth0 does not go on from this offset, or begin at this time; the text says how it put that."""


@dataclass(frozen=True, slots=True)
class Message:
    """Where to go on after it, and the event as it came; None where it marks a place alone."""

    offset: str
    event: bytes | None = field(default=None, repr=False)


class Sign(Enum):
    """What a reader is told beside messages."""

    ALIVE = auto()
    """Something came, if only a comment: a moment to ask whether to read on."""
    CAUGHT_UP = auto()
    """There is nothing more to say. The last that is told; without it the connection ended before."""


class EventFeed:
    """The Events API. Callers take from the budget before they open it: one token of "other"."""

    def __init__(self, tenant: Tenant, settings: Settings) -> None:
        self._tenant, self._settings = tenant, settings

    def messages(self, offset: str | None, since: datetime) -> Generator[Message | Sign, None, None]:
        """Yield what comes behind `offset`, or where that is None what happened since a time, until nothing comes for a while.

        Nothing is awaited for longer than AUTH0_TIMEOUT. Raises OffsetExpired, Throttled (too many connections, a token that
        was refused), Refused (scope), TenantDown.
        """
        place = {"from": offset} if offset is not None else {"from_timestamp": _iso(since)}
        token = self._tenant.bearer()
        # Compressed, bytes could come without anything to look at.
        headers = {"Authorization": f"Bearer {token}", "Accept": _MEDIA_TYPE, "Accept-Encoding": "identity"}
        patience = self._settings.auth0_timeout.total_seconds()
        timeouts = httpx.Timeout(patience, connect=CONNECT_SECONDS).as_dict()
        # Without an offset the reading would begin later next time, so a slow first word must not be taken for none.
        quiet = QUIET if offset is not None else patience
        try:
            with (
                httpx.Client(verify=trust(self._settings)) as client,
                client.stream(
                    "GET",
                    f"https://{self._tenant.domain}/api/v2/events",
                    params={**place, "event_type": list(TYPES)},
                    headers=headers,
                    extensions={"timeout": timeouts},
                ) as response,
            ):
                if response.status_code != 200:
                    raise self._refusal(response, token)
                if response.headers.get("content-type", "").partition(";")[0].strip().lower() != _MEDIA_TYPE:
                    raise TenantDown("the Events API answered something that is no stream of events")
                timeouts["read"] = quiet  # looked at anew for the body: the head was worth a longer wait
                yield from _messages(response.iter_bytes(), quiet)
        except httpx.HTTPError as error:
            raise TenantDown(f"the Events API broke off: {type(error).__name__}") from None

    def _refusal(self, response: httpx.Response, token: str) -> Exception:
        match response.status_code:
            case 400 | 410 as status:
                return OffsetExpired(f"the Events API answered {status}")
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


def _messages(chunks: Iterator[bytes], quiet: float) -> Iterator[Message | Sign]:
    """Yield messages, and a sign of life after each chunk; raise TenantDown where the connection ends and nothing was told."""
    reader, place, waited = _Reader(), "", 0.0
    for chunk, seconds in _awaited(chunks, quiet):
        waited += seconds
        for fields in reader.read(chunk):
            said = _message(fields)
            if said is not None:
                if said.event is not None or said.offset != place:  # a place told again is a comment
                    waited = 0.0
                place = said.offset
                yield said
        if waited >= quiet:
            if reader.is_amid:
                raise TenantDown("the Events API stopped in the middle of a message")
            yield Sign.CAUGHT_UP
            return
        yield Sign.ALIVE
    if not place:
        raise TenantDown("the Events API ended the connection before it told anything")


def _awaited(chunks: Iterator[bytes], quiet: float) -> Iterator[tuple[bytes, float]]:
    """Yield each chunk and for how many seconds it was awaited; an empty one where none comes for so long."""
    while True:
        began = time.monotonic()
        try:
            chunk = next(chunks, None)
        except httpx.ReadTimeout:
            yield b"", quiet
            return
        if chunk is None:
            return
        yield chunk, time.monotonic() - began


def _message(fields: Mapping[bytes, bytes]) -> Message | None:
    try:
        said = _SAID.decode(fields.get(b"data") or b"{}")
        offset = fields.get(b"id", b"").decode() or said.offset
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise TenantDown("the Events API said something that is not its JSON") from None
    if fields.get(b"event") == b"error":
        code = said.error.get("code") if isinstance(said.error, Mapping) else None
        if code == "cursor_expired":
            raise OffsetExpired("the Events API said cursor_expired")
        raise TenantDown("the Events API ended with an error")
    if not offset:
        return None
    if "\0" in offset:
        raise TenantDown("the Events API gave an offset that cannot be kept")
    return Message(offset, bytes(said.event) or None)


_LINE_END: Final = re.compile(rb"\r\n|\n|\r")


class _Reader:
    """Makes messages of bytes. Source: the HTML standard, "Interpreting an event stream"; comments keep it alive.

    httpx's own lines would not do: they end at U+2028 and the like too, which a name may hold.
    """

    def __init__(self) -> None:
        self._fields: dict[bytes, bytes] = {}
        self._line: list[bytes] = []
        self._size = 0
        self._after_cr = False

    @property
    def is_amid(self) -> bool:
        """Whether a part of a message has come, and not its end."""
        return bool(self._fields or any(self._line))

    def read(self, chunk: bytes) -> Iterator[dict[bytes, bytes]]:
        """Yield the fields of each message that ends in this chunk."""
        if not chunk:
            return
        if self._after_cr:
            chunk = chunk.removeprefix(b"\n")
        self._after_cr = chunk.endswith(b"\r")
        first, *others = _LINE_END.split(chunk)
        self._add(first)
        for part in others:
            line, self._line = b"".join(self._line), []
            if line:
                self._field(line)
            elif self._fields:
                yield self._fields
                self._fields, self._size = {}, 0
            self._add(part)

    def _add(self, part: bytes) -> None:
        self._line.append(part)
        self._size += len(part)
        if self._size > MAX_ANSWER_BYTES:
            raise TenantDown("the Events API sent a message without end")

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if not name:
            self._size -= len(line)  # a comment is kept nowhere
            return
        value = value.removeprefix(b" ")
        held = self._fields.get(name)
        self._fields[name] = value if held is None or name != b"data" else held + b"\n" + value


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
