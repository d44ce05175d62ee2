"""Decodes deliveries of Auth0's log stream: whatever format, leniently, each bad record apart from its neighbours.

One record is `{"log_id": …, "data": {…}}`; `data` alone is what `GET /api/v2/logs` gives. They come as lines (JSONLINES), an array
(JSONARRAY), `{"logs": […]}` or a bare record (JSONOBJECT), or in EventBridge's `detail`. The Content-Type says nothing: customers choose it.
An ordinary delivery is decoded whole, by msgspec, only the fields that are read. Where that fails it is taken apart and each record is tried alone.
"""

import json
import math
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypedDict

import msgspec
from msgspec import Raw, Struct

from worker.domain.news import Unreadable

# A delivery of more is no delivery of Auth0's: what comes after is kept as one bad record, so memory stays bounded by the body's size.
MAX_RECORDS = 100_000
# A record msgspec refuses gets a second look from the standard library, whose objects take some twenty times the text's memory.
SECOND_LOOK_BYTES = 1 << 20

# How msgspec refuses: malformed or unfit, no UTF-8 where text is wanted, nested too deeply.
_REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_ABSENT = Raw()


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


class Origin:
    """The body a record came in, and where in it: for the rare record that must be parked after it was decoded."""

    __slots__ = ("body", "spans")

    def __init__(self, body: bytes, spans: list[tuple[int, int]] | None = None) -> None:
        self.body = body
        self.spans = spans  # by position; None: nobody asked yet

    def raw(self, position: int) -> bytes:
        """Return the bytes of the record at `position`."""
        if self.spans is None:
            self.spans = list(_values(self.body, _array_start(self.body) or 0))
        start, end = self.spans[position]
        return self.body[start:end]


class LogRecord(Struct, gc=False, kw_only=True):
    """The fields of a record that anybody reads. Only `type` is sure to be text; the rest is what Auth0 sent, None where it sent nothing.

    `gc=False`: no cycle runs through it, and the collector would walk every record of a batch.
    """

    type: str
    date: Any = None
    log_id: Any = None
    user_id: Any = None
    description: Any = None
    connection: Any = None
    connection_id: Any = None
    strategy: Any = None
    client_id: Any = None
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
        try:
            return _decoded(self.raw_details, _DETAILS)
        except ValueError:
            raise Unreadable("the record's details cannot be decoded") from None

    @property
    def correlation_id(self) -> str | None:
        """The `X-Correlation-ID` of the Management API call that made this record, if it had one."""
        try:
            references = _decoded(self.references, _ANY)
        except ValueError:
            return None
        found = references.get("correlation_id") if isinstance(references, dict) else None
        return found if isinstance(found, str) else None


class _Object(Struct):
    """Any object, its fields skipped."""


class _Wrapped(Struct, gc=False):
    data: LogRecord


class _Logs(Struct):
    logs: list[_Wrapped]


class _Elsewhere(Struct):
    logs: Raw


_ANY: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
_DETAILS = msgspec.json.Decoder(_Details)
_OBJECT = msgspec.json.Decoder(_Object)
_WRAPPED = msgspec.json.Decoder(_Wrapped)
_FLAT = msgspec.json.Decoder(LogRecord)
_LOGS = msgspec.json.Decoder(_Logs)
_ELSEWHERE = msgspec.json.Decoder(_Elsewhere)
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
    for attempt in _IN_ARRAY if _opens(body, b"[") else _IN_LOGS if _LOGS_ARRAY.match(body) else _IN_LINES:
        try:
            return attempt(body)
        except _REFUSED:
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
    for position, (start, end) in enumerate(_pieces(body)):
        if position == MAX_RECORDS:
            rest = b"[" * (_array_start(body) is not None) + body[start:]
            bad.append(
                BadRecord(position, f"what follows the first {MAX_RECORDS} records of a delivery, not looked at", rest)
            )
            break
        spans.append((start, end))
        try:
            record = _one(body[start:end])
        except Unreadable as error:
            bad.append(BadRecord(position, str(error), body[start:end]))
        else:
            record.position, record.origin = position, origin
            records.append(record)
    if not records and not _opens(body, b"[{"):
        bad = [BadRecord(0, "not JSON", body)]
    return Decoded(records, bad)


def _one(piece: bytes) -> LogRecord:
    """Decode one record, whatever wraps it; raise Unreadable with the reason where it is bad."""
    try:
        return _WRAPPED.decode(piece).data
    except _REFUSED:
        pass
    if len(piece) > SECOND_LOOK_BYTES:
        raise Unreadable(f"no log record as Auth0 writes them, and longer than {SECOND_LOOK_BYTES} bytes")
    try:
        value = _lenient(piece)
    except RecursionError:
        raise Unreadable("nested too deeply") from None
    except ValueError:
        raise Unreadable("not JSON") from None
    return _unwrapped(value)


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
    return LogRecord(**fields)


def _lenient(text: bytes) -> Any:
    """Decode JSON as the standard library does: with half characters (JavaScript cuts emoji in two), NaN, and numbers of any size.

    Bytes that are no UTF-8 become half characters too: harmless in a name nobody reads, and told by `news.user_id` in an id.
    """
    return json.loads(text.decode("utf-8", "surrogateescape"), parse_int=_integer)


def _integer(digits: str) -> float:
    return int(digits) if len(digits) < 400 else math.inf


def _decoded(raw: Any, decoder: msgspec.json.Decoder[Any]) -> Any:
    """Decode `raw` (or return it, if _lenient has done so); raise ValueError where it cannot be."""
    if not isinstance(raw, Raw):
        return raw
    text = memoryview(raw)
    if not text.nbytes:
        return None
    try:
        return decoder.decode(text)
    except _REFUSED:
        if text.nbytes > SECOND_LOOK_BYTES:
            raise ValueError("too long for a second look") from None
    try:
        return _lenient(bytes(text))
    except RecursionError:
        raise ValueError("nested too deeply") from None


# Where the records are

_INK = re.compile(rb"\S")
_LINE = re.compile(rb"[^\s][^\n]*")
# Everything up to and including the next run of brackets outside strings. Possessive, and matched from where the last one ended, so that
# 16 MiB of anything take linear time.
_BRACKETS = re.compile(rb'(?:[^"\[\]{}]++|"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\Z))*+([\[{]++|[\]}]++)', re.DOTALL)
_SCALAR = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[^,\s]+', re.DOTALL)
_LOGS_ARRAY = re.compile(rb'\s*\{\s*"logs"\s*:\s*\[')
_RECORD_START = re.compile(rb',\s*(?=\{\s*"log_id"\s*:)')


def _opens(body: bytes, brackets: bytes) -> bool:
    first = _INK.search(body)
    return first is not None and first[0] in brackets


def _array_start(body: bytes) -> int | None:
    """Return where the elements begin if `body` is an array of records or `{"logs": […]}`, whole or not; None for anything else."""
    if _opens(body, b"["):
        return body.index(b"[") + 1
    if first := _LOGS_ARRAY.match(body):
        return first.end()
    try:
        logs = bytes(_ELSEWHERE.decode(body).logs)  # the object is whole, its `logs` not its first field
    except _REFUSED:
        return None
    return body.index(logs) + 1 if logs.startswith(b"[") else None


def _pieces(body: bytes) -> Iterator[tuple[int, int]]:
    """Yield where each record starts and ends: elements of the array, else the whole body if it is one object, else lines."""
    start = _array_start(body)
    if start is not None:
        for begin, end in _values(body, start):
            yield from _resynchronised(body, begin, end)
    elif _is_object(body):
        yield 0, len(body)
    else:
        for line in _LINE.finditer(body):
            yield line.start(), line.start() + len(line[0].rstrip())


def _is_object(body: bytes) -> bool:
    try:
        _OBJECT.decode(body)
    except _REFUSED:
        return False
    return True


def _values(body: bytes, start: int) -> Iterator[tuple[int, int]]:
    """Yield where each JSON value from `start` on starts and ends, up to the bracket that closes the array around them, or the end."""
    depth, begin, at = 0, start, start  # `at`: where the last value ended, or the last brackets inside one
    while match := _BRACKETS.match(body, at):
        opens, ends = match.span(1)
        width = ends - opens
        if body[opens] in b"[{":
            if not depth:
                yield from _scalars(body, at, opens)
                begin = opens
            depth += width
        elif width < depth:
            depth -= width
        else:
            if depth:
                yield begin, opens + depth
            else:
                yield from _scalars(body, at, opens)
            if width > depth:
                return
            depth = 0
        at = ends
    if depth:
        yield begin, begin + len(body[begin:].rstrip())
    else:
        yield from _scalars(body, at, len(body))


def _scalars(body: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    for scalar in _SCALAR.finditer(body, start, end):
        yield scalar.span()


def _resynchronised(body: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield `start, end`, cut where further records begin if it is not JSON: a missing bracket in one must not take its neighbours along.

    Inside a string a quote is escaped, so no text of a user's can pass for the start of a record.
    """
    if not _is_object(body[start:end]):
        for cut in _RECORD_START.finditer(body, start, end):
            yield start, cut.start()
            start = cut.end()
    yield start, end
