"""What callers send that is no good, whatever the route: JSON that is none, other types, too much, other methods."""

from __future__ import annotations

import json

import pytest

from tests.api.listeners import ADA, MusicApp, field_of, problem

JSON = {"Content-Type": "application/json"}
GOOD = b'{"songname": "Wintersong"}'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"songname": "a"',
        b'{"songname": "a"} more',
        b"{'songname': 'a'}",
        b'{"songname": "\xff"}',
        b'{"songname": "\\ud800"}',
        b'{"songname": "a\nb"}',
        b"[" * 5000,
        b'{"songname":' * 1000,
        b'{"songname": 5, "x": ',
        b"\xff\xfe{\x00}\x00",
        b"NaN",
    ],
)
def test_what_is_no_json_is_refused_as_that(music: MusicApp, body: bytes) -> None:
    problem(music.known(ADA).call("POST", "/songs", content=body, headers=JSON), 400)


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonp", "multipart/form-data"]
)
def test_only_json_is_read(music: MusicApp, content_type: str) -> None:
    answer = music.known(ADA).call("POST", "/songs", content=GOOD, headers={"Content-Type": content_type})
    assert "application/json" in problem(answer, 415)["detail"]


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=utf-8"])
def test_json_is_read_however_it_is_spelt(music: MusicApp, content_type: str) -> None:
    assert (
        music.known(ADA).call("POST", "/songs", content=GOOD, headers={"Content-Type": content_type}).status_code == 201
    )


def test_a_compressed_body_is_not_undone(music: MusicApp) -> None:
    problem(music.known(ADA).call("POST", "/songs", content=GOOD, headers={**JSON, "Content-Encoding": "gzip"}), 415)


@pytest.mark.parametrize("size", [16 * 1024 + 1, 1024 * 1024])
def test_a_large_body_is_refused(music: MusicApp, size: int) -> None:
    body = json.dumps({"songname": "x" * size}).encode()
    problem(music.known(ADA).call("POST", "/songs", content=body, headers=JSON), 413)
    problem(music.known(ADA).call("POST", "/songs", content=iter([body[:100], body[100:]]), headers=JSON), 413)
    assert music.web.sql("SELECT * FROM songs") == []


def test_a_field_that_is_not_known_is_named(music: MusicApp) -> None:
    assert field_of(music.known(ADA).call("POST", "/songs", json={"songname": "a", "song_id": 7})) == "#/song_id"


def test_what_a_refusal_names_is_bounded(music: MusicApp) -> None:
    answer = music.known(ADA).call("POST", "/songs", json={"songname": "a", "y" * 5000: 7})
    assert len(answer.content) < 500


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/me", "GET, HEAD, OPTIONS"),
        ("/songs", "GET, HEAD, OPTIONS, POST"),
        ("/playlists/5", "DELETE, GET, HEAD, OPTIONS, PATCH"),
        ("/playlists/featured", "GET, HEAD, OPTIONS"),
        ("/playlists/5/featured", "DELETE, OPTIONS, PUT"),
    ],
)
def test_a_path_says_what_it_allows(music: MusicApp, path: str, allowed: str) -> None:
    ada = music.known(ADA)
    refused = ada.call("LOCK", path)
    problem(refused, 405)
    assert refused.headers["allow"] == allowed
    asked = ada.call("OPTIONS", path)
    assert (asked.status_code, asked.headers["allow"]) == (204, allowed)


@pytest.mark.parametrize("path", ["/me", "/songs", "/displayName", "/playlists/getPlays"])
def test_head_is_get_without_the_body(music: MusicApp, path: str) -> None:
    ada = music.known(ADA)
    head, got = ada.call("HEAD", path), ada.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"] == str(len(got.content))


def test_a_path_that_is_none_is_answered_as_a_problem(music: MusicApp) -> None:
    for path in ("/mee", "/songs/1/2", "/playlists//plays", "/secured"):
        problem(music.known(ADA).get(path), 404)
