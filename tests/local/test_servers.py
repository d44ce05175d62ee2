"""The embedded servers: what they are, and that they come and go as told."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from local.children import Children
from local.privileges import unprivileged_account
from local.servers import ServerError, embedded_postgres, embedded_redis, servers_from_environment


@pytest.fixture
def keep(children: Children) -> Iterator[Path]:
    with children.folder(unprivileged_account()) as folder:
        yield folder / "with a space"


def one(url: str, statement: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(statement).fetchone()
    return row and row[0]


def test_the_database_speaks_utf8_in_c_order_and_writes_to_disk(children: Children) -> None:
    with embedded_postgres(children=children) as server:
        assert one(server.url, "SHOW server_encoding") == "UTF8"
        assert one(server.url, "SELECT datcollate FROM pg_database WHERE datname = current_database()") == "C"
        assert one(server.url, "SHOW fsync") == "on"
        assert one(server.url, "SHOW max_connections") == "100"


def test_what_was_committed_survives_a_restart_and_a_crash_on_the_same_port(children: Children) -> None:
    with embedded_postgres(children=children) as server:
        url = server.url
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS number")
        server.restart()
        assert one(url, "SELECT number FROM kept") == 1
        server.kill()
        with pytest.raises(psycopg.OperationalError):
            one(url, "SELECT 1")
        server.start()
        assert one(url, "SELECT number FROM kept") == 1


def test_a_database_copies_its_template(children: Children) -> None:
    with embedded_postgres(children=children, fsync=False) as server:
        with psycopg.connect(server.create_database("a template")) as connection:
            connection.execute("CREATE TABLE copied AS SELECT 7 AS number")
        assert one(server.create_database("copy", template="a template"), "SELECT number FROM copied") == 7
        server.drop_database("copy")
        with pytest.raises(psycopg.OperationalError):
            one(server.url_of("copy"), "SELECT 1")


def test_nobody_gets_in_without_the_password(children: Children) -> None:
    with embedded_postgres(children=children, fsync=False) as server, embedded_redis(children=children) as store:
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(f"postgresql://understudy:wrong@127.0.0.1:{server.port}/understudy")
        with (
            redis.Redis(port=store.port, retry=Retry(NoBackoff(), 0)) as stranger,
            pytest.raises(redis.AuthenticationError),
        ):
            stranger.ping()


def test_a_cluster_that_is_kept_comes_back_with_its_data_and_url(children: Children, keep: Path) -> None:
    with servers_from_environment({}, children=children, keep=keep) as servers:
        first = servers.postgres.url, servers.redis.url
        with psycopg.connect(servers.postgres.url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS number")
    with servers_from_environment({}, children=children, keep=keep) as servers:
        assert (servers.postgres.url, servers.redis.url) == first
        assert one(servers.postgres.url, "SELECT number FROM kept") == 1


def test_two_cannot_use_one_kept_cluster_at_once(children: Children, keep: Path) -> None:
    environ = {"REDIS_URL": "redis://127.0.0.1:1/0"}
    with (
        servers_from_environment(environ, children=children, keep=keep),
        pytest.raises(ServerError, match="running already"),
        servers_from_environment(environ, children=children, keep=keep),
    ):
        pass


def test_real_urls_win_over_embedded_servers(children: Children) -> None:
    environ = {"DATABASE_URL": "postgres://u:p@db.test/app", "REDIS_URL": "rediss://cache.test:6380"}
    with servers_from_environment(environ, children=children) as servers:
        assert servers.postgres.url == "postgresql://u:p@db.test/app"
        assert servers.redis.url == "rediss://cache.test:6380"


def test_a_paused_redis_accepts_and_does_not_answer(children: Children) -> None:
    with embedded_redis(children=children) as server:
        server.pause()
        socket.create_connection(("127.0.0.1", server.port), timeout=5).close()
        with redis.Redis.from_url(server.url, socket_timeout=0.2) as client, pytest.raises(redis.TimeoutError):
            client.ping()
        server.resume()
        with redis.Redis.from_url(server.url, socket_timeout=30) as client:
            assert client.ping()


def test_a_redis_that_was_killed_comes_back_empty(children: Children) -> None:
    with embedded_redis(children=children) as server:
        with redis.Redis.from_url(server.url) as client:
            client.set("key", "value")
        server.kill()
        server.start()
        assert server.is_empty()


def test_the_folder_of_a_throwaway_server_is_gone_afterwards(children: Children) -> None:
    with embedded_postgres(children=children, fsync=False) as server:
        assert server.data.exists()
    assert not server.data.parent.exists()


def test_each_test_gets_an_empty_database_of_its_own(database_url: str, redis_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE only_here (number int)")
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0


@pytest.mark.parametrize("run", [1, 2])
def test_databases_do_not_leak_into_each_other(database_url: str, run: int) -> None:
    assert one(database_url, "SELECT to_regclass('only_here')::text") is None, run
