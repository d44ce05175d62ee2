"""Redis is wiped, killed and frozen, PostgreSQL restarted and crashed, all in the middle of a storm."""

from __future__ import annotations

import time

import pytest
import redis

from local.servers import EmbeddedPostgres, EmbeddedRedis
from tests.journeys.conftest import OnStage

pytestmark = pytest.mark.journey


# Seen once in three runs on a busy machine: after Redis was frozen the worker took no further task until it was
# restarted. The copy loses nothing, but it waits. To be removed with the cause.
@pytest.mark.xfail(strict=False, reason="a worker now and then stays silent after Redis was frozen")
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
