"""Server-sent events are the same messages however their bytes are cut, and half a message is no silence."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import httpx
import pytest

from worker.auth0.event_feed import Message, Sign, _messages
from worker.errors import TenantDown

TOLD = [Message("o1", '{"n":"é\u2028"}'.encode()), Message("o2"), Message("o3", b"[1,\n2]")]
LINES = [
    ":connected",
    "",
    "retry: 2000",
    "",
    "event: user.created",
    "id: o1",
    'data: {"offset":"o1","event":{"n":"é\u2028"}}',
    "",
    ": heartbeat",
    "",
    'data:{"offset":"o2"}',
    "",
    'data: {"offset":"o3","event":[1,',
    "data: 2]}",
    "",
    "",
]


def read(chunks: Iterator[bytes]) -> list[Message | Sign]:
    return [said for said in _messages(chunks, 60.0) if said is not Sign.ALIVE]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
def test_a_message_is_the_same_however_it_is_cut(end: str, size: int) -> None:
    whole = end.join(LINES).encode()
    cuts = pairwise([*range(0, len(whole), size), len(whole)])
    assert read(whole[start:stop] for start, stop in cuts) == TOLD


def falls_silent(*chunks: bytes) -> Iterator[bytes]:
    yield from chunks
    raise httpx.ReadTimeout("nothing came")


def test_a_feed_that_falls_silent_is_caught_up() -> None:
    assert read(falls_silent()) == [Sign.CAUGHT_UP]
    assert read(falls_silent(b'data: {"offset":"o"}\n\n')) == [Message("o"), Sign.CAUGHT_UP]


def test_one_that_falls_silent_amid_a_message_is_not() -> None:
    for half in (b"data: {", b'data: {"offset":"o"}\n', b"id: o\n"):
        with pytest.raises(TenantDown, match="in the middle"):
            read(falls_silent(b": \n\n", half))


@pytest.mark.parametrize("line", [b"data: [", b"data: [1]", b"id: \xff", b'data: {"offset":"\\u0000"}'])
def test_what_is_no_message_is_said(line: bytes) -> None:
    with pytest.raises(TenantDown):
        read(iter([line + b"\n\n"]))
