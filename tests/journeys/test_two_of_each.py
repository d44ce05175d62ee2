"""Deploys overlap and somebody scales beat to two; the web process is restarted under load."""

from __future__ import annotations

import time

import pytest

from tests.journeys.conftest import OnStage

pytestmark = pytest.mark.journey


def test_two_beats_and_two_workers_do_no_harm(play: OnStage) -> None:
    with play(people=80) as stage:
        stage.start("worker", "worker2")
        stage.start("beat", "beat2")
        with stage.storm(seconds=10, logins=1500):
            pass
        stage.assert_equal(at_least=60)
        assert stage.count("inbox WHERE attempts > 1") == 0, "a delivery was claimed twice"


def test_web_restarted_under_load_loses_nothing_thanks_to_auth0s_retries(play: OnStage) -> None:
    with play(people=80) as stage:
        with stage.storm(seconds=12, logins=1500):
            for _ in range(2):
                time.sleep(1)
                stage.product.web.restart()
                time.sleep(2)
                stage.product.web.kill()
                stage.product.web.start()
        sent = stage.tenant.control("GET", "stats")["deliveries"]
        assert sent["failed"] > 0, "nothing was ever repeated"
        stage.assert_equal(at_least=60)
