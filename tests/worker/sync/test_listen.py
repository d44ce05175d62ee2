"""The tenant's events, pulled: read behind an offset, stored with it, and begun anew where it has expired."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from tests.simulator.running import Simulator
from tests.worker.sync.pulling import Copy, copy_of
from worker.auth0.event_feed import EventFeed
from worker.errors import Refused, TenantDown, Throttled
from worker.sync.listen import Listen


@pytest.fixture
def auth0() -> Iterator[Simulator]:
    simulator = Simulator("--plan", "none", "--index-lag", "0", "--log-skew", "0")
    yield simulator
    simulator.stop()


@pytest.fixture
def copy(auth0: Simulator, engine: Engine, redis_url: str) -> Iterator[Copy]:
    with copy_of(auth0, engine, redis_url) as copy:
        yield copy


def listen(copy: Copy, most: int = 10**6) -> float | None:
    left = iter(range(most))
    again: float | None = 1.0
    while again:  # an empty budget fills within moments
        again = Listen(copy.engine, EventFeed(copy.tenant, copy.settings), copy.budget).run(
            go_on=lambda: next(left, None) is not None
        )
    return again


def users(copy: Copy) -> int:
    return int(copy.ask("SELECT count(*) FROM live_users")[0][0])


def test_events_are_pulled_once_and_make_profiles_without_a_read(auth0: Simulator, copy: Copy) -> None:
    auth0.sign_up(300, login=False, connection="Username-Password-Authentication")
    assert listen(copy) is None
    copy.drain()
    assert users(copy) == 300
    assert copy.marks == 0
    pulled = copy.count("events_pulled")
    auth0.sign_up(1)
    listen(copy)
    copy.drain()
    assert users(copy) == 301
    assert copy.count("events_pulled") - pulled <= 3


def test_a_bounded_run_is_gone_on_with_where_it_ended(auth0: Simulator, copy: Copy) -> None:
    auth0.sign_up(50)
    assert listen(copy, most=7) == 0.0
    first = copy.count("events_pulled")
    assert 0 < first <= 8
    listen(copy)
    copy.drain()
    assert users(copy) == 50
    happened = auth0.control("GET", "events")["happened"]
    assert copy.count("events_pulled") == happened


def test_a_marker_of_a_place_moves_the_offset(auth0: Simulator, copy: Copy) -> None:
    auth0.control("PUT", "events/pull", {"heartbeat": 0.2})
    listen(copy, most=3)
    assert copy.ask("SELECT position FROM feeds")[0][0] is not None
    assert not copy.ask("SELECT FROM inbox")


def test_an_expired_offset_begins_anew_and_asks_for_a_reconcile(auth0: Simulator, copy: Copy) -> None:
    auth0.sign_up(5)
    listen(copy)
    auth0.sign_up(20)
    auth0.control("POST", "events/expire", {"keep": 0})
    auth0.sign_up(3)
    copy.tell("UPDATE feeds SET leased_until = NULL")
    listen(copy)
    assert "reconcile_wanted" in copy.conditions()


def test_a_connection_that_is_cut_keeps_what_it_brought(auth0: Simulator, copy: Copy) -> None:
    auth0.sign_up(30)
    auth0.control("PUT", "faults", [{"where": "pull", "kind": "drop", "probability": 0.1}])
    for _ in range(200):
        try:
            listen(copy)
            break
        except TenantDown:
            continue
    auth0.control("DELETE", "faults")
    listen(copy)
    copy.drain()
    assert users(copy) == 30


def test_a_missing_scope_is_said(auth0: Simulator, engine: Engine, redis_url: str) -> None:
    client = auth0.control("POST", "clients", {"scopes": ["read:users"]})
    granted = {"auth0_m2m_client_id": client["client_id"], "auth0_m2m_client_secret": client["client_secret"]}
    with copy_of(auth0, engine, redis_url, **granted) as copy:
        with pytest.raises(Refused, match="read:events"):
            listen(copy)
        assert "read:events" in copy.ask("SELECT trouble FROM feeds")[0][0]


def test_a_plan_without_a_connection_left_is_waited_for(auth0: Simulator, copy: Copy) -> None:
    auth0.control("PUT", "events/pull", {"connections": 0})
    with pytest.raises(Throttled):
        listen(copy)
