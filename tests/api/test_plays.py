"""POST /playlists/{id}/plays: durable when it answers, with listener and owner settled."""

from __future__ import annotations

import json
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from tests.api.listeners import ADA, BOB, MusicApp, field_of, problem

CAROL = "auth0|carol"


def stored(music: MusicApp) -> list[dict[str, object]]:
    return [json.loads(row.body or b"") for row in music.web.rows()]


def test_a_play_is_in_the_inbox_when_it_is_answered(music: MusicApp) -> None:
    ada, bob = music.known(ADA), music.known(BOB)
    playlist, play_id = ada.playlist(), str(uuid.uuid4())
    answer = bob.play(playlist, play_id)
    assert (answer.status_code, answer.content) == (202, b"")
    assert [(row.source, row.state) for row in music.web.rows()] == [("plays", "pending")]
    assert stored(music) == [{"listener": BOB, "owner": ADA, "playlist_id": playlist, "play_id": play_id}]


def test_a_play_rings_for_drain(music: MusicApp) -> None:
    ada = music.known(ADA)
    ada.play(ada.playlist())
    assert any("drain" in message for message in music.web.messages())


def test_listener_and_owner_are_the_primaries_of_their_aliases(music: MusicApp) -> None:
    ada = music.known(ADA)
    playlist = ada.playlist()
    music.bury(ADA)
    music.copy(BOB, linked=[ADA, CAROL])
    music.person(CAROL).play(playlist)
    assert [(play["listener"], play["owner"]) for play in stored(music)] == [(BOB, BOB)]


def test_a_play_of_no_playlist_is_refused(music: MusicApp) -> None:
    ada = music.known(ADA)
    problem(ada.play(12345), 404)
    playlist = ada.playlist()
    ada.ok("DELETE", f"/playlists/{playlist}", status=204)
    problem(ada.play(playlist), 404)
    assert music.web.rows() == []


@pytest.mark.parametrize("play_id", ["", "not-a-uuid", "8b0c6c0e-0d0e-4d0e-8d0e-8d0e8d0e8d0", 5, None])
def test_a_play_needs_an_id_of_its_own(music: MusicApp, play_id: object) -> None:
    ada = music.known(ADA)
    answer = ada.call("POST", f"/playlists/{ada.playlist()}/plays", json={"play_id": play_id})
    assert field_of(answer) == "#/play_id"
    assert music.web.rows() == []


def test_plays_that_come_together_are_stored_together_and_answered_apart(music: MusicApp) -> None:
    ada, bob = music.known(ADA), music.known(BOB)
    blocked, stranger = music.known("auth0|dan", blocked=True), music.person(CAROL)
    playlist = ada.playlist()
    wanted = [(bob, playlist, 202)] * 20 + [(blocked, playlist, 403), (stranger, playlist, 202), (bob, 12345, 404)]
    with ThreadPoolExecutor(len(wanted)) as pool, psycopg.connect(music.web.database_url) as connection:
        connection.execute("LOCK TABLE playlists IN ACCESS EXCLUSIVE MODE")  # until all have come
        answers = [pool.submit(person.play, where) for person, where, _ in wanted]
        time.sleep(0.5)
        connection.rollback()
    assert [answer.result().status_code for answer in answers] == [status for _, _, status in wanted]
    lines = [json.loads(line) for row in music.web.rows() for line in (row.body or b"").split(b"\n")]
    assert sorted(line["listener"] for line in lines) == sorted([BOB] * 20 + [CAROL])
    assert len(music.web.rows()) <= 3, "they were stored one by one"
    assert music.marks() == [CAROL]


def test_who_comes_while_postgresql_hangs_is_told_so_within_two_seconds(music: MusicApp) -> None:
    ada = music.known(ADA)
    playlist = ada.playlist()
    with ThreadPoolExecutor(40) as pool, psycopg.connect(music.web.database_url) as connection:
        connection.execute("LOCK TABLE playlists IN ACCESS EXCLUSIVE MODE")
        answers = [pool.submit(ada.play, playlist) for _ in range(40)]
        assert {answer.result(timeout=30).status_code for answer in answers} == {503}
        connection.rollback()
    assert ada.play(playlist).status_code == 202
