"""The favourite genre, under both of its names."""

from __future__ import annotations

import pytest

from tests.api.listeners import ADA, BOB, MusicApp, field_of

PATHS = ("/genres/getFav", "/secured/getFavGenre")


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_answered_where_none_is_set(music: MusicApp, path: str) -> None:
    answer = music.known(ADA).get(path)
    assert (answer.status_code, answer.content) == (204, b"")


@pytest.mark.parametrize("path", PATHS)
def test_a_genre_that_was_set_is_answered_as_text(music: MusicApp, path: str) -> None:
    ada = music.known(ADA)
    ada.ok("PUT", "/genres/fav", {"fav_genre": "Drum & Bass ♥"}, 204)
    answer = ada.get(path)
    assert answer.text == "Drum & Bass ♥"
    assert answer.headers["content-type"].startswith("text/plain; charset=utf-8")
    assert answer.headers["vary"] == "Accept"


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("application/json", "application/json"),
        ("text/html, application/json;q=0.9, */*;q=0.1", "application/json"),
        ("application/json;q=0.5, text/plain", "text/plain"),
        ("application/json;q=0", "text/plain"),
        ("application/json;q=nonsense;;, text/plain;q=2", "text/plain"),
        ("*/*", "text/plain"),
        ("image/png", "text/plain"),
    ],
)
def test_json_is_answered_where_it_is_asked_for(music: MusicApp, accept: str, media: str) -> None:
    ada = music.known(ADA)
    ada.ok("PUT", "/genres/fav", {"fav_genre": "Jazz"}, 204)
    answer = ada.get("/genres/getFav", headers={"Accept": accept})
    assert answer.headers["content-type"].startswith(media)
    if media == "application/json":
        assert answer.json() == {"fav_genre": "Jazz"}


def test_a_genre_is_replaced_and_taken_back(music: MusicApp) -> None:
    ada = music.known(ADA)
    for genre in ("Jazz", "Blues"):
        ada.ok("PUT", "/genres/fav", {"fav_genre": genre}, 204)
    assert ada.get("/genres/getFav").text == "Blues"
    ada.ok("PUT", "/genres/fav", {"fav_genre": None}, 204)
    assert ada.get("/genres/getFav").status_code == 204


def test_everybody_has_a_genre_of_their_own(music: MusicApp) -> None:
    ada, bob = music.known(ADA), music.known(BOB)
    ada.ok("PUT", "/genres/fav", {"fav_genre": "Jazz"}, 204)
    assert bob.get("/genres/getFav").status_code == 204


def test_the_primary_shows_its_secondarys_genre_until_it_has_its_own(music: MusicApp) -> None:
    bob = music.known(BOB)
    bob.ok("PUT", "/genres/fav", {"fav_genre": "Blues"}, 204)
    music.web.sql("DELETE FROM users WHERE user_id = %s", BOB)
    ada = music.known(ADA, linked=[BOB])
    assert ada.get("/genres/getFav").text == bob.get("/genres/getFav").text == "Blues"
    bob.ok("PUT", "/genres/fav", {"fav_genre": "Jazz"}, 204)
    assert music.web.sql("SELECT user_id, fav_genre FROM user_data ORDER BY fav_genre") == [
        (BOB, "Blues"),
        (ADA, "Jazz"),
    ]
    assert ada.get("/genres/getFav").text == "Jazz"
    ada.ok("PUT", "/genres/fav", {"fav_genre": None}, 204)
    assert ada.get("/genres/getFav").status_code == 204


@pytest.mark.parametrize("genre", ["", " ", "a\0b", "x" * 51, 1, ["Jazz"]])
def test_what_is_no_genre_is_refused(music: MusicApp, genre: object) -> None:
    assert field_of(music.known(ADA).call("PUT", "/genres/fav", json={"fav_genre": genre})) == "#/fav_genre"
