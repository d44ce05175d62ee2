"""A silent event stream is looked behind: once in a while, by one reading that ends with the first event it missed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine

from tests.simulator.running import Simulator
from tests.worker.sync.pulling import Copy, copy_of
from worker.auth0.event_feed import EventFeed
from worker.bootstrap import Parts
from worker.store import rhythm
from worker.sync.probe import Probe

FLOOR = timedelta(minutes=15)


@pytest.fixture
def auth0() -> Iterator[Simulator]:
    simulator = Simulator("--plan", "none", "--index-lag", "0", "--log-skew", "0")
    yield simulator
    simulator.stop()


@pytest.fixture
def copy(auth0: Simulator, engine: Engine, redis_url: str) -> Iterator[Copy]:
    with copy_of(auth0, engine, redis_url, auth0_timeout="3s") as copy:
        copy.tell("INSERT INTO tenant (domain, copied_since) VALUES ('x', now() - interval '2 hours')")
        yield copy


def look(copy: Copy) -> None:
    Probe(copy.engine, EventFeed(copy.tenant, copy.settings), copy.budget, FLOOR).run(go_on=lambda: True)


def readings(auth0: Simulator) -> int:
    calls = auth0.control("GET", "stats")["api_calls"]
    return int(sum(count for call, count in calls.items() if call.endswith("/api/v2/events")))


def is_pushed(copy: Copy, seconds_ago: float) -> None:
    """Have an event of that time delivered and drained then."""
    moment = datetime.now(UTC) - timedelta(seconds=seconds_ago)
    user = {"user_id": "auth0|a", "created_at": moment.isoformat(), "updated_at": moment.isoformat(), "identities": []}
    event = {"id": "evt_1", "type": "user.updated", "time": moment.isoformat(), "data": {"object": user}}
    copy.is_delivered([json.loads(json.dumps(event))], "events")
    copy.drain()
    copy.tell("UPDATE inbox SET received_at = :at", at=moment)
    copy.tell("UPDATE arrivals SET arrived_at = :at", at=moment)


def silence(copy: Copy) -> rhythm.Silence:
    with copy.engine.begin() as connection:
        found = rhythm.silence(connection, "events", FLOOR)
    assert found is not None
    return found


def test_a_silent_stream_that_missed_something_is_broken(auth0: Simulator, copy: Copy) -> None:
    is_pushed(copy, 3600)
    auth0.sign_up(50)
    look(copy)
    assert silence(copy).missed_something
    assert not copy.ask("SELECT FROM inbox WHERE source <> 'events'")
    is_pushed(copy, -1)  # it is mended
    assert not silence(copy).missed_something


def test_a_silent_stream_of_a_quiet_tenant_is_quiet(auth0: Simulator, copy: Copy) -> None:
    is_pushed(copy, 3600)
    look(copy)
    assert not silence(copy).missed_something
    assert silence(copy).looked is not None
    look(copy)
    assert readings(auth0) == 1  # again only after a while
    copy.tell("UPDATE arrivals SET arrived_at = now() - interval '16 minutes' WHERE source = 'probe'")
    look(copy)
    assert readings(auth0) == 2


def test_nobody_looks_while_the_stream_delivers(auth0: Simulator, copy: Copy) -> None:
    is_pushed(copy, 60)
    auth0.sign_up(1)
    look(copy)
    assert readings(auth0) == 0


def test_a_stream_that_never_delivered_is_looked_behind(auth0: Simulator, copy: Copy) -> None:
    auth0.sign_up(1)
    look(copy)
    assert silence(copy).missed_something
    assert not silence(copy).ever


def test_where_auth0_does_not_let_us_look_nobody_has_looked(auth0: Simulator, engine: Engine, redis_url: str) -> None:
    client = auth0.control("POST", "clients", {"scopes": ["read:users"]})
    granted = {"auth0_m2m_client_id": client["client_id"], "auth0_m2m_client_secret": client["client_secret"]}
    with copy_of(auth0, engine, redis_url, **granted) as copy:
        copy.tell("INSERT INTO tenant (domain, copied_since) VALUES ('x', now() - interval '2 hours')")
        for _ in range(3):
            look(copy)
        assert silence(copy).looked is None
    assert readings(auth0) == 1
    assert not copy.conditions()


def test_nobody_looks_where_events_are_pulled_or_the_stream_has_the_only_connection(
    auth0: Simulator, engine: Engine, redis_url: str, database_url: str
) -> None:
    def looks(**chosen: object) -> bool:
        chosen = {"database_url": database_url, "auth0_plan": "essentials", "event_stream_tokens": ["x"], **chosen}
        with copy_of(auth0, engine, redis_url, **chosen) as copy:
            parts = Parts(copy.settings)
            with closing(parts.redis):
                found = parts.probe() is not None
                if found:
                    parts.engine.dispose()
                return found

    assert looks()
    assert not looks(auth0_plan="free")
    assert not looks(pull_events=True)
    assert not looks(event_stream_tokens=[], log_stream_tokens=["x"])
    assert not looks(silence_floor="0")
