"""Who and what the page lets in: hosts, forms, logins that fail, and servers that are away."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.journeys.stage import TOKEN, Stage
from tests.pages.people import Member, Visitor

pytestmark = pytest.mark.journey

Make = Callable[[str], Member]
New = Callable[[], Visitor]


def said(answer: httpx.Response) -> str:
    """Return the one thing that a page says."""
    found = re.search(r'role="alert">(.*?)</p>', answer.text, re.DOTALL)
    assert found is not None, answer.text
    assert "Traceback" not in answer.text
    return found[1]


# Forms


@pytest.mark.parametrize("csrf", ["", "0", "é", "a" * 64])
def test_a_form_of_another_page_changes_nothing(member: Make, visitor: New, csrf: str) -> None:
    ada, browser = member("Ada"), visitor()
    browser.log_in(ada)
    answer = browser.http.post("/page/genre", data={"csrf": csrf, "genre": "Jazz"})
    assert answer.status_code == 403
    assert "another login" in said(answer)
    assert ada.api("GET", "/genres/getFav") == ""
    assert browser.http.post("/logout", data={"csrf": csrf}).status_code == 403
    assert "Welcome, " in browser.get().text


def test_a_forms_token_is_good_for_its_own_session_alone(member: Make, visitor: New) -> None:
    ada, browser, other = member("Ada"), visitor(), visitor()
    browser.log_in(ada)
    other.log_in(ada)
    assert browser.http.post("/page/genre", data={"csrf": other.csrf(), "genre": "Jazz"}).status_code == 403
    assert browser.http.post("/page/genre", data={"csrf": browser.csrf(), "genre": "Jazz"}).status_code == 303
    assert ada.api("GET", "/genres/getFav") == "Jazz"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"content": b"genre=Jazz", "headers": {"content-type": "text/plain"}}, 415),
        ({"json": {"genre": "Jazz"}}, 415),
        ({"content": b"genre=" + b"x" * 20_000, "headers": {"content-type": "application/x-www-form-urlencoded"}}, 413),
        ({"content": b"genre=\xff", "headers": {"content-type": "application/x-www-form-urlencoded"}}, 400),
        ({"content": b"genre=%ff", "headers": {"content-type": "application/x-www-form-urlencoded"}}, 400),
        ({"content": b"a=&" * 2000, "headers": {"content-type": "application/x-www-form-urlencoded"}}, 400),
    ],
)
def test_what_is_no_form_is_refused_in_words(member: Make, visitor: New, request_: dict[str, Any], status: int) -> None:
    browser = visitor()
    browser.log_in(member("Ada"))
    answer = browser.http.post("/page/genre", **request_)
    assert answer.status_code == status
    assert said(answer)


def test_what_is_somebody_elses_is_not_there(member: Make, visitor: New) -> None:
    ada, ben, browser = member("Ada"), member("Ben"), visitor()
    theirs = ben.api("POST", "/playlists", {"name": "Ben's"})["playlist_id"]
    song = ben.api("POST", "/songs", {"songname": "Ben's song"})["song_id"]
    browser.log_in(ada)
    for path in (f"/page/playlists/{theirs}/delete", f"/page/playlists/{theirs}/name", f"/page/songs/{song}/delete"):
        assert "There is no such" in browser.post(path, name="Mine now").text
    for path in ("/page/playlists/0/delete", "/page/playlists/99999999999999999999/delete", "/page/playlists/x/delete"):
        assert "There is nothing of this id." in browser.post(path).text
    assert [one["name"] for one in ben.api("GET", "/playlists")["playlists"]] == ["Ben's"]


def test_only_an_editor_may_change_the_featured_list(member: Make, visitor: New) -> None:
    ada, browser = member("Ada"), visitor()
    mine = ada.api("POST", "/playlists", {"name": "Mine"})["playlist_id"]
    browser.log_in(ada)
    assert "Only who has the role playlist_editor" in browser.post(f"/page/playlists/{mine}/feature").text
    assert "Only who has the role playlist_editor" in browser.post("/page/featured", playlist=f"#{mine}").text
    assert ada.api("GET", "/playlists/featured")["playlists"] == []


def test_what_people_type_is_text_and_nothing_else(member: Make, visitor: New) -> None:
    browser = visitor()
    browser.log_in(member("Ada"))
    nasty = "\"><script>alert('1')</script>{{ 7 * 7 }}"
    for path, name in (("/page/name", "name"), ("/page/songs", "songname"), ("/page/playlists", "name")):
        text = browser.post(path, **{name: nasty}).text
        assert "<script>alert" not in text
        assert "{{ 7 * 7 }}" in text


# Hosts and headers


@pytest.mark.parametrize("path", ["/", "/login", "/callback"])
def test_the_page_answers_for_its_own_host_alone(stage: Stage, visitor: New, path: str) -> None:
    browser = visitor()
    for host in ("evil.example", "127.0.0.1:1", "127.0.0.1", f"localhost:{stage.product.url.rpartition(':')[2]}"):
        answer = browser.get(path, headers={"Host": host})
        assert answer.status_code == 421
        assert answer.text == f"This page is at {stage.product.url}/\n"
        assert "set-cookie" not in answer.headers


def test_webhooks_and_the_api_answer_for_every_host(stage: Stage, member: Make) -> None:
    ada, url, elsewhere = member("Ada"), stage.product.url, {"Host": "dyno-7.internal"}
    assert httpx.get(f"{url}/readyz", headers=elsewhere, trust_env=False).status_code == 200
    bearer = {"Authorization": f"Bearer {ada.token}"}
    assert httpx.get(f"{url}/me", headers={**elsewhere, **bearer}, trust_env=False).status_code == 200
    assert httpx.post(stage.webhook, headers={**elsewhere, "Authorization": TOKEN}, trust_env=False).status_code == 204


def test_every_page_keeps_itself_to_itself(member: Make, visitor: New) -> None:
    browser = visitor()
    for answer in (browser.get(), browser.get("/login"), browser.get("/callback"), browser.log_in(member("Ada"))):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
    text = browser.get().text
    assert not re.search(r"<(script|style)(?![^>]*\bsrc=)[^>]*>|\sstyle=|\son\w+=|https?://", text)


def test_another_method_leads_back_to_the_page(visitor: New) -> None:
    browser = visitor()
    for path in ("/logout", "/page/name", "/page/playlists/1/play"):
        answer = browser.get(path)
        assert (answer.status_code, answer.headers["location"]) == (303, f"{browser.stage.product.url}/")


# Logins that fail


def test_a_login_that_was_begun_elsewhere_is_refused_in_words(member: Make, visitor: New) -> None:
    browser, other = visitor(), visitor()
    back = browser.submit(browser.begin(), member("Ada").email).headers["location"]
    other.begin()
    for stranger in (other, visitor()):
        answer = stranger.get(back)
        assert answer.status_code == 400
        assert "begun elsewhere" in said(answer)
    assert visitor().get("/callback").status_code == 400


def test_what_auth0_says_to_people_is_shown_and_nothing_that_others_put_into_a_link(visitor: New) -> None:
    browser = visitor()
    told = {"error": "access_denied", "error_description": "Call <b>0900 666</b> now"}
    assert "0900" not in browser.get("/callback", params=told).text
    browser.begin()
    (row,) = browser.stage.query(
        "SELECT data::text FROM sessions WHERE user_id IS NULL ORDER BY created_at DESC LIMIT 1"
    )
    found = re.search(r"_state_auth0_([\w-]+)", row[0])
    assert found is not None
    answer = browser.get("/callback", params={**told, "state": found[1]})
    assert answer.status_code == 403
    assert said(answer) == "Auth0 did not let you in: Call &lt;b&gt;0900 666&lt;/b&gt; now."
    assert browser.get("/callback", params={**told, "state": found[1]}).status_code == 400


@pytest.mark.parametrize(
    "fault",
    [
        {"where": "token", "kind": "status", "status": 500},
        {"where": "token", "kind": "html"},
        {"where": "token", "kind": "drop"},
        {"where": "jwks", "kind": "status", "status": 500},
        {"where": "jwks", "kind": "html"},
    ],
    ids=lambda fault: f"{fault['where']}-{fault['kind']}",
)
def test_a_login_while_auth0_is_away_is_told_in_words(
    stage: Stage, member: Make, visitor: New, fault: dict[str, Any]
) -> None:
    ada, browser = member("Ada"), visitor()
    back = browser.submit(browser.begin(), ada.email).headers["location"]
    with faulty(stage, fault):
        if fault["where"] == "jwks":  # the next key is known already; the one after that has to be fetched
            stage.tenant.control("POST", "keys/rotate")
            stage.tenant.control("POST", "keys/rotate")
        answer = browser.get(back)
    assert answer.status_code == 502
    assert said(answer).endswith("Please try again in a few seconds.")
    assert "Welcome, " in browser.log_in(ada).text


def test_a_login_with_a_wrong_secret_is_told_in_words(stage: Stage, member: Make, visitor: New) -> None:
    ada, browser = member("Ada"), visitor()
    location = browser.submit(browser.begin(), ada.email).headers["location"]
    answer = browser.get(re.sub("code=[^&]*", "code=made-up", location))
    assert answer.status_code in (403, 502)
    assert said(answer)
    assert stage.count(f"sessions WHERE user_id = '{ada.user_id}'") == 0


@contextmanager
def faulty(stage: Stage, fault: dict[str, Any]) -> Iterator[None]:
    stage.faults(fault)
    try:
        yield
    finally:
        stage.faults()


def test_somebody_forgotten_does_not_come_in_and_nothing_of_them_is_kept(
    stage: Stage, member: Make, visitor: New
) -> None:  # P14
    ada, browser, inside = member("Ada"), visitor(), visitor()
    inside.log_in(ada)
    stage.execute(f"INSERT INTO forgotten (user_hash, keep_out) VALUES (user_hash('{ada.user_id}'), true)")  # noqa: S608
    out = inside.get()
    assert out.status_code == 403
    assert "This account no longer exists." in said(out)
    answer = browser.get(browser.submit(browser.begin(), ada.email).headers["location"])
    assert answer.status_code == 403
    assert "This account no longer exists." in said(answer)
    assert stage.count(f"sessions WHERE user_id = '{ada.user_id}'") == 0
