"""A simulated tenant on the smallest plan, and doctor to look at it."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.simulator.running import Simulator
from tests.worker.commands.doctoring import Doctor, doctor_of


@pytest.fixture(scope="module")
def free_tenant() -> Iterator[Simulator]:
    tenant = Simulator("--plan", "free")
    yield tenant
    tenant.stop()


@pytest.fixture
def doctor(free_tenant: Simulator, database_url: str, redis_url: str) -> Doctor:
    """Run it with worker and beat alive."""
    with psycopg.connect(database_url) as connection:
        # An hour ahead: a loaded machine may take its time between this and what is looked at.
        connection.execute(
            "INSERT INTO processes (name, seen_at) SELECT name, now() + interval '1 hour' FROM (VALUES ('worker@here'), ('beat')) AS v (name)"
        )
    return doctor_of(free_tenant, database_url, redis_url)
