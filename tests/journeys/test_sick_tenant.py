"""The tenant's API fails in every way there is, for a while: marks wait, the rest works, the copy catches up by itself."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.journeys.conftest import OnStage

pytestmark = pytest.mark.journey

SICK_FOR = 6.0  # seconds of each illness: a minute in all
ILLNESSES: dict[str, list[dict[str, Any]]] = {
    "too many requests": [{"where": "api", "kind": "status", "status": 429}],
    "internal errors": [{"where": "api", "kind": "status", "status": 500}],
    "bad gateway": [{"where": "api", "kind": "html", "status": 502}],
    "a login page instead of JSON": [{"where": "api", "kind": "html", "status": 200}],
    "a 404 that is not Auth0's": [{"where": "api", "kind": "html", "status": 404}],
    "a 404 without the word for a missing user": [{"where": "api", "kind": "status", "status": 404}],
    "no answer": [{"where": "api", "kind": "hang", "seconds": 60}],
    "dropped connections": [{"where": "api", "kind": "drop"}],
    "no tokens": [
        {"where": "token", "kind": "status", "status": 500},
        {"where": "api", "kind": "status", "status": 401},
    ],
    "too many token requests": [
        {"where": "token", "kind": "status", "status": 429},
        {"where": "api", "kind": "status", "status": 401},
    ],
}


def test_a_sick_tenant_costs_time_and_nothing_else(play: OnStage) -> None:
    with play(people=60, settings={"AUTH0_TIMEOUT": "2s"}) as stage:
        for faults in ILLNESSES.values():
            stage.faults(*faults)
            stage.live(8)
            stage.burst(20, SICK_FOR)
        stage.wait_until_drained()
        assert stage.count("news") > 0, "nothing waits: the tenant was well"
        assert stage.count("users WHERE deleted_at IS NOT NULL AND NOT deletion_announced") == 0
        stage.faults()
        begun = time.monotonic()
        stage.assert_equal(at_least=50)
        # A pause is at most a minute.
        assert time.monotonic() - begun < 120
