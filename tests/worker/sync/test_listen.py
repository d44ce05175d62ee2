"""The tenant's events, pulled: read behind an offset, stored with it, and begun anew where it has expired."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from sqlalchemy import Engine

from tests.simulator.running import Simulator
from tests.worker.sync.pulling import Copy, copy_of
from worker.auth0.event_feed import EventFeed
from worker.domain.users import canonical
from worker.errors import Refused, TenantDown, Throttled
from worker.store import parked
from worker.sync.listen import BACK, Listen


@pytest.fixture
def auth0() -> Iterator[Simulator]:
    simulator = Simulator("--plan", "none", "--index-lag", "0", "--log-skew", "0")
    yield simulator
    simulator.stop()


@pytest.fixture
def copy(auth0: Simulator, engine: Engine, redis_url: str) -> Iterator[Copy]:
    with copy_of(auth0, engine, redis_url, auth0_timeout="3s") as copy:
        yield copy


def listen(copy: Copy, most: int = 10**6) -> float | None:
    left = iter(range(most))
    again: float | None = 1.0
    while again:  # an empty budget fills within moments
        again = Listen(copy.engine, EventFeed(copy.tenant, copy.settings), copy.budget).run(
            go_on=lambda: next(left, None) is not None
        )
    return again


def listen_once(copy: Copy, most: int = 10**6) -> tuple[float | None, int]:
    """Run once; tell what it returned, and how often it asked whether to go on."""
    asked = 0

    def go_on() -> bool:
        nonlocal asked
        asked += 1
        return asked < most

    again: float | None = 1.0
    while again and not asked:  # an empty budget fills within moments
        again = Listen(copy.engine, EventFeed(copy.tenant, copy.settings), copy.budget).run(go_on=go_on)
    return again, asked


def stands_for(copy: Copy) -> datetime:
    told: datetime = copy.ask("SELECT stands_for FROM feeds")[0][0]
    return told


def refuses(auth0: Simulator, kind: str, **how: object) -> None:
    """Have every connection to the Events API fail, before anything is told."""
    auth0.control("PUT", "faults", [{"where": "api", "kind": kind, "match": {"path": "/api/v2/events$"}, **how}])


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


AHEAD = "2099-01-01T00:00:00.000Z"


def is_as_in_the_tenant(copy: Copy, user_id: str) -> bool:
    [(profile,)] = copy.ask("SELECT profile FROM users WHERE user_id = :id", id=user_id)
    [(marks,)] = copy.ask("SELECT count(*) FROM news")
    return not marks and bool(canonical(profile) == canonical(copy.auth0.truth()[user_id]))


def change_the_nickname(auth0: Simulator, user_id: str) -> None:
    answer = auth0.api("PATCH", f"users/{quote(user_id, safe='')}", json={"nickname": "countess"})
    assert answer.status_code == 200, answer.text


def test_an_event_that_is_dated_ahead_is_a_reason_to_look_and_freezes_nobody(auth0: Simulator, copy: Copy) -> None:
    [ada] = auth0.sign_up()
    forged = auth0.truth()[ada] | {"nickname": "forged", "updated_at": AHEAD}
    now = datetime.now(UTC).isoformat()
    copy.is_delivered([{"type": "user.updated", "time": now, "data": {"object": forged}}], "events")
    copy.drain()
    copy.refresh()
    assert is_as_in_the_tenant(copy, ada)
    change_the_nickname(auth0, ada)
    listen(copy)
    copy.drain()
    assert is_as_in_the_tenant(copy, ada), "no event could be newer"


def test_whose_row_is_dated_ahead_is_read_when_an_event_comes(auth0: Simulator, copy: Copy) -> None:
    [ada] = auth0.sign_up()
    listen(copy)
    copy.drain()
    copy.tell("UPDATE users SET profile = profile || jsonb_build_object('updated_at', CAST(:at AS text))", at=AHEAD)
    change_the_nickname(auth0, ada)
    listen(copy)
    copy.drain()
    copy.refresh()
    assert is_as_in_the_tenant(copy, ada)


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


def test_a_tenant_that_is_slow_to_answer_is_waited_for(auth0: Simulator, copy: Copy) -> None:
    auth0.sign_up(5)
    refuses(auth0, "delay", seconds=2.5)  # longer than a feed that has begun may be quiet
    listen(copy)
    copy.drain()
    assert users(copy) == 5


def test_what_a_tenant_never_answered_has_not_been_read(auth0: Simulator, copy: Copy) -> None:
    auth0.sign_up(5)
    refuses(auth0, "hang", seconds=8)
    began = datetime.now(UTC)
    with pytest.raises(TenantDown):
        listen(copy)
    assert stands_for(copy) < began - BACK + timedelta(seconds=1)  # where it was before the first run
    assert "ReadTimeout" in copy.ask("SELECT trouble FROM feeds")[0][0]
    auth0.control("DELETE", "faults")
    listen(copy)
    copy.drain()
    assert users(copy) == 5


def test_a_page_where_events_should_be_is_no_quiet_feed(auth0: Simulator, copy: Copy) -> None:
    listen(copy)
    before = stands_for(copy)
    refuses(auth0, "html", status=200)
    with pytest.raises(TenantDown, match="no stream of events"):
        listen(copy)
    assert stands_for(copy) == before


def test_a_quiet_run_says_until_when_everything_was_read(auth0: Simulator, copy: Copy) -> None:
    auth0.sign_up(1)
    listen(copy)
    copy.tell("UPDATE feeds SET stands_for = now() - interval '5 hours'")
    assert listen(copy) is None
    assert datetime.now(UTC) - stands_for(copy) < BACK + timedelta(minutes=1)


def test_a_connection_that_ends_before_the_feed_does_is_no_quiet_run(auth0: Simulator, copy: Copy) -> None:
    auth0.control("PUT", "events/pull", {"cycle": 0.3})
    with pytest.raises(TenantDown, match="ended the connection"):
        listen(copy)
    auth0.sign_up(3)
    before = stands_for(copy)
    assert listen_once(copy)[0] == 0.0
    assert stands_for(copy) == before
    copy.drain()
    assert users(copy) == 3


@pytest.mark.parametrize("status", [400, 410])
def test_a_beginning_that_is_refused_is_trouble_and_asks_for_no_reconcile(
    auth0: Simulator, copy: Copy, status: int
) -> None:
    refuses(auth0, "status", status=status)
    for _ in range(3):
        with pytest.raises(TenantDown, match=f"answered {status}, though reading was to begin at 20"):
            listen(copy)
    assert f"answered {status}" in copy.ask("SELECT trouble FROM feeds")[0][0]
    assert not copy.conditions()


@pytest.mark.parametrize("status", [400, 410])
def test_an_offset_that_is_refused_has_expired_once(auth0: Simulator, copy: Copy, status: int) -> None:
    auth0.sign_up(3)
    listen(copy)
    refuses(auth0, "status", status=status)
    with pytest.raises(TenantDown, match=f"answered {status}"):
        listen(copy)
    assert "reconcile_wanted" in copy.conditions()
    copy.tell("DELETE FROM conditions")
    with pytest.raises(TenantDown):
        listen(copy)
    assert not copy.conditions()


def test_a_beginning_that_is_days_old_may_have_expired(auth0: Simulator, copy: Copy) -> None:
    copy.tell("INSERT INTO feeds (name, stands_for) VALUES ('events', now() - interval '9 days')")
    refuses(auth0, "status", status=410, times=1)
    listen(copy)
    assert "reconcile_wanted" in copy.conditions()


def test_an_outage_of_the_events_api_is_said(auth0: Simulator, copy: Copy) -> None:
    listen(copy)
    before = stands_for(copy)
    refuses(auth0, "status", status=503)
    with pytest.raises(TenantDown, match="answered 503"):
        listen(copy)
    assert stands_for(copy) == before
    assert not copy.conditions()


def test_comments_alone_do_not_hold_a_run(auth0: Simulator, copy: Copy) -> None:
    auth0.control("PUT", "events/pull", {"comments": 0.05, "cycle": 20})
    again, asked = listen_once(copy, most=5)
    assert (again, asked) == (None, 5)  # it was asked whether to go on, and said no
    assert stands_for(copy) < datetime.now(UTC) - BACK  # and was not caught up by that
    auth0.sign_up(1)
    listen(copy)
    again, asked = listen_once(copy)
    assert again is None
    assert 10 < asked < 200  # of 400 comments


def test_only_events_of_users_are_asked_for(auth0: Simulator, copy: Copy) -> None:
    auth0.control("POST", "events", {"events": [{"type": "organization.created"}]})
    auth0.sign_up(1, login=False)
    listen(copy)
    copy.drain()
    assert copy.count("events_pulled") == auth0.control("GET", "events")["happened"] - 1


def test_a_name_with_a_line_end_of_unicode_is_one_line(auth0: Simulator, copy: Copy) -> None:
    auth0.sign_up(1, login=False)
    listen(copy)
    copy.drain()
    user_id = copy.ask("SELECT user_id FROM live_users")[0][0]
    auth0.act(user_id, "change_name", name="Ann\u2028\u0085\u2029B")
    listen(copy)
    copy.drain()
    assert copy.ask("SELECT name FROM live_users")[0][0] == "Ann\u2028\u0085\u2029B"


def test_what_is_pulled_is_not_taken_for_what_is_pushed(auth0: Simulator, copy: Copy) -> None:
    auth0.control("POST", "events", {"events": [{"type": "user.updated", "data": {"object": {"user_id": 7}}}]})
    auth0.sign_up(2, login=False)
    listen(copy)
    copy.drain()
    assert {row.source for row in copy.ask("SELECT source FROM inbox")} == {"pulled_events"}
    assert copy.ask("SELECT source FROM parked") == [("pulled_events",)]
    names = {row.name for row in copy.ask("SELECT name FROM counters WHERE name LIKE 'freshness:%'")}
    assert {name.split(":")[1] for name in names} == {"pulled_events"}
    with copy.engine.begin() as connection:
        assert parked.give_back(connection, parked.waiting(connection, source="pulled_events")[0]) == 1
    copy.drain()
    assert copy.ask("SELECT source FROM parked") == [("pulled_events",)]  # understood no better, by the same code
    assert not copy.ask("SELECT FROM inbox WHERE state <> 'done'")
