"""Finds where each record starts and ends in the bytes of a delivery, so that a broken one takes none of its neighbours along."""

import re
from collections.abc import Iterator

import msgspec
from msgspec import Raw, Struct

# How msgspec refuses: malformed or unfit, no UTF-8 where text is wanted, nested too deeply.
REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _Object(Struct):
    """Any object, its fields skipped."""


class _Elsewhere(Struct):
    logs: Raw


_OBJECT = msgspec.json.Decoder(_Object)
_ELSEWHERE = msgspec.json.Decoder(_Elsewhere)

_INK = re.compile(rb"\S")
_LINE = re.compile(rb"[^\s][^\n]*")
# Everything up to and including the next run of brackets outside strings. Possessive, and matched from where the last one ended, so that
# 16 MiB of anything take linear time.
_BRACKETS = re.compile(rb'(?:[^"\[\]{}]++|"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\Z))*+([\[{]++|[\]}]++)', re.DOTALL)
_SCALAR = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[^,\s]+', re.DOTALL)
LOGS_ARRAY = re.compile(rb'\s*\{\s*"logs"\s*:\s*\[')
_RECORD_START = re.compile(rb',\s*(?=\{\s*"log_id"\s*:)')


def opens(body: bytes, brackets: bytes) -> bool:
    """Say whether the first byte that is no space is one of `brackets`."""
    first = _INK.search(body)
    return first is not None and first[0] in brackets


def array_bounds(body: bytes) -> tuple[int, int] | None:
    """Return where the elements are if `body` is an array of records or `{"logs": […]}`, whole or broken; None for anything else."""
    if opens(body, b"["):
        return body.index(b"[") + 1, len(body)
    try:
        logs = bytes(_ELSEWHERE.decode(body).logs)
    except REFUSED:
        broken = LOGS_ARRAY.match(body)
        return (broken.end(), len(body)) if broken else None
    start = body.index(logs)
    return (start + 1, start + len(logs)) if logs.startswith(b"[") else None


def pieces(body: bytes) -> Iterator[tuple[int, int]]:
    """Yield where each record starts and ends, however broken: elements of the array, else the whole body if it is one object, else lines."""
    bounds = array_bounds(body)
    if bounds:
        yield from _elements(body, *bounds)
    elif _is_object(body):
        yield 0, len(body)
    else:
        for line in _LINE.finditer(body):
            yield line.start(), line.start() + len(line[0].rstrip())


def _elements(body: bytes, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield the elements of an array. Brackets tell where they end; after a broken one, where records begin does, if that can be told.

    A quote inside a string is escaped, so no text of a user's can pass for the start of a record.
    """
    told = False
    for begin, end in values(body, start, stop):
        if not told and not _is_object(body[begin:end]):
            told = True  # look once: where no record begins after this one, none does after a later one
            if _RECORD_START.search(body, begin, stop):
                yield from _from_start_to_start(body, begin, stop)
                return
        yield begin, end


def _from_start_to_start(body: bytes, start: int, stop: int) -> Iterator[tuple[int, int]]:
    for cut in _RECORD_START.finditer(body, start, stop):
        yield start, cut.start()
        start = cut.end()
    yield from values(body, start, stop)


def _is_object(body: bytes) -> bool:
    try:
        _OBJECT.decode(body)
    except REFUSED:
        return False
    return True


def values(body: bytes, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield where each JSON value between `start` and `stop` starts and ends; commas and brackets without a partner count for nothing."""
    depth, begin, at = 0, start, start  # `at`: the end of the last value, or of the last brackets inside one
    while match := _BRACKETS.match(body, at, stop):
        bracket, end = match.span(1)
        width = end - bracket
        if not depth:
            yield from _scalars(body, at, bracket)
        if body[bracket] in b"[{":
            begin = begin if depth else bracket
            depth += width
        elif width < depth:
            depth -= width
        else:
            if depth:
                yield begin, bracket + depth
            depth = 0
        at = end
    if depth:
        yield begin, begin + len(body[begin:stop].rstrip())
    else:
        yield from _scalars(body, at, stop)


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
