"""What callers send: the kinds of fields, the bases of bodies and queries, and how they are read or refused."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Final, TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta, Struct

from api.problems import Problem

MAX_BODY_BYTES: Final = 16 * 1024
"""The largest body of any route: a playlist of 500 songs takes 10 KB."""

# No control characters, no line or paragraph separators, nothing that turns the direction of the text around it; and at
# least one character to see. In the one dialect that Python and JSON Schema share, where "$" also matches before a last "\n".
_ODD: Final = r"\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069"
_TEXT: Final = rf"^[^{_ODD}]*[^\s{_ODD}][^{_ODD}]*$(?!\n)"

Name = Annotated[str, Meta(min_length=1, max_length=100, pattern=_TEXT)]
Genre = Annotated[str, Meta(min_length=1, max_length=50, pattern=_TEXT)]
SongName = Annotated[str, Meta(min_length=1, max_length=200, pattern=_TEXT)]
Id = Annotated[int, Meta(ge=1, le=2**63 - 1)]


class Body(Struct, forbid_unknown_fields=True, gc=False):
    """The base of bodies: JSON objects without unknown fields."""


class Query(Struct, forbid_unknown_fields=True, gc=False):
    """The base of queries; this one is empty."""


class Page(Query):
    """Which part of a list: at most `limit` items, those after `cursor`, which is what the page before called `next`."""

    cursor: Annotated[str, Meta(pattern=r"^[0-9]{1,18}$(?!\n)")] = "0"
    limit: Annotated[int, Meta(ge=1, le=100)] = 50

    @property
    def after(self) -> int:
        """The id after which the page begins."""
        return int(self.cursor)


B = TypeVar("B", bound=Body)
Q = TypeVar("Q", bound=Query)


class Invalid(Problem):
    """422: a field is not what it should be. `errors` names it, by a JSON pointer into the body or by its parameter."""

    def __init__(self, where: Mapping[str, str], detail: str) -> None:
        # A parameter may have no name at all: "?=1".
        name = where["parameter"] if "parameter" in where else where["pointer"].removeprefix("#/")
        super().__init__(422, f"{name}: {detail}" if name else detail, errors=[{"detail": detail, **where}])


def read_body(kind: type[B], body: bytes) -> B:
    """Decode a JSON body. Raises Problem: 400 for what is no JSON, 422 for a field that is wrong."""
    try:
        decoded: B = _decoder(kind).decode(body)
    except msgspec.ValidationError:  # a wrong type may come before the place where the JSON breaks
        return convert(kind, _json(body))
    except (ValueError, RecursionError):  # msgspec.DecodeError is one, and so is UnicodeDecodeError
        raise _no_json() from None
    return decoded


def convert(kind: type[B], given: object) -> B:
    """Return what was given, as JSON or by a form, as this kind of body. Raises Invalid."""
    try:
        return msgspec.convert(_whole_numbers(given), kind)
    except msgspec.ValidationError as error:
        path, detail = _explain(str(error))
        raise Invalid({"pointer": "#" + "".join(f"/{_escaped(part)}" for part in path)}, detail) from None


def _whole_numbers(value: object) -> object:
    """Return JSON in which 5.0 is 5: JSON Schema takes it for an integer, and there are languages that write it."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, list):
        return [_whole_numbers(item) for item in value]
    if isinstance(value, dict):
        return {name: _whole_numbers(item) for name, item in value.items()}
    return value


def read_query(kind: type[Q], query: bytes) -> Q:
    """Decode a query string. Raises Invalid."""
    if not query:
        return kind()
    given: dict[str, str] = {}
    for name, value in parse_qsl(query[:2048].decode("latin-1"), keep_blank_values=True):
        if name in given:
            raise Invalid({"parameter": name[:50]}, "must be given once")
        given[name] = value
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        path, detail = _explain(str(error))
        raise Invalid({"parameter": ".".join(path)}, detail) from None


@lru_cache
def _decoder(kind: type[B]) -> msgspec.json.Decoder[B]:
    return msgspec.json.Decoder(kind)


def _json(body: bytes) -> object:
    try:
        return msgspec.json.decode(body)
    except (ValueError, RecursionError):
        raise _no_json() from None


def _no_json() -> Problem:
    return Problem(400, "The body is no JSON in UTF-8.")


_MESSAGE: Final = re.compile(r"(.*?)(?: - at `\$([^`]*)`)?", re.DOTALL)
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING: Final = re.compile(r"Object missing required field `(.*)`", re.DOTALL)


def _explain(message: str) -> tuple[list[str], str]:
    """Translate msgspec's message into the field's path and a sentence about it."""
    match = _MESSAGE.fullmatch(message)
    said, place = (match[1], match[2] or "") if match else (message, "")
    path = re.findall(r"[^.\[\]]+", place)
    if unknown := _UNKNOWN.fullmatch(said):
        return [*path, unknown[1][:50]], "is not a field of this"
    if missing := _MISSING.fullmatch(said):
        return [*path, missing[1]], "is missing"
    if "matching regex" in said:
        is_cursor = path == ["cursor"]
        return (
            path,
            "must be a `next` of an earlier page" if is_cursor else "must be text to see, without control characters",
        )
    return path, re.sub(r"`(str|int|object|array|bool|float|null)", r"`\1", said[:1].lower() + said[1:])


def _escaped(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")
