"""What can be read off a search's bytes, odd users among good ones."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from worker.auth0.search import Found, raw_users, read_search
from worker.auth0.transport import Answer, NotUsable

ASKED = ["a", "b", "c"]


def found(body: bytes) -> Found:
    answer = read_search(Answer(200, httpx.Headers(), body))
    assert isinstance(answer, Found)
    return answer


def a_page(*users: bytes, **totals: Any) -> bytes:
    rest = "".join(f',"{name}":{json.dumps(value)}' for name, value in totals.items())
    return b'{"users":[' + b",".join(users) + b"]" + rest.encode() + b"}"


@pytest.mark.parametrize(
    "odd",
    [
        b'{"user_id":"b","name":"\\ud800"}',
        b'{"user_id":"b","name":"\xff"}',
        b'{"user_id":"b","logins_count":1e999}',
        b'{"name":"nobody"}',
        b'{"user_id":7}',
        b"null",
        b'"b"',
    ],
)
def test_an_odd_hit_does_not_spoil_its_neighbours(odd: bytes) -> None:
    body = a_page(b'{"user_id":"a"}', odd, b'{"user_id":"c"}', total=3, limit=100)
    if b"\xff" in odd:
        assert found(body).unreadable == 1
    page = found(body).page(ASKED, 100)
    assert [hit["user_id"] for hit in page.hits] == ["a", "c"]
    assert page.covered == set(ASKED)
    assert page.trouble == "unreadable"


@pytest.mark.parametrize("depth", [300, 1_100, 100_000])
@pytest.mark.parametrize("totals", [{"total": 3, "limit": 100}, {}])
def test_a_hit_nested_too_deeply_does_not_spoil_its_neighbours(depth: int, totals: dict[str, int]) -> None:
    deep = b'{"user_id":"b","x":' + b'{"[":' * depth + b'"}"' + b"}" * depth + b"}"
    users = b'{"user_id":"a"}', deep, b'{"user_id":"c"}'
    for body in (a_page(*users, **totals), b" [" + b" , ".join(users) + b"] "):
        page = found(body).page(ASKED, 100)
        assert [hit["user_id"] for hit in page.hits] == ["a", "c"]
        assert page.covered == set(ASKED)
        assert page.trouble == "unreadable"


def test_totals_are_told_wherever_they_stand_and_of_a_page_with_an_odd_user_too() -> None:
    deep = b'{"user_id":"b","users":' + b"[" * 1_100 + b"]" * 1_100 + b"}"
    page = raw_users(
        Answer(200, httpx.Headers(), b'{"total": 7, "x": "users", "y": [0], "users" : [' + deep + b'], "limit":50}')
    )
    assert (page.users, page.total, page.limit) == ([deep], 7, 50)


def test_a_page_cut_short_is_conclusive_about_its_hits_only() -> None:
    page = found(a_page(b'{"user_id":"a"}', total=3, limit=1)).page(ASKED, 100)
    assert page.covered == {"a"}
    assert page.trouble == "cut"


def test_a_page_cut_down_to_nothing_is_not_asked_for_again() -> None:
    assert found(a_page(total=3, limit=0)).page(ASKED, 100).covered == set(ASKED)


def test_without_totals_a_full_page_may_have_left_somebody_out() -> None:
    users = [f'{{"user_id":"u{number}"}}'.encode() for number in range(50)]
    asked = [f"u{number}" for number in range(80)]
    assert len(found(b"[" + b",".join(users) + b"]").page(asked, 100).covered) == 50
    assert len(found(b"[" + b",".join(users[:20]) + b"]").page(asked, 100).covered) == 80


def test_a_hit_nobody_asked_for_is_left_out() -> None:
    assert found(a_page(b'{"user_id":"A"}', total=1)).page(ASKED, 100).hits == []


def test_dates_and_unknown_attributes_stay_as_they_were_sent() -> None:
    user = {"user_id": "a", "updated_at": "2026-01-01T00:00:01.573Z", "email_verified": "odd", "new": {"x": [1.10]}}
    assert found(a_page(json.dumps(user).encode(), total=1)).users == [user]


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'{"users":3}', b'{"users":[', b"7", b"[" * 1_100])
def test_what_is_no_page_is_not_usable(body: bytes) -> None:
    with pytest.raises(NotUsable):
        read_search(Answer(200, httpx.Headers(), body))
