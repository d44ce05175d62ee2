"""Redis is wiped, killed and frozen, PostgreSQL restarted and crashed, all in the middle of a storm."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
import redis

from local.servers import EmbeddedPostgres, EmbeddedRedis
from tests.journeys.conftest import OnStage
from tests.journeys.stage import Stage

pytestmark = pytest.mark.journey


def test_redis_wiped_killed_and_frozen_in_a_storm_costs_seconds(play: OnStage, own_redis: EmbeddedRedis) -> None:
    with play(redis_url=own_redis.url, people=80) as stage:
        with stage.storm(seconds=12):
            for _ in range(3):
                time.sleep(1)
                with redis.Redis.from_url(own_redis.url) as client:
                    client.flushall()
            own_redis.kill()
            time.sleep(1)
            assert stage.deliver(b"") == 204
            own_redis.start()
            time.sleep(1)
            own_redis.pause()
            assert stage.deliver(b"[]") == 204
            time.sleep(2)
            own_redis.resume()
        stage.assert_equal(at_least=60)


@contextmanager
def _every_child_busy(stage: Stage) -> Iterator[None]:
    """Let both children of the worker wait for a lock on `news`, one in drain and one in refresh."""
    waiting = "pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with psycopg.connect(stage.database_url) as connection:
        connection.execute("LOCK TABLE news")
        stage.sign_up(1)
        stage.wait_until(lambda: stage.count(waiting) == 2, "both children to wait")
        yield


def test_redis_killed_while_every_child_is_busy_leaves_no_worker_deaf(play: OnStage, own_redis: EmbeddedRedis) -> None:
    with play(redis_url=own_redis.url, people=5) as stage:
        for _ in range(2):
            with _every_child_busy(stage):
                own_redis.kill()
            time.sleep(2)  # both tasks end, and nobody can be told
            own_redis.start()
            stage.settle()
        stage.assert_equal(at_least=7)


def test_while_redis_is_away_the_processes_say_so_in_single_lines(play: OnStage, own_redis: EmbeddedRedis) -> None:
    with play(redis_url=own_redis.url) as stage:
        seen = "SELECT seen_at FROM processes WHERE name = 'beat'"
        stage.wait_until(lambda: bool(stage.query(seen)), "beat to start")
        started = stage.query(seen)
        stage.wait_until(lambda: stage.query(seen) != started, "beat to ring")
        with own_redis.stopped():
            stage.wait_until(lambda: "beat cannot ring" in stage.output.of("beat"), "beat to notice")
        stage.wait_until(lambda: "beat rings again" in stage.output.of("beat"), "beat to ring")
        stage.sign_up(3)
        stage.assert_equal(at_least=3)
    said = stage.output.of("beat", "worker")
    assert said.count("beat cannot ring") == 1
    for noise in ("File ", "is starting", "DeprecationWarning", "[config]"):
        assert noise not in said, said


def test_postgresql_restarted_and_crashed_in_a_storm_loses_nothing(
    play: OnStage, own_postgres: EmbeddedPostgres
) -> None:
    with play(database_url=own_postgres.url, people=80) as stage:
        with stage.storm(seconds=12):
            for away in (0, 2):
                time.sleep(2)
                own_postgres.stop()
                time.sleep(away)
                assert stage.deliver(b"[]") == 503
                own_postgres.start()
            time.sleep(1)
            own_postgres.kill()
            own_postgres.start()
        stage.assert_equal(at_least=60)
