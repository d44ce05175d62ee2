"""A worker is killed in the middle of each loop, again and again: whoever comes next finishes what it began."""

from __future__ import annotations

import psutil
import psycopg
import pytest

from tests.journeys.conftest import OnStage
from tests.journeys.stage import Stage

pytestmark = pytest.mark.journey

CLAIMED = "inbox WHERE state = 'pending' AND claimed_until > now()"
LEASED = "news WHERE leased_until > now()"


def kill_in_the_middle_of_drain(stage: Stage) -> None:
    """Hold drain up behind a lock of ours, so that it has claimed deliveries and written nothing of them."""
    with psycopg.connect(stage.database_url) as lock:
        lock.execute("LOCK TABLE news IN SHARE MODE")
        stage.burst(100, 0)
        stage.wait_until(lambda: stage.count(CLAIMED) > 0, "drain to claim")
        stage.product.worker.kill()
    assert stage.count(CLAIMED) > 0
    stage.product.worker.start()


def wait_for_slow_reads(stage: Stage) -> None:
    """Let the tenant take its time, so that marks are leased and no answer is there."""
    stage.faults({"where": "api", "kind": "delay", "seconds": 2})
    stage.burst(100, 0)
    stage.wait_until(lambda: stage.count(LEASED) > 0, "refresh to lease")


def kill_in_the_middle_of_refresh(stage: Stage) -> None:
    wait_for_slow_reads(stage)
    stage.product.worker.kill()
    assert stage.count(LEASED) > 0
    stage.faults()
    stage.product.worker.start()


def kill_the_pool_in_the_middle_of_refresh(stage: Stage) -> None:
    """Kill the processes that do the work and not their parent; Celery replaces them and repeats their tasks."""
    wait_for_slow_reads(stage)
    for child in psutil.Process(stage.product.worker.pid).children():
        child.kill()
    stage.faults()


def test_a_worker_killed_in_every_loop_loses_nothing(play: OnStage) -> None:
    with play(people=100) as stage:
        with stage.storm(seconds=12):
            for _ in range(2):
                kill_in_the_middle_of_drain(stage)
                kill_in_the_middle_of_refresh(stage)
                kill_the_pool_in_the_middle_of_refresh(stage)
        stage.assert_equal(at_least=80)
        assert stage.count("inbox WHERE attempts > 1") > 0, "no delivery was ever claimed twice"
