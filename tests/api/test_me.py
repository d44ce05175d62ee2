"""GET /me, GET and PATCH /displayName: what a person is shown of themselves, and the name they choose."""

from __future__ import annotations

import pytest

from tests.api.listeners import ADA, BOB, ODD_IDS, MusicApp, field_of, problem


def test_a_person_sees_their_row(music: MusicApp) -> None:
    ada = music.known(
        ADA,
        email="ada@example.com",
        email_verified=True,
        name="Ada",
        last_login="2026-05-06T07:08:09.123Z",
        logins_count=7,
        user_metadata={"displayName": "Lady A", "theme": {"dark": True}},
        app_metadata={"roles": ["admin", "playlist_editor"], "plan": "gold"},
    )
    me = ada.ok("GET", "/me")
    assert (me["user_id"], me["display_name"], me["plan"]) == (ADA, "Lady A", "gold")
    assert me["roles"] == ["admin", "playlist_editor"]
    profile = me["profile"]
    assert (profile["email"], profile["email_verified"], profile["name"]) == ("ada@example.com", True, "Ada")
    assert (profile["last_login"], profile["logins_count"]) == ("2026-05-06T07:08:09.123000Z", 7)
    assert profile["user_metadata"] == {"displayName": "Lady A", "theme": {"dark": True}}
    assert profile["nickname"] is None
    freshness = me["freshness"]
    assert freshness["synced_at"] is not None
    assert (freshness["stale"], freshness["pending"]) == (False, [])


def test_nothing_that_is_not_the_persons_own_business_is_shown(music: MusicApp) -> None:
    music.copy(BOB, last_ip="203.0.113.9", app_metadata={"note": "owes money"}, multifactor=["sms"])
    text = music.person(BOB).get("/me").text
    assert "owes" not in text
    assert "203.0.113.9" not in text


def test_news_makes_a_row_stale(music: MusicApp) -> None:
    ada = music.known(ADA)
    music.web.sql("INSERT INTO news (user_id) VALUES (%s)", ADA)
    assert ada.ok("GET", "/me")["freshness"]["stale"] is True


@pytest.mark.parametrize("user_id", ODD_IDS)
def test_somebody_whose_row_has_not_arrived_gets_one_and_a_mark(music: MusicApp, user_id: str) -> None:
    me = music.person(user_id).ok("GET", "/me")
    assert me["user_id"] == user_id
    assert me["freshness"] == {"synced_at": None, "stale": True, "pending": []}
    assert music.web.sql("SELECT user_id, strong FROM news") == [(user_id, True)]
    assert music.web.sql("SELECT user_id, version, synced_at FROM users") == [(user_id, 0, None)]


def test_a_newcomer_is_asked_for_at_once(music: MusicApp) -> None:
    music.person(ADA).ok("GET", "/me")
    assert any("refresh" in message for message in music.web.messages())


def test_personal_answers_are_not_kept_by_caches(music: MusicApp) -> None:
    assert music.known(ADA).get("/me").headers["cache-control"] == "no-store"


def test_who_has_no_name_has_the_default_one(music: MusicApp) -> None:
    ada = music.known(ADA)
    assert ada.ok("GET", "/displayName") == {"displayName": "user", "pending": False}
    assert ada.ok("GET", "/me")["display_name"] == "user"


def test_auth0s_name_is_shown_where_none_was_chosen_here(music: MusicApp) -> None:
    ada = music.known(ADA, user_metadata={"displayName": "Lady A"})
    assert ada.ok("GET", "/displayName") == {"displayName": "Lady A", "pending": False}


def test_a_chosen_name_is_shown_at_once_and_travels_to_auth0(music: MusicApp) -> None:
    ada = music.known(ADA, user_metadata={"displayName": "Lady A"})
    assert ada.ok("PATCH", "/displayName", {"displayName": "Countess 🎹"}) == {
        "displayName": "Countess 🎹",
        "pending": True,
    }
    assert ada.ok("GET", "/displayName") == {"displayName": "Countess 🎹", "pending": True}
    me = ada.ok("GET", "/me")
    assert (me["display_name"], me["freshness"]["pending"]) == ("Countess 🎹", ["displayName"])
    assert music.web.sql("SELECT user_id, attribute, value FROM wishes") == [(ADA, "displayName", "Countess 🎹")]
    assert music.marks("pushes") == [ADA]


def test_the_last_choice_wins_under_a_new_number(music: MusicApp) -> None:
    ada = music.known(ADA)
    ada.ok("PATCH", "/displayName", {"displayName": "One"})
    (first,) = music.web.sql("SELECT number FROM wishes")
    ada.ok("PATCH", "/displayName", {"displayName": "Two"})
    (second,) = music.web.sql("SELECT number FROM wishes")
    assert second > first
    assert ada.ok("GET", "/displayName")["displayName"] == "Two"


def test_a_newcomer_may_choose_a_name(music: MusicApp) -> None:
    bob = music.person(BOB)
    bob.ok("PATCH", "/displayName", {"displayName": "Bob"})
    assert bob.ok("GET", "/me")["display_name"] == "Bob"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "   ",
        "a\nb",
        "end\n",
        "tab\there",
        "nul\0",
        "bell\x07",
        "\x85",
        "line\u2028",
        "turned \u202e around",
        "x" * 101,
        7,
        None,
        ["a"],
    ],
)
def test_a_name_that_is_none_is_refused_by_its_field(music: MusicApp, name: object) -> None:
    ada = music.known(ADA)
    assert field_of(ada.call("PATCH", "/displayName", json={"displayName": name})) == "#/displayName"
    assert music.web.sql("SELECT * FROM wishes") == []


def test_a_name_may_have_a_hundred_characters(music: MusicApp) -> None:
    music.known(ADA).ok("PATCH", "/displayName", {"displayName": "é" * 100})


def test_no_token_no_name(music: MusicApp) -> None:
    problem(music.web.client.get("/displayName"), 401)
