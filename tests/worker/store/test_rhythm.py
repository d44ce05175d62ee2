"""Quiet is told from broken: by the tenant's own rhythm, and by what a pull found meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, text

from worker.settings import Settings
from worker.store import rhythm
from worker.store.rhythm import Feed, Silence
from worker.views import _silence_problems, _silences

FLOOR = timedelta(minutes=15)


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    engine = create_engine(database_url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO tenant (domain, copied_since) VALUES ('x', now() - interval '90 days')"))
        yield connection
    engine.dispose()


def deliver(connection: Connection, *hours_ago: float, source: str = "logs", kept: bool = True) -> None:
    """Have had deliveries drained; `kept`: the inbox still holds them."""
    for hours in hours_ago:
        if kept:
            connection.execute(
                text("INSERT INTO inbox (source, state, size, received_at) VALUES (:source, 'done', 0, now() - :age)"),
                {"source": source, "age": timedelta(hours=hours)},
            )
        rhythm.note(connection, source, datetime.now(UTC) - timedelta(hours=hours))


def misses(connection: Connection, hours_ago: float) -> None:
    connection.execute(
        text("INSERT INTO counters (name, value, latest_at) VALUES ('log_records_missed', 1, now() - :age)"),
        {"age": timedelta(hours=hours_ago)},
    )


def silent(connection: Connection, feed: Feed = "logs", floor: timedelta = FLOOR) -> Silence:
    found = rhythm.silence(connection, feed, floor)
    assert found is not None
    return found


def problems(connection: Connection, **chosen: Any) -> list[str]:
    settings = Settings.model_validate(
        {"database_url": "postgresql://x/y", "redis_url": "redis://x", "auth0_domain": "a.auth0.com", **chosen}
    )
    return _silence_problems(_silences(connection, settings), settings)


def test_where_nothing_ever_came_it_is_silent_since_it_became_a_copy(connection: Connection) -> None:
    assert not silent(connection).ever
    assert 89 < silent(connection).lasts / 86400 < 91
    connection.execute(text("DELETE FROM tenant"))
    assert rhythm.silence(connection, "logs", FLOOR) is None


def test_a_night_as_long_as_the_others_is_usual_and_a_longer_one_is_not(connection: Connection) -> None:
    days = [
        hour for day in range(5) for hour in range(day * 24 + 8, day * 24 + 24)
    ]  # eight hours of silence each night
    deliver(connection, *days)
    assert not silent(connection).is_unusual
    connection.execute(text("UPDATE inbox SET received_at = received_at - interval '6 hours'"))
    connection.execute(text("UPDATE arrivals SET arrived_at = arrived_at - interval '6 hours'"))
    assert silent(connection).is_unusual


def test_one_outage_teaches_no_rhythm(connection: Connection) -> None:
    deliver(connection, *(hours / 5 for hours in range(10, 200)), *(60 + hours / 5 for hours in range(100)))
    assert silent(connection).is_unusual


def test_no_silence_shorter_than_the_floor_is_unusual(connection: Connection) -> None:
    deliver(connection, *(1 + minutes / 60 for minutes in range(60)))  # every minute, until an hour ago
    assert silent(connection, floor=timedelta(minutes=50)).is_unusual
    assert not silent(connection, floor=timedelta(minutes=70)).is_unusual


def test_a_silence_is_broken_only_where_a_pull_found_something_since(connection: Connection) -> None:
    deliver(connection, 3)
    assert problems(connection, log_stream_tokens=["x"]) == []
    misses(connection, 4)
    assert problems(connection, log_stream_tokens=["x"]) == []
    connection.execute(text("UPDATE counters SET latest_at = now() - interval '1 hour'"))
    assert problems(connection, log_stream_tokens=["x"])[0].startswith(
        "nothing has come by the log stream for 180 min, though the tenant has news"
    )
    assert rhythm.is_broken(connection, "logs", FLOOR)
    deliver(connection, 0)
    assert not rhythm.is_broken(connection, "logs", FLOOR)


@pytest.mark.parametrize("days", [8, 40])
def test_what_is_dead_for_longer_than_the_inbox_remembers_is_still_broken(connection: Connection, days: int) -> None:
    deliver(connection, 24 * days, kept=False)
    misses(connection, 0.1)
    assert "for N min" in problems(connection, log_stream_tokens=["x"])[0].replace(str(days * 1440), "N")


def test_what_was_there_before_the_copy_breaks_no_stream(connection: Connection) -> None:
    connection.execute(text("UPDATE tenant SET copied_since = now() - interval '1 hour'"))
    misses(connection, 0.9)  # by the first pull
    rhythm.date(connection, "pulled_events", datetime.now(UTC) - timedelta(hours=2))
    for feed in ("logs", "events"):
        assert silent(connection, feed).is_unusual
        assert not silent(connection, feed).is_broken
    connection.execute(text("UPDATE counters SET latest_at = now()"))
    rhythm.date(connection, "pulled_events", datetime.now(UTC))
    assert silent(connection, "logs").is_broken
    assert silent(connection, "events").is_broken


def test_a_stream_that_never_delivered_is_broken_where_a_pull_finds_news(connection: Connection) -> None:
    assert problems(connection, log_stream_tokens=["x"]) == []
    misses(connection, 0.1)
    assert "by the log stream ever, though the tenant has news" in problems(connection, log_stream_tokens=["x"])[0]
    connection.execute(text("UPDATE tenant SET copied_since = now() - interval '5 minutes'"))
    assert problems(connection, log_stream_tokens=["x"]) == []


def test_one_living_stream_does_not_hide_that_the_other_is_dead(connection: Connection) -> None:
    both = {"log_stream_tokens": ["x"], "event_stream_tokens": ["y"], "pull_events": True}
    deliver(connection, 50, source="events")
    rhythm.date(connection, "events", datetime.now(UTC) - timedelta(hours=50))
    deliver(connection, 0.01)
    deliver(connection, 0.01, source="pulled_events")
    assert problems(connection, **both) == []
    rhythm.date(connection, "pulled_events", datetime.now(UTC) - timedelta(hours=50, seconds=1))
    assert problems(connection, **both) == []  # what was pushed is all there is
    rhythm.date(connection, "pulled_events", datetime.now(UTC) - timedelta(hours=49))
    (problem,) = problems(connection, **both)
    assert problem.startswith("nothing has come by the event stream for 3000 min, though the tenant has news")


def test_what_waits_to_be_drained_has_come(connection: Connection) -> None:
    deliver(connection, 50)
    misses(connection, 0.1)
    connection.execute(text("INSERT INTO inbox (source, size) VALUES ('pulled', 0)"))
    assert problems(connection, log_stream_tokens=["x"])
    connection.execute(text("INSERT INTO inbox (source, state, size) VALUES ('logs', 'parked', 0)"))
    assert not problems(connection, log_stream_tokens=["x"])


def test_where_nobody_can_tell_that_is_said(connection: Connection) -> None:
    deliver(connection, 50)
    deliver(connection, 50, source="events")
    (problem,) = problems(connection, log_stream_tokens=["x"], pull_logs=False)
    assert problem == (
        "nothing has come by the log stream for 3000 min, and nothing can tell whether the tenant was quiet: "
        "set PULL_LOGS or WATCH_STREAMS"
    )
    (problem,) = problems(connection, event_stream_tokens=["x"])
    assert problem.endswith("set PULL_EVENTS or WATCH_STREAMS")
    for told in ({"watch_streams": True}, {"pull_events": True}):
        assert problems(connection, event_stream_tokens=["x"], **told) == []
    rhythm.note(connection, "pulled_events", datetime.now(UTC))  # somebody looked, and found nothing
    assert problems(connection, event_stream_tokens=["x"]) == []
