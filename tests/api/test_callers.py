"""Who may call: every route, for somebody unknown, linked, blocked or deleted, and without a good token."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from api.music import OPERATIONS
from api.operations import Operation
from tests.api.conftest import StartWeb
from tests.api.jwks import Key
from tests.api.listeners import ADA, BOB, MusicApp, Person, problem
from tests.api.web import at_once

BODIES: dict[str, Any] = {
    "/displayName": {"displayName": "Ada"},
    "/genres/fav": {"fav_genre": "Jazz"},
    "/songs": {"songname": "Wintersong"},
    "/playlists": {"name": "Mornings"},
    "/playlists/{playlist_id}": {"name": "Evenings"},
    "/playlists/{playlist_id}/plays": {"play_id": "8b0c6c0e-0d0e-4d0e-8d0e-8d0e8d0e8d0e"},
}
CAROL = "auth0|carol"

every_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: f"{one.method} {one.path}")


def call(person: Person, operation: Operation[Any], number: int = 1, **headers: str) -> httpx.Response:
    path = operation.path.replace(f"{{{operation.parameter}}}", str(number))
    body = {"json": BODIES[operation.path]} if operation.has_body else {}
    return person.call(operation.method, path, headers=headers, **body)


def prepared(owner: Person) -> None:
    """Song 1 and playlist 1 are theirs, and they may do everything."""
    owner.song()
    owner.playlist()


@every_operation
def test_nobody_without_a_token(music: MusicApp, operation: Operation[Any]) -> None:
    path = operation.path.replace(f"{{{operation.parameter}}}", "1")
    answer = music.web.client.request(operation.method, path)
    problem(answer, 401)
    assert answer.headers["www-authenticate"].startswith("Bearer")


@every_operation
def test_nobody_with_a_token_of_anothers_key(music: MusicApp, operation: Operation[Any]) -> None:
    music.copy(ADA, app_metadata={"roles": ["playlist_editor"]})
    prepared(music.person(ADA))
    forged = Person(music, ADA, Key(music.key.kid).sign(music.tenant.claims(sub=ADA)))
    problem(call(forged, operation), 401)


@every_operation
def test_a_person_may(music: MusicApp, operation: Operation[Any]) -> None:
    ada = music.known(ADA, app_metadata={"roles": ["playlist_editor"]})
    prepared(ada)
    answer = call(ada, operation)
    assert answer.status_code == (204 if operation.empty else operation.status), answer.text


@every_operation
def test_a_blocked_person_may_not(music: MusicApp, operation: Operation[Any]) -> None:
    roles = {"roles": ["playlist_editor"]}
    ada = music.known(ADA, app_metadata=roles)
    prepared(ada)
    music.copy(ADA, app_metadata=roles, blocked=True)
    assert problem(call(ada, operation), 403)["detail"] == "This account is blocked."
    assert music.web.rows() == []


@every_operation
def test_a_deleted_person_may_not(music: MusicApp, operation: Operation[Any]) -> None:
    ada = music.known(ADA, app_metadata={"roles": ["playlist_editor"]})
    prepared(ada)
    music.bury(ADA)
    assert problem(call(ada, operation), 403)["detail"] == "This account no longer exists."
    assert music.web.rows() == []


@every_operation
def test_a_linked_secondary_is_its_primary(music: MusicApp, operation: Operation[Any]) -> None:
    bob = music.known(BOB)
    prepared(bob)
    music.bury(BOB)
    music.copy(ADA, linked=[BOB], app_metadata={"roles": ["playlist_editor"]})
    answer = call(bob, operation)
    assert answer.status_code == (204 if operation.empty else operation.status), answer.text


@every_operation
def test_somebody_unknown_is_taken_at_their_tokens_word(music: MusicApp, operation: Operation[Any]) -> None:
    answer = call(music.person(CAROL), operation)
    assert answer.status_code < 500
    assert music.web.sql("SELECT user_id, strong FROM news") == [(CAROL, True)]
    assert music.web.sql("SELECT user_id FROM users") == [(CAROL,)]


def test_what_a_secondary_kept_is_shown_with_the_primarys(music: MusicApp) -> None:
    ada, bob = music.known(ADA), music.known(BOB)
    for person, name in ((ada, "hers"), (bob, "his")):
        person.playlist(name, [person.song(name)])
    music.web.sql("UPDATE playlists SET plays = 5")
    music.bury(BOB)
    music.copy(ADA, linked=[BOB])
    for person in (ada, bob):
        assert [song["songname"] for song in person.ok("GET", "/songs")["songs"]] == ["hers", "his"]
        assert [one["name"] for one in person.ok("GET", "/playlists")["playlists"]] == ["hers", "his"]
        assert person.get("/playlists/getPlays").text == "10"
        me = person.ok("GET", "/me")
        assert (me["user_id"], me["linked_ids"]) == (ADA, [BOB])
    # New things, and changes of the old ones, are the primary's to make.
    mixed = [song["song_id"] for song in bob.ok("GET", "/songs")["songs"]]
    bob.ok("PATCH", "/playlists/2", {"songs": mixed})
    bob.song("new")
    assert music.web.sql("SELECT user_id FROM songs WHERE songname = 'new'") == [(ADA,)]


def test_an_unlinked_person_has_their_own_again(music: MusicApp) -> None:
    ada, bob = music.known(ADA), music.known(BOB)
    bob.song("his")
    music.copy(ADA, linked=[BOB])  # not read again yet, while Bob's row was
    assert ada.ok("GET", "/songs")["songs"] == []
    assert bob.ok("GET", "/me")["user_id"] == BOB
    assert len(bob.ok("GET", "/songs")["songs"]) == 1


def test_a_secondary_that_was_never_copied_is_its_primary_too(music: MusicApp) -> None:
    music.copy(ADA, linked=[BOB])
    assert music.person(BOB).ok("GET", "/me")["user_id"] == ADA
    music.web.sql("INSERT INTO users (user_id) VALUES (%s)", BOB)  # a bare row, from news
    assert music.person(BOB).ok("GET", "/displayName")["displayName"] == "user"
    assert music.person(BOB).ok("GET", "/me")["user_id"] == ADA


def test_the_secondary_of_somebody_deleted_is_nobodys(music: MusicApp) -> None:
    music.copy(ADA, linked=[BOB])
    music.copy(BOB)
    music.web.sql("UPDATE users SET deleted_at = now(), synced_at = now()")
    problem(music.person(BOB).get("/me"), 403)


def test_the_secondary_of_somebody_blocked_is_blocked(music: MusicApp) -> None:
    music.copy(ADA, linked=[BOB], blocked=True)
    problem(music.person(BOB).get("/songs"), 403)


@pytest.mark.parametrize("path", ["/me", "/songs"])
def test_who_comes_back_with_a_good_token_is_looked_up_again(music: MusicApp, path: str) -> None:
    ada = music.known(ADA)
    music.bury(ADA, ago="10 seconds")
    problem(ada.get(path), 403)
    assert music.marks() == []  # asked within the last minute
    music.bury(ADA, ago="2 minutes")
    problem(ada.get(path), 403)
    assert music.marks() == [ADA]
    (before,) = music.web.sql("SELECT number FROM news")
    problem(ada.get(path), 403)
    assert music.web.sql("SELECT number FROM news") == [before]  # however often they knock


def test_a_crowd_of_strangers_becomes_a_row_each(music: MusicApp) -> None:
    people = [music.person(f"auth0|{which % 20:03}") for which in range(40)]
    answers = at_once(40, lambda which: people[which].get("/me"))
    assert [answer.json()["user_id"] for answer in answers] == [person.user_id for person in people]
    assert len(music.marks()) == len(music.marks("users")) == 20


def test_callers_at_the_same_moment_are_not_mixed_up(music: MusicApp) -> None:
    people = [music.known(f"auth0|{which:03}", name=f"name {which}") for which in range(30)]
    music.copy("auth0|005", blocked=True)
    music.bury("auth0|006")
    answers = at_once(30, lambda which: people[which].get("/me"))
    for which, answer in enumerate(answers):
        if which in (5, 6):
            problem(answer, 403)
        else:
            assert (answer.json()["user_id"], answer.json()["profile"]["name"]) == (
                f"auth0|{which:03}",
                f"name {which}",
            )


def test_without_an_audience_there_is_no_music_app(start_web: StartWeb, database_url: str, redis_url: str) -> None:
    web = start_web(database_url, redis_url)
    for path in ("/me", "/songs", "/openapi.json"):
        problem(web.client.get(path), 404)
