"""Playlists: a person's own, and those that editors feature."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.listeners import ADA, BOB, MusicApp, Person, field_of, problem
from tests.api.web import at_once

EDITOR = {"roles": ["admin", "playlist_editor"]}


def ids(page: dict[str, Any]) -> list[int]:
    return [playlist["playlist_id"] for playlist in page["playlists"]]


def song_ids(playlist: dict[str, Any]) -> list[int]:
    return [song["song_id"] for song in playlist["songs"]]


def test_a_playlist_keeps_its_songs_in_order(music: MusicApp) -> None:
    ada = music.known(ADA, user_metadata={"displayName": "Ada"})
    one, two = ada.song("one"), ada.song("two")
    made = ada.ok("POST", "/playlists", {"name": "Mornings", "songs": [two, one, two]}, 201)
    assert made == {
        "playlist_id": 1,
        "name": "Mornings",
        "featured": False,
        "plays": 0,
        "owner": "Ada",
        "mine": True,
        "songs": [
            {"song_id": two, "songname": "two"},
            {"song_id": one, "songname": "one"},
            {"song_id": two, "songname": "two"},
        ],
    }
    assert ada.ok("GET", "/playlists/1") == made
    assert ada.ok("GET", "/playlists") == {"playlists": [made], "next": None}


def test_a_whole_number_may_be_written_with_a_point(music: MusicApp) -> None:
    ada = music.known(ADA)
    song = ada.song()
    made = ada.ok("POST", "/playlists", {"name": "Mornings", "songs": [float(song)]}, 201)
    assert song_ids(made) == [song]
    answer = ada.call("POST", "/playlists", json={"name": "Mornings", "songs": [song + 0.5]})
    assert field_of(answer) == "#/songs/0"


def test_playlists_are_paged(music: MusicApp) -> None:
    ada = music.known(ADA)
    made = [ada.playlist(str(number)) for number in range(3)]
    first = ada.ok("GET", "/playlists?limit=2")
    assert ids(first) == made[:2]
    assert ids(ada.ok("GET", f"/playlists?limit=2&cursor={first['next']}")) == made[2:]


def test_a_playlist_is_changed_in_part_and_in_whole(music: MusicApp) -> None:
    ada = music.known(ADA)
    one, two = ada.song("one"), ada.song("two")
    path = f"/playlists/{ada.playlist(songs=[one])}"
    assert ada.ok("PATCH", path, {"name": "Evenings"})["name"] == "Evenings"
    assert song_ids(ada.ok("GET", path)) == [one]
    assert song_ids(ada.ok("PATCH", path, {"songs": [two, one]})) == [two, one]
    changed = ada.ok("PATCH", path, {"name": "Nights", "songs": []})
    assert (changed["name"], changed["songs"]) == ("Nights", [])
    assert ada.ok("PATCH", path, {}) == changed


def test_changes_at_the_same_moment_leave_one_of_them_whole(music: MusicApp) -> None:
    ada = music.known(ADA)
    songs = [ada.song(str(number)) for number in range(4)]
    path = f"/playlists/{ada.playlist()}"
    wanted = [songs, songs[::-1], songs[:2], songs[2:]] * 2
    answers = at_once(8, lambda which: ada.call("PATCH", path, json={"songs": wanted[which]}).status_code)
    assert answers == [200] * 8
    assert song_ids(ada.ok("GET", path)) in wanted


def test_only_ones_own_songs_go_into_a_playlist(music: MusicApp) -> None:
    ada, bob = music.known(ADA), music.known(BOB)
    mine, theirs = ada.song(), bob.song()
    refused = ada.call("POST", "/playlists", json={"name": "Ours", "songs": [mine, theirs]})
    assert problem(refused, 404)["errors"][0]["pointer"] == "#/songs/1"
    refused = ada.call("POST", "/playlists", json={"name": "None", "songs": [10**15]})
    assert problem(refused, 404)["errors"][0]["pointer"] == "#/songs/0"
    assert ids(ada.ok("GET", "/playlists")) == []
    playlist = ada.playlist(songs=[mine])
    problem(ada.call("PATCH", f"/playlists/{playlist}", json={"name": "Changed", "songs": [theirs]}), 404)
    assert ada.ok("GET", f"/playlists/{playlist}")["name"] == "Mornings"


def test_a_deleted_playlist_is_gone_and_its_owners_roles_are_looked_at(music: MusicApp) -> None:
    ada = music.known(ADA)
    playlist = ada.playlist(songs=[ada.song()])
    music.web.sql("TRUNCATE pushes")
    ada.ok("DELETE", f"/playlists/{playlist}", status=204)
    problem(ada.get(f"/playlists/{playlist}"), 404)
    assert music.marks("pushes") == [ADA]
    assert music.web.sql("SELECT count(*) FROM playlist_songs") == [(0,)]


def test_a_created_playlist_has_its_owners_roles_looked_at(music: MusicApp) -> None:
    music.known(ADA).playlist()
    assert music.marks("pushes") == [ADA]


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_another_persons_playlist_is_not_there(music: MusicApp, method: str) -> None:
    playlist = music.known(ADA).playlist()
    bob = music.known(BOB)
    body = {"json": {"name": "Mine now"}} if method == "PATCH" else {}
    problem(bob.call(method, f"/playlists/{playlist}", **body), 404)
    assert ids(bob.ok("GET", "/playlists")) == []
    assert music.web.sql("SELECT name FROM playlists") == [("Mornings",)]


def test_plays_of_all_playlists_are_a_bare_integer(music: MusicApp) -> None:
    ada, bob = music.known(ADA), music.known(BOB)
    assert ada.get("/playlists/getPlays").text == "0"
    first, second, other = ada.playlist(), ada.playlist(), bob.playlist()
    for playlist, plays in ((first, 99), (second, 2), (other, 1000)):
        music.web.sql("UPDATE playlists SET plays = %s WHERE playlist_id = %s", plays, playlist)
    answer = ada.get("/playlists/getPlays")
    assert answer.text == "101"
    assert answer.headers["content-type"].startswith("text/plain")
    assert ada.ok("GET", f"/playlists/{first}")["plays"] == 99


# What editors feature


def test_a_featured_playlist_is_readable_by_all_and_names_nobody_by_id(music: MusicApp) -> None:
    ada, bob = music.known(ADA, user_metadata={"displayName": "Ada"}), music.known(BOB, app_metadata=EDITOR)
    playlist = ada.playlist(songs=[ada.song()])
    bob.ok("PUT", f"/playlists/{playlist}/featured", status=204)
    seen = music.known("auth0|3").ok("GET", f"/playlists/{playlist}")
    assert (seen["featured"], seen["mine"], seen["owner"]) == (True, False, "Ada")
    listed = music.known("auth0|4").get("/playlists/featured")
    assert ids(listed.json()) == [playlist]
    assert ADA not in listed.text
    assert song_ids(listed.json()["playlists"][0]) == song_ids(seen) != []


def test_a_secondarys_playlist_bears_its_primarys_name(music: MusicApp) -> None:
    bob = music.known(BOB, user_metadata={"displayName": "Bob"})
    playlist = bob.playlist()
    music.bury(BOB)
    ada = music.known(ADA, linked=[BOB], user_metadata={"displayName": "Ada"}, app_metadata=EDITOR)
    ada.ok("PUT", f"/playlists/{playlist}/featured", status=204)
    for person in (ada, bob, music.known("auth0|3")):
        seen = person.ok("GET", f"/playlists/{playlist}")
        assert (seen["owner"], seen["mine"]) == ("Ada", person.user_id != "auth0|3")


def test_featuring_twice_and_no_longer_is_the_same_as_once(music: MusicApp) -> None:
    editor = music.known(ADA, app_metadata=EDITOR)
    path = f"/playlists/{editor.playlist()}/featured"
    for _ in range(2):
        editor.ok("PUT", path, status=204)
    for _ in range(2):
        editor.ok("DELETE", path, status=204)
    assert ids(editor.ok("GET", "/playlists/featured")) == []


def test_a_featured_playlist_can_be_changed_by_its_owner_alone(music: MusicApp) -> None:
    ada, editor = music.known(ADA), music.known(BOB, app_metadata=EDITOR)
    playlist = ada.playlist()
    editor.ok("PUT", f"/playlists/{playlist}/featured", status=204)
    problem(editor.call("PATCH", f"/playlists/{playlist}", json={"name": "Mine"}), 404)
    problem(editor.call("DELETE", f"/playlists/{playlist}"), 404)


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_only_editors_feature(music: MusicApp, method: str) -> None:
    ada = music.known(ADA, app_metadata={"roles": ["admin"]})
    assert "playlist_editor" in problem(ada.call(method, f"/playlists/{ada.playlist()}/featured"), 403)["detail"]


def test_an_editor_who_lost_the_role_feature_nothing_whatever_the_token_says(music: MusicApp) -> None:
    claims = music.tenant.claims(
        sub=ADA, **{"https://music.example/roles": ["playlist_editor"], "roles": ["playlist_editor"]}
    )
    ada = music.known(ADA, app_metadata=EDITOR)
    boasting = Person(music, ADA, music.key.sign(claims))
    path = f"/playlists/{ada.playlist()}/featured"
    boasting.ok("PUT", path, status=204)
    music.web.sql("UPDATE users SET app_metadata = %s", '{"roles": []}')
    problem(boasting.call("DELETE", path), 403)


def test_an_editor_cannot_feature_what_is_not_there(music: MusicApp) -> None:
    problem(music.known(ADA, app_metadata=EDITOR).call("PUT", "/playlists/77/featured"), 404)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": ""}, "#/name"),
        ({"songs": []}, "#/name"),
        ({"name": "a", "songs": "1"}, "#/songs"),
        ({"name": "a", "songs": [1, "2"]}, "#/songs/1"),
        ({"name": "a", "songs": [0]}, "#/songs/0"),
        ({"name": "a", "songs": [2**63]}, "#/songs/0"),
        ({"name": "a", "songs": [1] * 501}, "#/songs"),
        ({"name": "a", "plays": 1000}, "#/plays"),
        ({"name": "a", "user_id": BOB}, "#/user_id"),
        ({"name": "a", "a/~b": 1}, "#/a~1~0b"),
        ([], "#"),
        ("name", "#"),
        (None, "#"),
    ],
)
def test_a_playlist_that_is_none_is_refused_by_its_field(music: MusicApp, body: object, field: str) -> None:
    answer = music.known(ADA).call("POST", "/playlists", json=body)
    if body is None:
        answer = music.known(ADA).call(
            "POST", "/playlists", content=b"null", headers={"Content-Type": "application/json"}
        )
    assert field_of(answer) == field
