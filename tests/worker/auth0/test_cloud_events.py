"""Deliveries of event streams are decoded leniently, each bad one apart from its neighbours."""

import json
from typing import Any

import pytest

from worker.auth0.cloud_events import decode_events


def event(**fields: Any) -> dict[str, Any]:
    return {"id": "evt_1", "type": "user.updated", "time": "t", "data": {"object": {"user_id": "auth0|a"}}} | fields


def encode(value: object) -> bytes:
    return json.dumps(value).encode()


def types(body: bytes) -> list[str]:
    return [told.type for told in decode_events(body).events]


@pytest.mark.parametrize(
    "body",
    [
        encode([event(), event(type="user.deleted")]),
        encode(event()) + b"\n\r\n " + encode(event(type="user.deleted")) + b"\n",
        b"\xef\xbb\xbf" + encode([event(), event(type="user.deleted")]),
    ],
)
def test_one_event_or_several_in_whatever_format(body: bytes) -> None:
    assert types(body) == ["user.updated", "user.deleted"]


def test_the_event_that_a_delivery_is_as_the_documents_say() -> None:
    [told] = decode_events(body := encode(event(a0purpose="test"))).events
    assert (told.position, told.a0purpose, told.data, told.raw) == (0, "test", {"object": {"user_id": "auth0|a"}}, body)


def test_an_empty_body_holds_nothing() -> None:
    assert decode_events(b" \n ") == ([], [])


@pytest.mark.parametrize("odd", [b"7", b'"x"', b"{}", b'{"type": 7}', b"[]x", b"{", b"nonsense", b"\xff\xfe"])
def test_what_is_no_event_is_set_aside_with_its_bytes(odd: bytes) -> None:
    found = decode_events(encode(event()) + b"\n" + odd + b"\n" + encode(event()))
    assert len(found.events) == 2
    assert odd in b"\n".join(one.raw for one in found.bad)


def test_halves_of_characters_and_huge_numbers_are_read_all_the_same() -> None:
    [told] = decode_events(b'{"type": "user.updated", "data": {"object": {"name": "\\ud800", "n": 1e999}}}').events
    assert told.data["object"]["name"] == "\ud800"


def test_a_body_nested_beyond_all_bounds_is_set_aside() -> None:
    body = b'{"type": "user.updated", "data": ' + b"[" * 200_000
    assert [one.raw for one in decode_events(body).bad] == [body]


def test_nothing_personal_is_printed() -> None:
    assert "auth0|a" not in repr(decode_events(encode(event()))) + repr(decode_events(encode(event())).events[0])
