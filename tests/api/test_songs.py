"""A person's songs: added, paged, removed."""

from __future__ import annotations

import pytest

from tests.api.listeners import ADA, BOB, MusicApp, Person, field_of, problem


def names(person: Person, query: str = "") -> list[str]:
    return [song["songname"] for song in person.ok("GET", f"/songs{query}")["songs"]]


def test_a_song_is_added_and_listed(music: MusicApp) -> None:
    ada = music.known(ADA)
    song = ada.ok("POST", "/songs", {"songname": "Für Elise"}, 201)
    assert song == {"song_id": 1, "songname": "Für Elise"}
    assert ada.ok("GET", "/songs") == {"songs": [song], "next": None}


def test_pages_follow_each_other_and_hold_everything_once(music: MusicApp) -> None:
    ada = music.known(ADA)
    ids = [ada.song(f"song {number}") for number in range(7)]
    found, cursor = [], "0"
    while cursor is not None:
        page = ada.ok("GET", f"/songs?limit=3&cursor={cursor}")
        assert len(page["songs"]) <= 3
        found += [song["song_id"] for song in page["songs"]]
        cursor = page["next"]
    assert found == ids


def test_a_full_last_page_has_no_next(music: MusicApp) -> None:
    ada = music.known(ADA)
    for number in range(3):
        ada.song(str(number))
    assert ada.ok("GET", "/songs?limit=3")["next"] is None


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=ten", "limit"),
        ("cursor=abc", "cursor"),
        ("cursor=-1", "cursor"),
        ("cursor=" + "9" * 30, "cursor"),
        ("limit=1&limit=2", "limit"),
        ("offset=5", "offset"),
        ("%ff=1", "\ufffd"),
        ("=1", ""),
    ],
)
def test_a_query_that_is_none_is_refused_by_its_parameter(music: MusicApp, query: str, field: str) -> None:
    assert field_of(music.known(ADA).get(f"/songs?{query}")) == field


def test_a_removed_song_is_gone_from_playlists_too(music: MusicApp) -> None:
    ada = music.known(ADA)
    keep, lose = ada.song("keep"), ada.song("lose")
    playlist = ada.playlist(songs=[lose, keep, lose])
    ada.ok("DELETE", f"/songs/{lose}", status=204)
    assert names(ada) == ["keep"]
    assert [song["song_id"] for song in ada.ok("GET", f"/playlists/{playlist}")["songs"]] == [keep]
    problem(ada.call("DELETE", f"/songs/{lose}"), 404)


def test_another_persons_song_is_not_there(music: MusicApp) -> None:
    ada, bob = music.known(ADA), music.known(BOB)
    song = ada.song()
    assert names(bob) == []
    problem(bob.call("DELETE", f"/songs/{song}"), 404)
    assert names(ada) == ["Wintersong"]


@pytest.mark.parametrize("song_id", ["0", "-1", "1.0", "one", "9223372036854775808", "1%20", "%00", "1e3", "x" * 500])
def test_what_is_no_songs_id_is_not_there(music: MusicApp, song_id: str) -> None:
    problem(music.known(ADA).call("DELETE", f"/songs/{song_id}"), 404)


@pytest.mark.parametrize("name", ["", "\n", "x" * 201, None, 3])
def test_what_is_no_songs_name_is_refused(music: MusicApp, name: object) -> None:
    assert field_of(music.known(ADA).call("POST", "/songs", json={"songname": name})) == "#/songname"
