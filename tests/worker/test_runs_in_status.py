"""What `understudy status` says of backfills, verifies and reconciles: never, stopped, too long ago."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis
from rich.console import Console
from sqlalchemy import Engine, text

from worker import views
from worker.auth0.pace import Budget
from worker.settings import Settings

NEVER_LOADED = "the tenant was never loaded: run `understudy backfill`"
STOPPED = "a backfill was stopped before its end"
TOO_LONG_AGO = "the tenant was last compared with the copy"
SENTENCES = NEVER_LOADED, STOPPED, TOO_LONG_AGO

Status = Callable[..., views.Status]


@pytest.fixture
def status(engine: Engine, database_url: str, redis_url: str) -> Status:
    execute(engine, "INSERT INTO tenant (domain, copied_since) VALUES ('acme.eu.auth0.com', now())")

    def look(**chosen: Any) -> views.Status:
        known = {"database_url": database_url, "redis_url": redis_url, "auth0_domain": "acme.eu.auth0.com"}
        settings = Settings.model_validate(known | chosen)
        with Redis.from_url(redis_url) as redis:
            return views.status(settings, budget=Budget(redis, settings))

    return look


def execute(engine: Engine, sql: str, **values: Any) -> None:
    with engine.begin() as connection:
        connection.execute(text(sql), values)


def said(report: views.Status) -> list[str]:
    return [sentence for sentence in SENTENCES if any(sentence in problem for problem in report.problems)]


def has_user(engine: Engine) -> None:
    execute(engine, "INSERT INTO users (user_id, profile, synced_at) VALUES ('auth0|a', '{}', now())")


def ran(engine: Engine, kind: str, state: str, hours: float = 0, report: str = "{}") -> None:
    execute(
        engine,
        """INSERT INTO runs (kind, state, started_at, ended_at, report)
        VALUES (:kind, :state, now() - make_interval(hours => :hours), now(), CAST(:report AS jsonb))""",
        kind=kind,
        state=state,
        hours=hours,
        report=report,
    )


def test_a_copy_that_was_never_loaded_says_so(engine: Engine, status: Status) -> None:
    assert said(status()) == [NEVER_LOADED]
    ran(engine, "backfill", "failed")
    ran(engine, "verify", "complete")  # it looks, and writes nothing
    assert said(status()) == [NEVER_LOADED]


@pytest.mark.parametrize("kind", ["backfill", "reconcile"])
def test_a_tenant_that_is_known_to_be_empty_needs_nobody(engine: Engine, status: Status, kind: str) -> None:
    ran(engine, kind, "complete")
    assert said(status()) == []


def test_one_that_is_being_loaded_needs_nobody_until_that_stops(engine: Engine, status: Status) -> None:
    execute(
        engine,
        """INSERT INTO runs (kind, leased_until, report) VALUES ('backfill', now() + interval '1 min', '{"users": 3000}')""",
    )
    report = status()
    assert said(report) == []
    assert shown(report, "last backfill").endswith("3,000 users")
    execute(engine, "UPDATE runs SET leased_until = now() - interval '1 s'")
    assert said(status()) == [STOPPED]


def test_a_comparison_that_does_not_come_to_its_end_is_said_after_three_that_were_due(
    engine: Engine, status: Status
) -> None:
    has_user(engine)
    execute(engine, "UPDATE tenant SET copied_since = now() - interval '71 h'")
    assert said(status()) == []
    execute(engine, "UPDATE tenant SET copied_since = now() - interval '73 h'")
    execute(engine, "INSERT INTO runs (kind) VALUES ('reconcile')")  # one that is under way, for ever
    assert said(status()) == [TOO_LONG_AGO]
    assert said(status(reconcile_every="0")) == []
    assert said(status(reconcile_every="2d")) == []
    ran(engine, "backfill", "complete")  # it loads, and misses who is gone
    ran(engine, "reconcile", "complete", hours=73)
    ran(engine, "reconcile", "failed", hours=1)
    assert said(status()) == [TOO_LONG_AGO]


@pytest.mark.parametrize(("kind", "state", "report"), [("verify", "complete", "{}"), ("reconcile", "complete", "{}"), ("reconcile", "failed", '{"unread": 2}')])  # fmt: skip
def test_a_comparison_that_came_to_its_end_is_enough(
    engine: Engine, status: Status, kind: str, state: str, report: str
) -> None:
    has_user(engine)
    execute(engine, "UPDATE tenant SET copied_since = now() - interval '99 h'")
    ran(engine, kind, state, 71, report)
    assert said(status()) == []


def test_when_each_kind_was_last_complete_is_shown_and_told_to_programs(engine: Engine, status: Status) -> None:
    ran(engine, "verify", "complete")
    report = status()
    assert shown(report, "last backfill") == "none complete"
    assert shown(report, "last verify").startswith("complete 20")
    told = report.as_dict()["runs"]
    assert told["verify"]["complete_at"].startswith("20")
    assert told["reconcile"] == {"complete_at": None, "began_at": None, "users": 0, "held": False}


def shown(report: views.Status, line: str) -> str:
    page = io.StringIO()
    views.show(report, Console(file=page, width=200))
    [found] = [one for one in page.getvalue().splitlines() if one.startswith(line)]
    return found.removeprefix(line).strip()
