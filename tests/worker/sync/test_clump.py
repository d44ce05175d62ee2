"""More users created in one millisecond than a search can show: read as far as can be, and never called complete."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from sqlalchemy import create_engine, text

from tests.simulator.running import Simulator
from tests.worker.sync.asking import settings_for, understudy

CLUMP = "2024-06-01T12:00:00.500Z"
REFUSAL = {"where": "api", "kind": "status", "status": 403, "match": {"method": "POST", "path": "users-exports"}}


@pytest.fixture(scope="module")
def auth0() -> Iterator[Simulator]:
    simulator = Simulator("--plan", "none", "--index-lag", "0")
    simulator.control("POST", "users/load", {"count": 1_200, "created_from": CLUMP})
    span = {"created_from": "2024-01-01T00:00:00Z", "created_to": "2024-03-01T00:00:00Z"}
    simulator.control("POST", "users/load", {"count": 300, **span})
    simulator.control("PUT", "faults", [REFUSAL])
    yield simulator
    simulator.stop()


def test_a_clump_behind_the_cap_is_counted_and_the_run_is_incomplete(
    auth0: Simulator, database_url: str, redis_url: str
) -> None:
    settings = settings_for(auth0, redis_url, database_url=database_url)
    filled = understudy(settings, "backfill")
    assert filled.returncode == 1, filled.stderr
    assert "1300 users read, 1300 rows written" in filled.stdout
    assert "incomplete: 200 users cannot be read" in filled.stdout
    compared = understudy(settings, "verify", "--json")
    assert compared.returncode == 1, compared.stderr
    told = json.loads(compared.stdout)
    assert (told["users"], told["unread"], told["complete"]) == (1_300, 200, False)
    engine = create_engine(database_url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        states = connection.execute(text("SELECT kind, state FROM runs ORDER BY id")).all()
    engine.dispose()
    assert [tuple(row) for row in states] == [("backfill", "failed"), ("verify", "failed")]
