"""A stream's token is rotated as docs/operating.md says, under load, and no delivery ever meets a 401."""

from __future__ import annotations

import pytest

from tests.journeys.conftest import OnStage
from tests.journeys.stage import TOKEN

pytestmark = pytest.mark.journey

NEW = "the-stream's-next-token"


def test_a_token_is_rotated_under_load_without_a_single_401(play: OnStage) -> None:
    with play(stream=False) as stage:
        stage.set_up()
        stage.sign_up(40)
        with stage.storm(seconds=12):
            stage.replace_web(LOG_STREAM_TOKENS=f"{NEW},{TOKEN}")
            assert "token" in stage.set_up("--send-tokens")
            stage.wait_until(lambda: stage.count("inbox WHERE state = 'done'") > 0, "deliveries")
            stage.tenant.control("POST", "streams/drain", {"seconds": 30})
            stage.replace_web(LOG_STREAM_TOKENS=NEW)
        stage.assert_equal(at_least=30)
        assert stage.query("SELECT value FROM counters WHERE name = 'unauthorized_logs'") == []
        assert stage.deliver(b"[]", TOKEN) == 401
        refused = "counters WHERE name = 'unauthorized_logs' AND value = 1"
        stage.wait_until(lambda: stage.count(refused) == 1, "this one to be counted")
