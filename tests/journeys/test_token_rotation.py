"""A stream's token is rotated as docs/operating.md says, under load, and no delivery ever meets a 401."""

from __future__ import annotations

import os
from dataclasses import replace

import httpx
import pytest

from local.product import procfile
from tests.journeys.conftest import OnStage
from tests.journeys.stage import SCRIPTS, TOKEN, Stage

pytestmark = pytest.mark.journey

NEW = "the-stream's-next-token"
SCOPES = [f"{verb}:{what}" for what in ("log_streams", "actions") for verb in ("read", "create", "update", "delete")]


def is_ready(stage: Stage) -> bool:
    try:
        return httpx.get(f"{stage.product.url}/readyz", timeout=5, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def deploy_web(stage: Stage, tokens: str) -> None:
    """Replace the web process by one with these tokens, at the same place."""
    port = stage.product.url.rpartition(":")[2]
    stage.product.web.stop()
    stage.environ["LOG_STREAM_TOKENS"] = tokens
    environ = {**stage.environ, "PORT": port, "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"}
    web = stage.processes.start("web", procfile()["web"], env=environ, healthy=lambda: is_ready(stage))
    stage.product = replace(stage.product, web=web)


def set_up(stage: Stage, *options: str) -> str:
    client = stage.tenant.control("POST", "clients", {"scopes": SCOPES})
    told = stage.understudy(
        "setup",
        *options,
        PUBLIC_URL=stage.product.url,
        AUTH0_SETUP_CLIENT_ID=client["client_id"],
        AUTH0_SETUP_CLIENT_SECRET=client["client_secret"],
    )
    assert told.status == 0, told.err
    return told.out


def test_a_token_is_rotated_under_load_without_a_single_401(play: OnStage) -> None:
    with play(stream=False) as stage:
        set_up(stage)
        stage.sign_up(40)
        with stage.storm(seconds=12):
            deploy_web(stage, f"{NEW},{TOKEN}")
            assert "token" in set_up(stage, "--send-tokens")
            stage.wait_until(lambda: stage.count("inbox WHERE state = 'done'") > 0, "deliveries")
            stage.tenant.control("POST", "streams/drain", {"seconds": 30})
            deploy_web(stage, NEW)
        stage.assert_equal(at_least=30)
        assert stage.query("SELECT value FROM counters WHERE name = 'unauthorized_logs'") == []
        assert stage.deliver(b"[]", TOKEN) == 401
        refused = "counters WHERE name = 'unauthorized_logs' AND value = 1"
        stage.wait_until(lambda: stage.count(refused) == 1, "this one to be counted")
