"""What an operator runs by hand is killed in the middle: run again, it ends as if nothing had happened."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import create_engine

from local.product import MUSIC_API
from tests.journeys.conftest import OnStage
from tests.journeys.kills import hang_once, hangs, held_before, killed, let_leases_end
from tests.journeys.stage import Stage
from tests.journeys.test_restore import Listener
from tests.worker.sync.forgetting import Copy
from worker.queue.plays import Play, encode

pytestmark = [pytest.mark.journey, pytest.mark.timeout(600)]

PARKED = 1_200
"""More than two of the batches in which they are given back."""


def left(stage: Stage, *marks: str) -> dict[str, list[str]]:
    """Search every row of every table, unpacked, for these words; return what was found by table."""
    engine = create_engine(stage.database_url.replace("postgresql:", "postgresql+psycopg:"))
    try:
        return Copy(engine, domain=stage.tenant.domain).left(*map(re.escape, marks))
    finally:
        engine.dispose()


@contextmanager
def open_transaction(stage: Stage) -> Iterator[None]:
    with psycopg.connect(stage.database_url) as connection:
        connection.execute("SELECT FROM users LIMIT 1")
        yield


def test_an_erasure_that_is_killed_wherever_it_stands_is_run_again_to_its_end(play: OnStage) -> None:
    with play(people=5, settings={"AUTH0_AUDIENCE": MUSIC_API, "ROLE_TIERS": ""}) as stage:
        ada, bob, *_ = sorted(user["user_id"] for user in stage.tenant.truth())
        address = stage.query(f"SELECT email FROM users WHERE user_id = '{ada}'")[0][0] or ada  # noqa: S608 of our making
        hers, his = Listener(stage, ada), Listener(stage, bob)
        hers.make_playlist()
        hers.play(his.make_playlist(), 3)
        stage.wait_until(lambda: stage.query("SELECT sum(plays) FROM playlists") == [(3,)], "her plays to count")
        stage.tenant.control("POST", "people/act", {"act": "delete", "user_id": ada})
        stage.settle()
        her_playlists = f"playlists WHERE user_id = '{ada}'"
        assert stage.count(her_playlists) == 1

        with open_transaction(stage), killed(stage, "forget", ada):
            stage.wait_until(lambda: stage.count("forgotten") == 1, "the hash to be kept")
        hang_once(stage, "GET", "/users/[^/]+$")
        with killed(stage, "forget", ada):
            stage.wait_until(lambda: hangs(stage), "a strong read")
        stage.faults()
        assert stage.count(her_playlists) == 1
        with held_before(stage, "users", f"OLD.user_id = '{ada}'", "DELETE") as is_held, killed(stage, "forget", ada):
            stage.wait_until(is_held, "all but her row to go")
        assert stage.count(her_playlists) == 0
        assert stage.count(f"users WHERE user_id = '{ada}'") == 1

        let_leases_end(stage)
        told = stage.understudy("forget", ada)
        assert told.status == 0, told.err
        assert "1 user's row" in told.out
        assert left(stage, ada, address) == {}
        assert stage.query("SELECT sum(plays), count(*) FROM playlists") == [(3, 1)]
        stage.assert_equal(at_least=4)
        assert left(stage, ada, address) == {}
        assert stage.understudy("status").status == 0


def park_plays(stage: Stage, playlist: int, owner: str) -> None:
    """Have plays of one listener each lie parked, as deliveries that were given up."""
    rows = [encode(Play(f"auth0|listener{number}", owner, playlist, UUID(int=number))) for number in range(PARKED)]
    with psycopg.connect(stage.database_url) as connection:
        connection.execute(
            "INSERT INTO inbox (source, state, encoding, size, body, error) "
            "SELECT 'plays', 'parked', 'identity', octet_length(body), body, 'a bug' FROM unnest(%s::bytea[]) AS body",
            [rows],
        )


def test_a_replay_that_is_killed_between_two_batches_is_run_again_and_each_play_counts_once(play: OnStage) -> None:
    with play(people=1, settings={"AUTH0_AUDIENCE": MUSIC_API, "ROLE_TIERS": ""}) as stage:
        [owner] = [user["user_id"] for user in stage.tenant.truth()]
        park_plays(stage, Listener(stage, owner).make_playlist(), owner)
        parked = "inbox WHERE state = 'parked'"
        assert stage.count(parked) == PARKED

        [(last_id,)] = stage.query(f"SELECT max(id) FROM {parked}")  # noqa: S608 the words above
        last = f"NEW.id = {last_id} AND NEW.state = 'pending'"
        with held_before(stage, "inbox", last, "UPDATE") as is_held, killed(stage, "parked", "replay", "--all"):
            stage.wait_until(is_held, "the last batch")
        stage.wait_until(lambda: stage.query("SELECT plays FROM playlists") == [(1_000,)], "what was given back")
        assert stage.count(parked) == PARKED - 1_000
        assert stage.understudy("status").status == 1

        told = stage.understudy("parked", "replay", "--all")
        assert (told.status, told.out) == (0, f"{PARKED - 1_000} will be drained again\n")
        stage.wait_until(lambda: stage.query("SELECT plays FROM playlists") == [(PARKED,)], "the rest")
        stage.assert_equal()
        assert stage.count("plays") == PARKED
        assert stage.query("SELECT plays FROM playlists") == [(PARKED,)]
        assert stage.understudy("status").status == 0
