"""User search v3: its query language, its limits and its lag."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.simulator.running import Simulator, eventually

DATABASE = "Username-Password-Authentication"
PEOPLE: tuple[dict[str, Any], ...] = (
    {"email": "ada@example.com", "name": "Ada Lovelace", "user_metadata": {"fav_genre": "jazz"}},
    {"email": "bob@example.org", "name": "Bob Stone", "app_metadata": {"plan": "pro", "roles": ["listener", "editor"]}},
    {"email": "cid@example.org", "name": "Cid (the second)", "blocked": True, "user_metadata": {"fav_genre": "rock"}},
    {"email": "dee-dee@example.net", "name": "Dee", "nickname": "D", "user_metadata": {}},
)


@pytest.fixture(scope="module")
def people() -> Iterator[Simulator]:
    simulator = Simulator("--plan", "none", "--index-lag", "0")
    for number, person in enumerate(PEOPLE):
        body = {"connection": DATABASE, "password": "correct horse", "user_id": f"p{number}", **person}
        assert simulator.api("POST", "users", json=body).status_code == 201
    for number in (0, 0, 1):
        simulator.control("POST", "people/login", {"user_ids": [f"auth0|p{number}"]})
    simulator.act("auth0|p0", "link", secondary=simulator.sign_up(connection="google-oauth2", login=False)[0])
    yield simulator
    simulator.stop()


@pytest.mark.parametrize(
    ("q", "found"),
    [
        ('user_id:"auth0|p1"', "1"),
        ("user_id:auth0|p1", "1"),
        ('user_id:("auth0|p2" OR "auth0|p0" OR "auth0|nobody")', "02"),
        ('user_id:("auth0|p0" OR "auth0|p1") AND email:"ada@example.com"', "0"),
        ('email:"ADA@example.com"', "0"),
        ("email:*example.org", "12"),
        ("email:dee-dee@example.net", "3"),
        ('name:"ada lovelace"', "0"),
        ('nickname:"d"', "3"),
        ('user_metadata.fav_genre:"jazz"', "0"),
        ('user_metadata.fav_genre:"Jazz"', ""),
        ('app_metadata.roles:"editor"', "1"),
        ("app_metadata.plan:(free OR pro)", "1"),
        ("blocked:true", "2"),
        ("NOT blocked:true AND email:*.org", "1"),
        ("-blocked:true AND email:*.org", "1"),
        ("(name:Dee OR blocked:true) AND email:*.net", "3"),
        ("name:Dee OR blocked:true AND email:*.org", "23"),
        ("logins_count:[2 TO *]", "0"),
        ("logins_count:{1 TO 3}", "0"),
        ("logins_count:[1 TO 2]", "01"),
        ("created_at:[2020-01-01 TO 2020-12-31]", ""),
        ("created_at:[2020-01-01 TO *] AND name:Dee", "3"),
        ("_exists_:logins_count", "01"),
        ("_exists_:user_metadata", "02"),
        ("_exists_:app_metadata.plan", "1"),
        ('identities.connection:"google-oauth2"', "0"),
        (r'name:"Cid \(the second\)"', "2"),
        ('name:"Cid (the second)"', "2"),
        ("lovelace", ""),
        ('"Ada Lovelace"', "0"),
    ],
)
def test_a_query_finds_who_matches(people: Simulator, q: str, found: str) -> None:
    hits = people.search(q, sort="user_id:1")
    assert "".join(user["user_id"].removeprefix("auth0|p") for user in hits) == found


@pytest.mark.parametrize(
    "q", ["name:", "(name:a", "name:a)", '"open', "name:[a TO", "AND", ":x", "logins_count:[a TO b]"]
)
def test_a_query_that_makes_no_sense_is_refused(people: Simulator, q: str) -> None:
    answer = people.api("GET", "users", params={"q": q})
    assert (answer.status_code, answer.json()["errorCode"]) == (400, "invalid_query_string")


def test_no_ranges_or_wildcards_on_user_metadata(people: Simulator) -> None:
    for q in ("user_metadata.fav_genre:ja*", "user_metadata.age:[1 TO 2]"):
        assert people.api("GET", "users", params={"q": q}).status_code == 400


def test_hits_come_sorted(people: Simulator) -> None:
    names = [user["name"] for user in people.search("email:*", sort="name:-1")]
    assert names == ["Dee", "Cid (the second)", "Bob Stone", "Ada Lovelace"]
    counts = [user.get("logins_count") for user in people.search("email:*", sort="logins_count:1")]
    assert counts == [1, 2, None, None]


def test_a_page_can_say_how_many_there_are(people: Simulator) -> None:
    answer = people.api("GET", "users", params={"per_page": 3, "page": 1, "include_totals": "true"}).json()
    assert {key: answer[key] for key in ("start", "limit", "length", "total")} == {
        "start": 3,
        "limit": 3,
        "length": 1,
        "total": 4,
    }


def test_auth0s_own_client_pages_through(people: Simulator) -> None:
    assert len(list(people.management().users.list(per_page=2, q="email:*"))) == 4


def test_nothing_is_found_beyond_the_thousandth(people: Simulator) -> None:
    assert people.api("GET", "users", params={"per_page": 100, "page": 9}).status_code == 200
    answer = people.api("GET", "users", params={"per_page": 100, "page": 10})
    assert (answer.status_code, answer.json()["errorCode"]) == (400, "invalid_paging")


def test_a_page_has_a_limit_that_can_be_lowered(people: Simulator) -> None:
    assert people.api("GET", "users", params={"per_page": 101}).status_code == 400
    people.control("PUT", "limits", {"per_page_max": 50})
    assert people.api("GET", "users", params={"per_page": 51}).status_code == 400
    people.control("PUT", "limits", {"per_page_max": 100})


def test_a_long_query_is_414(people: Simulator) -> None:
    people.control("PUT", "limits", {"q_max": 40})
    assert people.api("GET", "users", params={"q": "name:" + "x" * 35}).status_code == 200
    answer = people.api("GET", "users", params={"q": "name:" + "x" * 36})
    people.control("PUT", "limits", {"q_max": 6000})
    assert (answer.status_code, answer.json()["statusCode"]) == (414, 414)


def test_a_search_may_time_out(people: Simulator) -> None:
    people.control("PUT", "limits", {"search_timeout_probability": 1})
    answer = people.api("GET", "users", params={"q": "name:Dee"})
    people.control("PUT", "limits", {"search_timeout_probability": 0})
    assert (answer.status_code, answer.json()["errorCode"]) == (503, "query_timeout")


def test_search_shows_the_past_and_strong_reads_the_present(start: Callable[..., Simulator]) -> None:
    tenant = start("--plan", "none", "--index-lag", "3600")
    (user_id,) = tenant.sign_up(connection=DATABASE)
    assert tenant.search(f'user_id:"{user_id}"') == []
    assert tenant.user(user_id)["user_id"] == user_id
    tenant.control(
        "POST", "users/load", {"count": 1}
    )  # loaded users are indexed at once, and all that came before them
    old = tenant.user(user_id)
    tenant.act(user_id, "change_name", name="Somebody Else")
    assert tenant.search(f'user_id:"{user_id}"') == [old]
    tenant.act(user_id, "delete")
    assert tenant.search(f'user_id:"{user_id}"') == [old]


def test_the_index_catches_up(start: Callable[..., Simulator]) -> None:
    tenant = start("--plan", "none", "--index-lag", "0.3")
    (user_id,) = tenant.sign_up()
    assert eventually(lambda: tenant.search(f'user_id:"{user_id}"')) == [tenant.user(user_id)]
    tenant.act(user_id, "delete")
    eventually(lambda: not tenant.search(f'user_id:"{user_id}"'))
