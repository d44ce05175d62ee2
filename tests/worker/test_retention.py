"""The task `clean` deletes what has outlived its retention, in every table that grows, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys

import psycopg
import pytest

_CLEAN = """
from celery import Celery
from celery.app.trace import build_tracer

from worker import tasks

app = Celery("worker", set_as_current=False)
tasks.register(app)
app.finalize()
build_tracer("worker.tasks.clean", app.tasks["worker.tasks.clean"], app=app)("id", (), {}, {})
"""

# By table: what has had its time, and what has not.
ROWS = {
    "inbox": (
        "INSERT INTO inbox (source, state, size, received_at) VALUES ('logs', 'done', 1, now() - interval '3 days')",
        (
            "INSERT INTO inbox (source, state, size, received_at) VALUES ('logs', 'done', 1, now()), "
            "('logs', 'pending', 1, now() - interval '1 year'), ('logs', 'parked', 1, now() - interval '1 year')"
        ),
    ),
    "parked": (
        "",
        "INSERT INTO parked (source, reason, record, parked_at) VALUES ('logs', 'odd', 'x', now() - interval '1 year')",
    ),
    "heard": (
        "INSERT INTO heard (hashes, heard_at) VALUES ('x', now() - interval '2 hours')",
        "INSERT INTO heard (hashes) VALUES ('y')",
    ),
    "pushed": (
        (
            "INSERT INTO pushed (user_id, correlation_id, gained, lost, pushed_at) "
            "VALUES ('a', gen_random_uuid(), '{}', '{}', now() - interval '3 days')"
        ),
        "INSERT INTO pushed (user_id, correlation_id, gained, lost) VALUES ('a', gen_random_uuid(), '{}', '{}')",
    ),
    "sessions": (
        "INSERT INTO sessions (session_hash, expires_at) VALUES ('x', now() - interval '1 minute')",
        "INSERT INTO sessions (session_hash, expires_at) VALUES ('y', now() + interval '1 minute')",
    ),
    "play_days": (
        "INSERT INTO play_days (listener, playlist_id, day, counted) VALUES ('a', 1, current_date - 5, 1)",
        "INSERT INTO play_days (listener, playlist_id, day, counted) VALUES ('a', 1, current_date, 1)",
    ),
    "plays": (
        (
            "INSERT INTO plays (playlist_id, listener, play_id, played_at, counted) "
            "VALUES (999, 'a', gen_random_uuid(), now(), true)"
        ),
        (
            "INSERT INTO playlists (user_id, name) VALUES ('b', 'p'); "
            "INSERT INTO plays (playlist_id, listener, play_id, played_at, counted) "
            "SELECT playlist_id, 'a', gen_random_uuid(), now() - interval '5 years', true FROM playlists"
        ),
    ),
    "runs": (
        (
            "INSERT INTO runs (kind, state, started_at, ended_at) SELECT kind, state, at, at FROM (VALUES "
            "('verify', 'complete', now() - interval '6 days'), ('verify', 'failed', now() - interval '4 days')) AS v (kind, state, at)"
        ),
        (
            "INSERT INTO runs (kind, state, started_at, ended_at) SELECT kind, state, at, at FROM (VALUES "
            "('verify', 'complete', now() - interval '5 days'), ('verify', 'failed', now()), "
            "('reconcile', 'running', now() - interval '9 days')) AS v (kind, state, at)"
        ),
    ),
    "exported": (
        (
            "INSERT INTO exported (run_id, user_id) SELECT id, 'a' FROM runs WHERE state = 'failed'; "
            "WITH killed AS (INSERT INTO runs (kind, started_at, leased_until) "
            "VALUES ('verify', now() - interval '4 days', now() - interval '4 days') RETURNING id) "
            "INSERT INTO exported (run_id, user_id) SELECT id, 'a' FROM killed"
        ),
        "INSERT INTO exported (run_id, user_id) SELECT id, 'a' FROM runs WHERE state = 'running'",
    ),
    "suspects": (
        "INSERT INTO suspects (run_id, user_id, kind) SELECT id, 'a', 'extra' FROM runs WHERE state = 'failed'",
        "INSERT INTO suspects (run_id, user_id, kind) SELECT id, 'a', 'extra' FROM runs WHERE state = 'running'",
    ),
    "processes": (
        "INSERT INTO processes (name, seen_at) VALUES ('worker@gone', now() - interval '2 days')",
        "INSERT INTO processes (name) VALUES ('worker@here')",
    ),
}


@pytest.fixture
def cleaned(database_url: str, redis_url: str) -> dict[str, tuple[list[str], list[str]]]:
    """By table: the rows that were to stay, and those that are there after a run of the task."""
    kept: dict[str, list[str]] = {}
    with psycopg.connect(database_url, autocommit=True) as connection:

        def rows(table: str) -> list[str]:
            found = connection.execute(f"SELECT to_jsonb(t)::text FROM {table} AS t ORDER BY 1".encode())  # noqa: S608
            return [row for (row,) in found]

        for table, (_, stays) in ROWS.items():
            connection.execute(stays.encode())
            kept[table] = rows(table)
        for goes, _ in ROWS.values():
            connection.execute(goes.encode())
        there = {table: len(rows(table)) for table in ROWS}
        assert all(there[table] > len(kept[table]) for table in ROWS if ROWS[table][0])
        chosen = {"INBOX_RETENTION": "2d", "RUN_RETENTION": "3d", "PULL_OVERLAP": "10m", "LOG_STREAM_TOKENS": ""}
        names = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "AUTH0_DOMAIN": "acme.eu.auth0.com", **chosen}
        subprocess.run([sys.executable, "-c", _CLEAN], env=os.environ | names, check=True, timeout=120)
        return {table: (kept[table], rows(table)) for table in ROWS}


def test_what_has_had_its_time_goes_and_everything_else_stays(
    cleaned: dict[str, tuple[list[str], list[str]]],
) -> None:
    assert {table: there for table, (_, there) in cleaned.items()} == {
        table: kept for table, (kept, _) in cleaned.items()
    }
