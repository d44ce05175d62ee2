"""`understudy backfill` as an operator runs it: against a tenant that is down, and one with users whom nobody can read."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from urllib.parse import quote

import pytest
from sqlalchemy import Engine, text

from tests.simulator.running import Simulator
from tests.worker.sync import asking
from tests.worker.sync.asking import settings_for

DOWN = {"where": "api", "kind": "status", "status": 503}
DEEP = '{"a":' * 250 + "1" + "}" * 250

Understudy = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def auth0() -> Iterator[Simulator]:
    simulator = Simulator("--plan", "none", "--index-lag", "0")
    simulator.control("POST", "users/load", {"count": 20})
    simulator.control("PUT", "jobs", {"export_seconds": 0})
    yield simulator
    simulator.stop()


@pytest.fixture
def understudy(auth0: Simulator, database_url: str, redis_url: str) -> Understudy:
    return partial(asking.understudy, settings_for(auth0, redis_url, database_url=database_url))


def states(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.execute(text("SELECT state FROM runs ORDER BY id")).scalars())


def test_a_tenant_that_is_down_is_said_and_the_run_is_gone_on_with_later(
    auth0: Simulator, engine: Engine, understudy: Understudy
) -> None:
    auth0.control("PUT", "faults", [DOWN])
    try:
        told = understudy("backfill")
    finally:
        auth0.control("PUT", "faults", [])
    assert told.returncode == 2, told.stderr
    assert "read" not in told.stdout
    assert "Auth0" in told.stderr.splitlines()[-1], told.stderr
    assert "503" in told.stderr.splitlines()[-1], told.stderr
    assert states(engine) == ["running"]
    assert "a backfill was stopped before its end" in understudy("status").stdout
    again = understudy("backfill")
    assert (again.returncode, again.stdout) == (0, "20 users read, 20 rows written\n"), again.stderr
    assert states(engine) == ["complete"]


def test_whom_nobody_can_read_is_counted_said_and_parked(auth0: Simulator, understudy: Understudy) -> None:
    whom = sorted(auth0.truth())[3]
    content = '{"user_metadata":' + DEEP + "}"
    headers = {"Content-Type": "application/json"}
    assert auth0.api("PATCH", f"users/{quote(whom, safe='')}", content=content, headers=headers).status_code == 200
    told = understudy("backfill")
    assert told.returncode == 1, told.stderr
    assert told.stdout.splitlines() == [
        "19 users read, 19 rows written",
        "incomplete: 1 users could not be read and were parked: see why with `understudy parked list`",
    ]
    assert "nested too deeply" in understudy("parked", "list").stdout
    shown = understudy("status").stdout
    assert "1 users could not be read: see `understudy parked list`" in shown
    assert "something was parked because it could not be understood" in shown
    compared = understudy("verify")
    assert compared.returncode == 1
    assert "incomplete: 1 profiles could not be read" in compared.stdout
    assert "understudy parked list" in compared.stdout
