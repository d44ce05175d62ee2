"""Decodes deliveries of Auth0's log stream: whatever format, leniently, each bad record apart from its neighbours.

One record is `{"log_id": …, "data": {…}}`; `data` alone is what `GET /api/v2/logs` gives. They come as lines (JSONLINES), an array
(JSONARRAY), `{"logs": […]}` or a bare record (JSONOBJECT), or in EventBridge's `detail`. The Content-Type says nothing: customers choose it.
An ordinary delivery is decoded whole, by msgspec, only the fields that are read. Where that fails it is taken apart and each record is tried alone.
"""

import json
import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypedDict

import msgspec
from msgspec import Raw, Struct

from worker.auth0.spans import LOGS_ARRAY, REFUSED, array_bounds, opens, pieces, values
from worker.domain.news import Unreadable

# A delivery of more is no delivery of Auth0's: what comes after is kept as one bad record, so memory stays bounded by the body's size.
MAX_RECORDS = 100_000
_TOO_MANY = f"what follows the first {MAX_RECORDS} records of a delivery, not looked at"
# A record msgspec refuses gets a second look from the standard library, whose objects take some twenty times the text's memory.
SECOND_LOOK_BYTES = 1 << 20

_ABSENT = Raw()

# What nobody reads may be anything; what is read is one value. An object in its place (some dates are) gets the second look, so that
# 16 MiB of them never become Python objects.
_Scalar = str | int | float | bool | None


class _Request(TypedDict, total=False):
    method: Any
    path: Any
    query: Any
    body: Any


class _Response(TypedDict, total=False):
    body: Any


class _Details(TypedDict, total=False):
    """What is read of `details`: most of its bulk (scopes, prompts, user agents) is skipped."""

    request: _Request
    response: _Response
    query: Any
    body: Any


class _Call(TypedDict, total=False):
    method: str
    path: str


class _LargeDetails(TypedDict, total=False):
    request: _Call


class Origin:
    """The body a record came in, and where in it: for the rare record that must be parked after it was decoded."""

    __slots__ = ("body", "spans")

    def __init__(self, body: bytes, spans: list[tuple[int, int]] | None = None) -> None:
        self.body = body
        self.spans = spans  # by position; None: nobody asked yet

    def raw(self, position: int) -> bytes:
        """Return the bytes of the record at `position`."""
        if self.spans is None:
            self.spans = list(values(self.body, *(array_bounds(self.body) or (0, len(self.body)))))
        start, end = self.spans[position]
        return self.body[start:end]


class LogRecord(Struct, gc=False, kw_only=True):
    """The fields of a record that anybody reads. Only `type` is sure to be text; the rest is what Auth0 sent, None where it sent nothing.

    `gc=False`: no cycle runs through it, and the collector would walk every record of a batch.
    """

    type: str
    date: _Scalar = None
    log_id: _Scalar = None
    user_id: _Scalar = None
    description: _Scalar = None
    connection: _Scalar = None
    connection_id: _Scalar = None
    strategy: _Scalar = None
    client_id: _Scalar = None
    references: Raw = _ABSENT
    raw_details: Raw = msgspec.field(default=_ABSENT, name="details")
    # Ours, not Auth0's, and always set after decoding, whatever a body holds under these names.
    position: int = msgspec.field(default=0, name="(position)")  # in the delivery, from 0; bad records count
    origin: Any = msgspec.field(default=None, name="(origin)")

    def __repr__(self) -> str:
        return f"<log record {self.position}>"  # the rest is personal

    def raw(self) -> bytes:
        """Return the record's bytes exactly as they came."""
        origin: Origin = self.origin
        return origin.raw(self.position)

    @property
    def details(self) -> Any:
        """The decoded details, None where there are none. Decoded at each access: few kinds of record need them."""
        large = memoryview(self.raw_details).nbytes > SECOND_LOOK_BYTES
        try:
            return _decoded(self.raw_details, _LARGE_DETAILS if large else _DETAILS)
        except ValueError:
            raise Unreadable("its details cannot be decoded") from None

    @property
    def correlation_id(self) -> str | None:
        """The `X-Correlation-ID` of the Management API call that made this record, if it had one."""
        try:
            references = _decoded(self.references, _REFERENCES)
        except ValueError:
            return None
        found = references.get("correlation_id") if isinstance(references, dict) else None
        return found if isinstance(found, str) else None


class _References(TypedDict, total=False):
    correlation_id: str


class _Wrapped(Struct, gc=False):
    data: LogRecord


class _Logs(Struct):
    logs: list[_Wrapped]


_DETAILS = msgspec.json.Decoder(_Details)
_LARGE_DETAILS = msgspec.json.Decoder(_LargeDetails)
_REFERENCES = msgspec.json.Decoder(_References)
_WRAPPED = msgspec.json.Decoder(_Wrapped)
_FLAT = msgspec.json.Decoder(LogRecord)
_LOGS = msgspec.json.Decoder(_Logs)
_WRAPPED_ARRAY = msgspec.json.Decoder(list[_Wrapped])
_FLAT_ARRAY = msgspec.json.Decoder(list[LogRecord])
_FIELDS = {
    field.name: field.encode_name
    for field in msgspec.structs.fields(LogRecord)
    if not field.encode_name.startswith("(")
}


class BadRecord(NamedTuple):
    """A record that cannot be decoded: its place in the delivery (from 0), why, and its own bytes. The reason holds no personal data."""

    position: int
    reason: str
    raw: bytes

    def __repr__(self) -> str:
        return f"<bad record {self.position}: {self.reason}>"


class Decoded(NamedTuple):
    """A decoded delivery: every record it held is in `records`, in order, or in `bad`."""

    records: list[LogRecord]
    bad: list[BadRecord]

    def __repr__(self) -> str:
        return f"<{len(self.records)} records, {len(self.bad)} bad>"


def decode_delivery(body: bytes) -> Decoded:
    """Decode the (decompressed) body of a delivery; never raises. An empty one holds no records."""
    body = body.removeprefix(b"\xef\xbb\xbf")
    if not body or body.isspace():
        return Decoded([], [])
    records = _whole(body)
    if records is None:
        return _apart(body)
    origin = Origin(body)
    for position, record in enumerate(records):
        record.position = position
        record.origin = origin
    return Decoded(records, [])


def _whole(body: bytes) -> list[LogRecord] | None:
    """Decode all records at once; None where one of them, or the shape, is out of the ordinary."""
    if len(body) > SECOND_LOOK_BYTES and body.count(b'"type"') > MAX_RECORDS:
        return None
    for attempt in _IN_ARRAY if opens(body, b"[") else _IN_LOGS if LOGS_ARRAY.match(body) else _IN_LINES:
        try:
            return attempt(body)
        except REFUSED:
            continue
    return None


_Attempts = tuple[Callable[[bytes], list[LogRecord]], ...]
_IN_ARRAY: _Attempts = (lambda body: [one.data for one in _WRAPPED_ARRAY.decode(body)], _FLAT_ARRAY.decode)
_IN_LOGS: _Attempts = (lambda body: [one.data for one in _LOGS.decode(body).logs],)
_IN_LINES: _Attempts = (lambda body: [one.data for one in _WRAPPED.decode_lines(body)], _FLAT.decode_lines, *_IN_LOGS)


# A delivery taken apart


def _apart(body: bytes) -> Decoded:
    """Try each record alone. What is no delivery at all (another encoding, a page of HTML) is one bad record, not one for each of its lines."""
    spans: list[tuple[int, int]] = []
    origin = Origin(body, spans)
    records: list[LogRecord] = []
    bad: list[BadRecord] = []
    for position, (start, end) in enumerate(pieces(body)):
        if position == MAX_RECORDS:
            bad.append(BadRecord(position, _TOO_MANY, b"[" * (array_bounds(body) is not None) + body[start:]))
            break
        spans.append((start, end))
        try:
            record = _one(body[start:end])
        except Unreadable as error:
            bad.append(BadRecord(position, str(error), body[start:end]))
        else:
            record.position, record.origin = position, origin
            records.append(record)
    if not records and not opens(body, b"[{"):
        bad = [BadRecord(0, "no delivery of log records", body)]
    return Decoded(records, bad)


def _one(piece: bytes) -> LogRecord:
    """Decode one record, whatever wraps it; raise Unreadable with the reason where it is bad."""
    try:
        return _WRAPPED.decode(piece).data
    except REFUSED:
        pass
    if len(piece) > SECOND_LOOK_BYTES:
        raise Unreadable(f"no log record as Auth0 writes them, and longer than {SECOND_LOOK_BYTES} bytes")
    try:
        return _unwrapped(_lenient(piece))
    except Unreadable:
        raise
    except RecursionError:
        raise Unreadable("nested too deeply") from None
    except ValueError:
        raise Unreadable("not JSON") from None


def _unwrapped(value: Any) -> LogRecord:
    if isinstance(value, dict) and isinstance(value.get("detail"), dict):
        value = value["detail"]  # EventBridge
    if not isinstance(value, dict):
        raise Unreadable("not an object")
    data = value.get("data", value)
    if not isinstance(data, dict):
        raise Unreadable("its data is not an object")
    code = data.get("type")
    if code in (None, ""):
        raise Unreadable("it has no type")
    if not isinstance(code, str):
        raise Unreadable("its type is not text")
    fields: dict[str, Any] = {name: data.get(key) for name, key in _FIELDS.items()}
    for name in ("references", "raw_details"):
        fields[name] = _ABSENT if fields[name] is None else Raw(json.dumps(fields[name]).encode())
    return LogRecord(**fields)


def _lenient(text: bytes) -> Any:
    """Decode JSON as the standard library can: with half characters (JavaScript cuts emoji in two), control characters, numbers of any size.

    Bytes that are no UTF-8 become half characters too: harmless in a name nobody reads, and told by `news.user_id` in an id.
    """
    return json.loads(text.decode("utf-8", "surrogateescape"), parse_int=_integer, strict=False)


def _integer(digits: str) -> float:
    return int(digits) if len(digits) < 400 else math.inf


def _decoded(raw: Raw, decoder: msgspec.json.Decoder[Any]) -> Any:
    """Decode `raw`, None if it is absent; raise ValueError where it cannot be."""
    text = memoryview(raw)
    if not text.nbytes:
        return None
    try:
        return decoder.decode(text)
    except REFUSED:
        if text.nbytes > SECOND_LOOK_BYTES:
            raise ValueError("too long for a second look") from None
    try:
        return _lenient(bytes(text))
    except RecursionError:
        raise ValueError("nested too deeply") from None
