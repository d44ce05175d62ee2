"""Metadata nested so deeply that Python gives up: such a user is set aside and said, and nobody else with them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import Engine, text

from tests.simulator.running import Simulator
from tests.worker.sync.asking import asking
from worker.domain.users import Tolerances
from worker.store import users
from worker.store.users import UserNews
from worker.sync.backfill import Backfill
from worker.sync.refresh import Refresh
from worker.sync.verify import Verify

TOLERANCES = Tolerances(timedelta(seconds=5), timedelta(seconds=60))
# More than Python reads anywhere, more than it reads where its stack is half full, more than we take.
DEPTHS = 1_100, 930, 250
REFUSED = {"where": "api", "kind": "status", "status": 403, "match": {"method": "POST", "path": "users-exports"}}


@pytest.fixture(scope="module")
def auth0() -> Iterator[Simulator]:
    simulator = Simulator("--plan", "none", "--index-lag", "0")
    span = {"created_from": "2024-01-01T00:00:00Z", "created_to": "2024-03-01T00:00:00Z"}
    simulator.control("POST", "users/load", {"count": 120, **span})
    simulator.control("PUT", "jobs", {"export_seconds": 0})
    yield simulator
    simulator.stop()


@pytest.fixture(scope="module")
def deep(auth0: Simulator) -> list[str]:
    """Have some users write odd metadata of their own; return who they are."""
    whom = sorted(auth0.truth())[10::30][: len(DEPTHS)]
    for user_id, depth in zip(whom, DEPTHS, strict=True):
        metadata = '{"a":' * depth + "1" + "}" * depth
        answer = auth0.api(
            "PATCH",
            f"users/{quote(user_id, safe='')}",
            content=f'{{"user_metadata":{metadata}}}',
            headers={"Content-Type": "application/json"},
        )
        assert answer.status_code == 200, answer.text
    return whom


def ask(engine: Engine, sql: str, **values: Any) -> list[Any]:
    with engine.begin() as connection:
        return list(connection.execute(text(sql), values).scalars())


@pytest.mark.parametrize("faults", [[], [REFUSED]], ids=["export", "searches"])
def test_everybody_else_is_loaded_and_compared(
    auth0: Simulator, engine: Engine, redis_url: str, deep: list[str], faults: list[Any]
) -> None:
    auth0.control("PUT", "faults", faults)
    with asking(auth0, redis_url) as parts:
        done = Backfill(engine, parts.everyone, TOLERANCES).run()
        assert (done.users, done.bad, done.unread) == (117, 3, 0)
        assert ask(engine, "SELECT count(*) FROM live_users") == [117]
        assert ask(engine, "SELECT user_id FROM users WHERE user_id = ANY(:deep)", deep=deep) == []
        parked = ask(engine, "SELECT convert_from(record, 'UTF8') FROM parked")
        assert sorted(user_id for user_id in deep for record in parked if user_id in record) == sorted(deep)
        drift = Verify(engine, parts.everyone, parts.tenant, parts.budget).run()
        assert (drift.users, drift.bad, drift.is_whole) == (117, 3, False)


def test_a_user_who_became_odd_stops_nobody_who_is_read_beside_them(
    auth0: Simulator, engine: Engine, redis_url: str, deep: list[str]
) -> None:
    auth0.control("PUT", "faults", [])
    whom = [*deep, *auth0.sign_up(5)]
    with engine.begin() as connection:
        users.mark(connection, [UserNews(user_id) for user_id in whom])
    with asking(auth0, redis_url) as parts:
        refresh = Refresh(engine, parts.tenant, parts.budget, TOLERANCES, b"key")
        while (again := refresh.run(go_on=lambda: True)) is not None:
            time.sleep(again)
    left = "SELECT user_id FROM news WHERE attempts > 0 ORDER BY user_id"
    assert ask(engine, left) == sorted(deep)
    assert ask(engine, "SELECT count(*) FROM users WHERE profile IS NOT NULL") == [5]
