"""The tenant's log, pulled: what no webhook brought is read all the same, and what one brought is not read again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine

from tests.simulator.running import Simulator
from tests.worker.sync.pulling import Copy, copy_of
from worker import views
from worker.errors import Refused
from worker.store import feeds, heard


@pytest.fixture
def auth0() -> Iterator[Simulator]:
    simulator = Simulator("--plan", "none", "--index-lag", "0", "--log-skew", "0")
    yield simulator
    simulator.stop()


@pytest.fixture
def copy(auth0: Simulator, engine: Engine, redis_url: str) -> Iterator[Copy]:
    with copy_of(auth0, engine, redis_url) as copy:
        yield copy


def login(number: int) -> dict[str, Any]:
    """A login of somebody, as the log holds it."""
    date = datetime.now(UTC) - timedelta(seconds=60) + timedelta(milliseconds=number)
    return {
        "type": "s",
        "date": f"{date:%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z",
        "log_id": f"91{number:054d}",
        "user_id": f"auth0|{number}",
    }


def earlier(hours: float) -> dict[str, Any]:
    """A login of hours ago."""
    date = datetime.now(UTC) - timedelta(hours=hours)
    return login(0) | {"date": f"{date:%Y-%m-%dT%H:%M:%S}.000Z", "log_id": f"905{int(date.timestamp()):053d}"}


def inject(auth0: Simulator, *records: Any) -> None:
    auth0.control("POST", "logs", {"records": list(records)})


def test_a_thousand_lost_records_are_healed_within_fifty_calls(
    auth0: Simulator, engine: Engine, redis_url: str
) -> None:
    # As scarce as on a real plan; a large budget would be spent on strong reads, for their freshness (P10).
    limits = {"read_logs": (1000.0, 1000.0), "read_users": (10.0, 10.0)}
    with copy_of(auth0, engine, redis_url, auth0_plan="professional", auth0_limits=limits) as copy:
        people = auth0.sign_up(250, login=False, connection="Username-Password-Authentication")
        copy.pull_logs()
        copy.drain()
        copy.tell("TRUNCATE news")
        auth0.control("POST", "people/login", {"user_ids": people * 4})
        auth0.control("POST", "stats/reset")
        copy.pull_logs()
        copy.drain()
        copy.tell("UPDATE news SET last_at = last_at - interval '2 minutes', first_at = now() - interval '2 minutes'")
        copy.refresh()
        assert copy.count("log_records_missed") >= 1000
        assert auth0.control("GET", "stats")["api_calls_total"] <= 50
        assert not copy.ask("SELECT FROM news")
        assert copy.ask("SELECT count(*), min(logins_count) FROM live_users") == [(250, 4)]


def test_what_a_webhook_brought_marks_nobody_again(auth0: Simulator, copy: Copy) -> None:
    records = [login(number) for number in range(20)]
    inject(auth0, *records)
    copy.is_delivered([{"log_id": one["log_id"], "data": one} for one in records[:15]])
    copy.drain()
    assert copy.marks == 15
    copy.pull_logs()
    copy.drain()
    assert copy.marks == 20


def test_what_was_pulled_marks_nobody_again_however_often_it_is_read(auth0: Simulator, copy: Copy) -> None:
    inject(auth0, *(login(number) for number in range(250)), login(7) | {"type": "Ω!", "log_id": "9x"})
    for _ in range(3):
        copy.pull_logs()
        copy.drain()
    assert copy.marks == 250
    assert copy.count("log_records_missed") == 251
    assert len(copy.ask("SELECT FROM parked")) == 1


def test_a_record_that_comes_late_to_stand_before_others_is_read(auth0: Simulator, copy: Copy) -> None:
    inject(auth0, *(login(number) for number in range(100, 200)))
    copy.pull_logs()
    inject(auth0, login(150) | {"log_id": login(150)["log_id"] + "5", "user_id": "auth0|late"})
    copy.pull_logs()
    copy.drain()
    assert copy.ask("SELECT FROM news WHERE user_id = 'auth0|late'")


@pytest.mark.parametrize("records", [1, 99, 100, 250])
def test_a_record_that_comes_late_to_stand_before_all_others_is_read(
    auth0: Simulator, copy: Copy, records: int
) -> None:
    inject(auth0, *(login(number) for number in range(100, 100 + records)))
    copy.pull_logs()
    inject(auth0, login(99) | {"user_id": "auth0|late"})
    copy.pull_logs()
    copy.drain()
    assert copy.ask("SELECT FROM news WHERE user_id = 'auth0|late'")


def test_a_long_log_is_read_on_from_where_a_bounded_run_ended(auth0: Simulator, copy: Copy) -> None:
    inject(auth0, *(login(number) for number in range(950)))
    runs = 1
    while copy.pull_logs(pages=3) is not None:
        runs += 1
    copy.drain()
    assert copy.marks == 950
    assert runs == 4


def test_the_first_pull_begins_an_overlap_ago_and_not_with_the_whole_log(auth0: Simulator, copy: Copy) -> None:
    inject(
        auth0,
        *(login(number) | {"date": "2026-01-01T00:00:00.000Z", "log_id": f"905{number:053d}"} for number in range(300)),
    )
    inject(auth0, login(300), login(301))
    copy.pull_logs()
    copy.drain()
    assert copy.marks == 2


def test_where_the_log_is_empty_the_first_pull_waits_for_its_first_record(auth0: Simulator, copy: Copy) -> None:
    assert copy.pull_logs() is None
    inject(auth0, login(1))
    assert copy.pull_logs() is None
    copy.drain()
    assert copy.marks == 1


@pytest.mark.parametrize("status", [400, 404])
def test_an_expired_checkpoint_begins_with_the_oldest_and_asks_for_a_reconcile(
    auth0: Simulator, copy: Copy, status: int
) -> None:
    auth0.control("PUT", "logs", {"expired_status": status})
    inject(auth0, earlier(1), *(login(number) for number in range(200)))
    copy.pull_logs()
    inject(auth0, *(login(number) for number in range(200, 400)))
    auth0.control("POST", "logs/expire", {"keep": 50})
    copy.pull_logs()
    copy.drain()
    assert copy.marks == 250
    assert "reconcile_wanted" in copy.conditions()


def test_a_log_of_which_nothing_is_left_from_before_a_long_absence_asks_for_a_reconcile(
    auth0: Simulator, copy: Copy
) -> None:
    copy.pull_logs()
    copy.tell("UPDATE feeds SET stands_for = now() - interval '20 h'")
    copy.pull_logs()
    assert not copy.conditions()
    copy.tell("UPDATE feeds SET stands_for = now() - interval '25 h'")
    inject(auth0, earlier(26))
    copy.pull_logs()
    assert not copy.conditions()
    copy.tell("UPDATE feeds SET position = NULL, history = '[]', stands_for = now() - interval '27 h'")
    copy.pull_logs()
    copy.drain()
    assert "reconcile_wanted" in copy.conditions()
    assert copy.marks == 1


def test_what_is_left_of_a_log_is_read_though_no_search_shows_all_of_it(auth0: Simulator, copy: Copy) -> None:
    inject(auth0, earlier(1), earlier(0.9))
    copy.pull_logs()
    inject(auth0, *(login(number) for number in range(1700)))
    auth0.control("POST", "logs/expire", {"keep": 1600})
    runs = 1
    while copy.pull_logs(pages=7) is not None:
        runs += 1
    copy.drain()
    assert runs == 3
    assert copy.marks == 1600
    inject(auth0, login(1700))
    assert copy.pull_logs() is None
    copy.drain()
    assert copy.marks == 1601


def test_each_request_costs_a_token(auth0: Simulator, copy: Copy) -> None:
    copy.pull_logs()
    inject(auth0, *(login(number) for number in range(1200)))
    copy.pull_logs()
    inject(auth0, earlier(1))
    copy.pull_logs()
    auth0.control("POST", "logs/expire", {"keep": 10})
    copy.pull_logs()
    asked = auth0.control("GET", "stats")["api_calls_total"]
    assert copy.budget.counts()["global"]["spent:mass"] == asked


def test_only_one_process_pulls_and_one_that_lost_its_lease_keeps_nothing(auth0: Simulator, copy: Copy) -> None:
    inject(auth0, earlier(1), login(1))
    with copy.engine.begin() as connection:
        place = feeds.hold(connection, "logs", back=timedelta(0))
    assert place is not None
    assert copy.pull_logs() is None
    assert not copy.ask("SELECT FROM inbox")
    copy.tell("UPDATE feeds SET leased_until = now() - interval '1 s', stands_for = now() - interval '10 min'")
    copy.pull_logs()
    with copy.engine.begin() as connection:
        assert not feeds.move(connection, place)
    assert copy.ask("SELECT position FROM feeds")[0][0] == earlier(1)["log_id"]


def test_a_missing_scope_is_named_and_stays_with_the_feed(auth0: Simulator, engine: Engine, redis_url: str) -> None:
    client = auth0.control("POST", "clients", {"scopes": ["read:users"]})
    granted = {"auth0_m2m_client_id": client["client_id"], "auth0_m2m_client_secret": client["client_secret"]}
    with copy_of(auth0, engine, redis_url, **granted) as copy:
        with pytest.raises(Refused, match="read:logs"):
            copy.pull_logs()
        assert "read:logs" in copy.ask("SELECT trouble FROM feeds")[0][0]


def test_what_was_heard_is_kept_for_a_pull_that_is_behind_and_goes_after_it(copy: Copy) -> None:
    overlap = timedelta(minutes=10)

    def clean(*, pulling: bool = True) -> int:
        with copy.engine.begin() as connection:
            return heard.clean(connection, pulling=pulling, overlap=overlap)

    copy.tell("INSERT INTO heard (heard_at, hashes) VALUES (now() - interval '1 day', '')")
    copy.tell("INSERT INTO feeds (name, stands_for) VALUES ('logs', now() - interval '2 days')")
    assert clean() == 0
    copy.tell("UPDATE feeds SET stands_for = now()")
    assert clean() == 1
    copy.tell("INSERT INTO heard (heard_at, hashes) VALUES (now() - interval '1 day', ''), (now(), '')")
    copy.tell("UPDATE feeds SET stands_for = now() - interval '2 days'")
    assert clean(pulling=False) == 1


def test_status_says_when_a_pull_fails_or_falls_behind_where_it_is_on(copy: Copy) -> None:
    copy.tell(
        "INSERT INTO feeds (name, stands_for, trouble) VALUES ('logs', now() - interval '20 h', 'Auth0 answered 500')"
    )
    with copy.engine.begin() as connection:
        standings = feeds.standings(connection)
    on = copy.settings.model_copy(update={"log_stream_tokens": [SecretStr("t")]})
    assert views._feed_problems(standings, copy.settings) == []
    assert [problem[:40] for problem in views._feed_problems(standings, on)] == [
        "the tenant's log was last read to its en",
        "the tenant's log cannot be pulled: Auth0",
    ]
