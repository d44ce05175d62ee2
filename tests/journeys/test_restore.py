"""Yesterday's dump is restored: the copy is right again without a hand, and what nobody can know is said."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import psycopg
import pytest
import redis
from celery import Celery
from psycopg import sql

from local.product import MUSIC_API, Product
from local.servers import EmbeddedPostgres
from tests.journeys.conftest import OnStage
from tests.journeys.stage import Stage

pytestmark = pytest.mark.journey

EDITOR = "playlist_editor"
SETTINGS = {"AUTH0_AUDIENCE": MUSIC_API, "ROLE_TIERS": f"{EDITOR}=3"}


class Listener:
    """Somebody who plays over the real API."""

    def __init__(self, stage: Stage, user_id: str) -> None:
        given = stage.tenant.control("POST", "tokens", {"user_ids": [user_id], "audience": MUSIC_API})
        self._url, self._headers = stage.product.url, {"Authorization": f"Bearer {given['access_tokens'][0]}"}

    def make_playlist(self) -> int:
        return int(self._post("/playlists", {"name": "mine"}).json()["playlist_id"])

    def play(self, playlist: int, times: int) -> None:
        for _ in range(times):
            assert self._post(f"/playlists/{playlist}/plays", {"play_id": str(uuid4())}).status_code == 202

    def _post(self, path: str, body: dict[str, str]) -> httpx.Response:
        url = f"{self._url}{path}"
        return httpx.post(url, json=body, headers=self._headers, timeout=30, trust_env=False).raise_for_status()


def dump(postgres: EmbeddedPostgres, path: Path) -> None:
    _run(postgres, "pg_dump", "--format=custom", f"--file={path}", postgres.url)


def restore(postgres: EmbeddedPostgres, path: Path) -> None:
    """Read the dump into a database of the same name, as an operator would."""
    name = postgres.url.rpartition("/")[2]
    with psycopg.connect(postgres.url_of("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    _run(postgres, "pg_restore", "--exit-on-error", f"--dbname={postgres.url}", str(path))


def _run(postgres: EmbeddedPostgres, program: str, *arguments: str) -> None:
    done = subprocess.run([postgres.tool(program), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@contextmanager
def everything_stopped(stage: Stage) -> Iterator[None]:
    for process in (stage.product.beat, stage.product.worker, stage.product.web):
        process.stop()
    yield
    port = int(stage.product.url.rpartition(":")[2])
    stage.product = Product.start(stage.processes, stage.environ, port=port)


def editors(stage: Stage) -> set[str]:
    return {user["user_id"] for user in stage.tenant.truth() if EDITOR in user.get("app_metadata", {}).get("roles", [])}


def is_reconciled(stage: Stage) -> bool:
    """Ring as beat does each minute, then tell whether a reconcile is over."""
    with Celery(broker=stage.environ["REDIS_URL"], set_as_current=False) as app:
        app.send_task("worker.tasks.reconcile", queue="understudy", ignore_result=True, expires=5)
    return stage.count("runs WHERE kind = 'reconcile' AND state = 'complete'") > 0


def test_a_restored_dump_is_made_right_and_what_is_lost_is_said(
    play: OnStage, own_postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    with play(database_url=own_postgres.url, people=12, settings=SETTINGS) as stage:
        early, late, listener, leaving, *rest = sorted(user["user_id"] for user in stage.tenant.truth())
        listens = Listener(stage, listener)
        playlists = {owner: Listener(stage, owner).make_playlist() for owner in (early, late)}
        listens.play(playlists[early], 3)
        stage.wait_until(lambda: editors(stage) == {early}, "the first role")
        stage.settle()
        dump(own_postgres, tmp_path / "yesterday")

        listens.play(playlists[late], 3)
        stage.tenant.control("POST", "people/act", {"act": "delete", "user_id": leaving})
        stage.tenant.control("POST", "people/act", {"act": "change_name", "user_id": rest[0], "name": "Since Then"})
        stage.tenant.control("POST", "people/login", {"user_ids": rest})
        # Not by way of Google, whose users have a `locale`: no export tells it, so it comes with their next login.
        new = stage.sign_up(3, connection="Username-Password-Authentication")
        stage.wait_until(lambda: editors(stage) == {early, late}, "the second role")
        stage.settle()
        stage.assert_equal()
        assert stage.understudy("status").status == 0

        with everything_stopped(stage):
            restore(own_postgres, tmp_path / "yesterday")
            with redis.Redis.from_url(stage.environ["REDIS_URL"]) as client:
                client.flushall()  # the servers are new, too: nothing outside the database remembers
        stage.wait_until(lambda: is_reconciled(stage), "a reconcile")
        stage.assert_equal(at_least=14)
        assert {user["user_id"] for user in stage.tenant.truth()} >= {*new, *rest}

        # The plays since are lost, and with them the reason for a role: it stays, and somebody is told.
        assert stage.query("SELECT sum(plays) FROM playlists") == [(3,)]
        told = stage.understudy("status")
        assert told.status == 1
        assert "this database was restored from a backup, or moved" in told.out
        assert "no role is taken away" in told.out
        assert "the database has lost time" in stage.output.of("worker")
        assert editors(stage) == {early, late}

        answered = stage.understudy("brake", "--trust")
        assert answered.status == 0
        stage.wait_until(
            lambda: editors(stage) == {early}, "the role that nothing earns to go, now that somebody said so"
        )
        stage.assert_equal(at_least=14)
        assert stage.understudy("status").status == 0
