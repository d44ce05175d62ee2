"""Sessions of the page: what a browser holds, what the database holds, and for how long."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest

from tests.journeys.stage import Stage
from tests.pages.people import Member, Visitor

pytestmark = pytest.mark.journey

Make = Callable[[str], Member]
New = Callable[[], Visitor]


def test_the_cookie_is_a_random_id_of_which_the_database_knows_the_hash_alone(
    stage: Stage, member: Make, visitor: New
) -> None:
    ada, browser = member("Ada"), visitor()
    back = browser.submit(browser.begin(), ada.email)
    answer = browser.get(back.headers["location"])
    said = answer.headers["set-cookie"].lower()
    assert {"httponly", "samesite=lax", "path=/"} <= {part.strip() for part in said.split(";")}
    assert len(browser.cookie) == 43
    digest = hashlib.sha256(browser.cookie.encode()).hexdigest()
    rows = stage.query(f"SELECT encode(session_hash, 'hex'), data::text FROM sessions WHERE user_id = '{ada.user_id}'")  # noqa: S608
    assert rows == [(digest, "{}")]  # and no token is kept


def test_a_login_makes_a_new_session_and_the_old_id_is_nobodys(stage: Stage, member: Make, visitor: New) -> None:
    ada, browser, thief = member("Ada"), visitor(), visitor()
    page = browser.begin()
    before = browser.cookie
    thief.http.cookies.set("understudy", before, domain="127.0.0.1")
    browser.get(browser.submit(page, ada.email).headers["location"])
    assert browser.cookie not in ("", before)
    assert "Welcome, " in browser.get().text
    assert "Log in" in thief.get().text
    digest = hashlib.sha256(before.encode()).hexdigest()
    assert stage.count(f"sessions WHERE session_hash = '\\x{digest}'") == 0


def test_a_made_up_cookie_is_nobodys(visitor: New) -> None:
    browser = visitor()
    for value in ("x", "A" * 43, "A" * 4000, "%00"):
        browser.http.cookies.set("understudy", value, domain="127.0.0.1")
        answer = browser.get()
        assert answer.status_code == 200
        assert "Log in" in answer.text


def test_a_session_ends_when_it_is_over_and_its_row_is_cleaned(stage: Stage, member: Make, visitor: New) -> None:
    ada, browser = member("Ada"), visitor()
    browser.log_in(ada)
    mine = f"user_id = '{ada.user_id}'"
    assert stage.count(f"sessions WHERE {mine} AND expires_at BETWEEN now() + '23 h' AND now() + '1 day'") == 1

    # Used again after two minutes, it holds for another day; not so where the page only watches itself.
    stage.execute(f"UPDATE sessions SET seen_at = now() - interval '2 min', expires_at = now() + '1 h' WHERE {mine}")  # noqa: S608
    browser.get(headers={"X-Watching": "1"})
    assert stage.count(f"sessions WHERE {mine} AND expires_at > now() + '2 h'") == 0
    browser.get()
    assert stage.count(f"sessions WHERE {mine} AND expires_at > now() + '23 h'") == 1

    # However much it is used, it ends a week after the login.
    stage.execute(
        f"UPDATE sessions SET seen_at = now() - interval '2 min', created_at = now() - interval '167 h' WHERE {mine}"  # noqa: S608
    )
    browser.get()
    assert stage.count(f"sessions WHERE {mine} AND expires_at < now() + '61 min'") == 1

    stage.execute(f"UPDATE sessions SET expires_at = now() WHERE {mine}")  # noqa: S608
    assert "Log in" in browser.get().text
    assert browser.post("/page/genre", genre="Jazz", csrf="0").url.path == "/"
    assert stage.count(f"sessions WHERE {mine}") == 1
    stage.processes.run("clean", _CLEAN, env=stage.with_path({}), patience=30)
    stage.wait_until(lambda: stage.count(f"sessions WHERE {mine}") == 0, "the cleaning of sessions")


_CLEAN = ["/bin/sh", "-c", "exec celery -A worker.celery call worker.tasks.clean"]


def test_somebody_deleted_is_out_at_the_next_request(stage: Stage, member: Make, visitor: New) -> None:
    ada, browser = member("Ada"), visitor()
    browser.log_in(ada)
    ada.act("delete", log="both")
    stage.wait_until(lambda: stage.count(f"live_users WHERE user_id = '{ada.user_id}'") == 0, "the deletion")
    answer = browser.get()
    assert answer.status_code == 403
    assert "This account no longer exists." in answer.text
    assert browser.cookie == ""
    assert stage.count(f"sessions WHERE user_id = '{ada.user_id}'") == 0


def test_a_linked_account_shows_the_primary(stage: Stage, member: Make, visitor: New) -> None:
    ada, other, browser = member("Ada"), member("Other"), visitor()
    browser.log_in(other)
    other.api("POST", "/playlists", {"name": "Kept before"})
    ada.act("link", secondary=other.user_id)
    stage.wait_until(lambda: stage.count(f"live_users WHERE user_id = '{other.user_id}'") == 0, "the link")
    ada.api("PATCH", "/displayName", {"displayName": "Ada of two accounts"})
    text = browser.get().text
    assert "Ada of two accounts" in text
    assert "Kept before" in text
