"""PostgreSQL or Redis away: every route says so within two seconds, and works again by itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.music import OPERATIONS
from local.children import Children
from local.servers import EmbeddedPostgres, EmbeddedRedis, Redis
from tests.api.listeners import ADA, MusicApp, music_app, problem
from tests.api.test_callers import call
from tests.api.web import at_once, eventually


@pytest.fixture(scope="module")
def own(
    children: Children, tmp_path_factory: pytest.TempPathFactory, own_postgres: EmbeddedPostgres, redis_server: Redis
) -> Iterator[MusicApp]:
    with music_app(children, tmp_path_factory.mktemp("tenant"), own_postgres.url, redis_server.url) as music:
        yield music


def test_every_route_says_that_postgresql_is_away_and_works_when_it_is_back(
    own: MusicApp, own_postgres: EmbeddedPostgres
) -> None:
    ada = own.known(ADA, app_metadata={"roles": ["playlist_editor"]})
    ada.song()
    ada.playlist()
    own_postgres.stop()
    try:
        for operation in OPERATIONS:
            begun = time.monotonic()
            answer = call(ada, operation)
            assert time.monotonic() - begun < 10  # two seconds on a machine of one's own
            assert "PostgreSQL" in problem(answer, 503)["detail"]
            assert int(answer.headers["retry-after"]) > 0
        assert own.web.get("/healthz").status_code == 200
    finally:
        own_postgres.start()
    assert eventually(lambda: ada.get("/me").status_code == 200, "the pool to find the server")
    assert ada.ok("GET", "/songs")["songs"]


def test_a_restart_between_two_requests_is_not_noticed(own: MusicApp, own_postgres: EmbeddedPostgres) -> None:
    ada = own.known(ADA)
    assert set(at_once(12, lambda _: ada.get("/songs").status_code)) == {200}
    own_postgres.stop()
    own_postgres.start()
    assert [ada.get("/songs").status_code for _ in range(8)] == [200] * 8
    ada.song()


def test_a_server_that_hangs_is_away(own: MusicApp) -> None:
    own.empty()
    ada = own.known(ADA)
    ada.song()
    own.web.sql(
        "CREATE OR REPLACE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(60); RETURN NEW; END'"
    )
    own.web.sql("CREATE TRIGGER slow BEFORE INSERT ON songs FOR EACH ROW EXECUTE FUNCTION slow()")
    try:
        answers = at_once(12, lambda _: ada.call("POST", "/songs", json={"songname": "slow"}).status_code)
        assert set(answers) == {503}
    finally:
        own.web.sql("DROP TRIGGER slow ON songs")
    assert eventually(lambda: ada.get("/songs").status_code == 200, "the pool to have a free connection")
    assert len(ada.ok("GET", "/songs")["songs"]) == 1


def test_a_database_that_lacks_a_migration_is_the_operators_business(own: MusicApp) -> None:
    ada = own.known(ADA)
    own.web.sql("ALTER TABLE songs RENAME TO gone")
    try:
        assert "operator" in problem(ada.get("/songs"), 503)["detail"]
    finally:
        own.web.sql("ALTER TABLE gone RENAME TO songs")


def test_without_redis_everything_is_answered(
    children: Children, tmp_path: Path, module_database_url: str, own_redis: EmbeddedRedis
) -> None:
    with music_app(children, tmp_path, module_database_url, own_redis.url) as music:
        own_redis.stop()
        try:
            ada = music.person(ADA)
            playlist = ada.playlist()
            assert ada.play(playlist).status_code == 202
            ada.ok("PATCH", "/displayName", {"displayName": "Ada"})
            assert ada.ok("GET", "/me")["display_name"] == "Ada"
        finally:
            own_redis.start()
