"""Quiet is told from broken: by the tenant's own rhythm, and by what a pull found meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import Connection, create_engine, text

from worker.store import rhythm
from worker.views import _silence_problems

FLOOR = timedelta(minutes=15)


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    engine = create_engine(database_url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def deliver(connection: Connection, *hours_ago: float) -> None:
    for hours in hours_ago:
        connection.execute(
            text("INSERT INTO inbox (source, state, size, received_at) VALUES ('logs', 'done', 0, now() - :age)"),
            {"age": timedelta(hours=hours)},
        )


def misses(connection: Connection, hours_ago: float) -> None:
    connection.execute(
        text("INSERT INTO counters (name, value, latest_at) VALUES ('log_records_missed', 1, now() - :age)"),
        {"age": timedelta(hours=hours_ago)},
    )


def test_where_nothing_ever_came_nothing_is_said(connection: Connection) -> None:
    assert rhythm.silence(connection, FLOOR) is None


def test_a_night_as_long_as_the_others_is_usual_and_a_longer_one_is_not(connection: Connection) -> None:
    days = [
        hour for day in range(5) for hour in range(day * 24 + 8, day * 24 + 24)
    ]  # eight hours of silence each night
    deliver(connection, *days)
    silence = rhythm.silence(connection, FLOOR)
    assert silence is not None
    assert not silence.is_unusual
    connection.execute(text("UPDATE inbox SET received_at = received_at - interval '6 hours'"))
    silence = rhythm.silence(connection, FLOOR)
    assert silence is not None
    assert silence.is_unusual


def test_one_outage_teaches_no_rhythm(connection: Connection) -> None:
    deliver(connection, *(hours / 5 for hours in range(10, 200)), *(60 + hours / 5 for hours in range(100)))
    silence = rhythm.silence(connection, FLOOR)
    assert silence is not None
    assert silence.is_unusual


def test_a_silence_is_broken_only_where_a_pull_found_something_since(connection: Connection) -> None:
    deliver(connection, 3)
    assert _silence_problems(rhythm.silence(connection, FLOOR)) == []
    misses(connection, 4)
    assert _silence_problems(rhythm.silence(connection, FLOOR)) == []
    connection.execute(text("UPDATE counters SET latest_at = now() - interval '1 hour'"))
    assert _silence_problems(rhythm.silence(connection, FLOOR))[0].startswith("nothing has been delivered for 180 min")
