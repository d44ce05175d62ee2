"""`understudy doctor` against real servers and a simulated tenant: all well, and one thing wrong at a time."""

from __future__ import annotations

import re
import subprocess
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from redis import Redis

from tests.api.web import environment
from tests.docs.pages import OPERATING
from tests.simulator.running import Simulator
from worker.commands import checks
from worker.commands.checks import scopes_needed
from worker.settings import Settings

UNDERSTUDY = Path(sysconfig.get_path("scripts")) / "understudy"
NEEDED = ("read:users", "read:logs", "update:users", "update:users_app_metadata")
STREAMS = ("read:log_streams", "read:event_streams", "read:event_deliveries", "update:event_streams")

# By check: the verdict and the sentence.
Findings = dict[str, tuple[str, str]]
Doctor = Callable[..., tuple[int, Findings]]


@pytest.fixture(scope="module")
def tenant() -> Iterator[Simulator]:
    tenant = Simulator("--plan", "free")
    yield tenant
    tenant.stop()


@pytest.fixture
def doctor(tenant: Simulator, database_url: str, redis_url: str) -> Doctor:
    """Run it with worker and beat alive; keywords change its environment. Returns the exit code and the findings."""
    with psycopg.connect(database_url) as connection:
        # An hour ahead: a loaded machine may take its time between this and what is looked at.
        connection.execute(
            "INSERT INTO processes (name, seen_at) SELECT name, now() + interval '1 hour' FROM (VALUES ('worker@here'), ('beat')) AS v (name)"
        )

    def run(*, scopes: tuple[str, ...] = NEEDED, **changes: str) -> tuple[int, Findings]:
        client = tenant.control("POST", "clients", {"scopes": scopes})
        env = environment(
            database_url,
            redis_url,
            **{
                "AUTH0_DOMAIN": tenant.ready["domain"],
                "AUTH0_CA_FILE": tenant.ready["ca_file"],
                "AUTH0_M2M_CLIENT_ID": client["client_id"],
                "AUTH0_M2M_CLIENT_SECRET": client["client_secret"],
                **changes,
            },
        )
        done = subprocess.run([UNDERSTUDY, "doctor"], env=env, capture_output=True, text=True, check=False)
        assert done.stderr == ""
        assert client["client_secret"] not in done.stdout
        lines = [re.split(r" {2,}", line, maxsplit=2) for line in done.stdout.splitlines()]
        assert all(len(line) == 3 for line in lines), done.stdout
        return done.returncode, {check: (verdict.strip(), says) for verdict, check, says in lines}

    return run


def test_all_is_well(doctor: Doctor) -> None:
    code, findings = doctor()
    assert code == 0, findings
    assert {check for check, (verdict, _) in findings.items() if verdict == "wrong"} == set()
    # These two are never more than a note here: the certificate is the simulator's own, and nothing listens.
    assert {check for check, (verdict, _) in findings.items() if verdict == "note"} == {"TLS to Auth0", "webhooks"}
    assert {"settings", "database", "schema", "Redis", "Redis's eviction", "worker", "beat", "scopes", "clocks"} <= set(
        findings
    )
    assert findings["limits"] == ("fine", "bursts of 2, as AUTH0_PLAN=free says; we use 50% of it")


def test_a_missing_scope_and_one_too_many_are_named(doctor: Doctor) -> None:
    code, findings = doctor(scopes=("read:users", "read:logs", "delete:users", "update:users"))
    assert code == 1
    assert findings["scopes"] == (
        "wrong",
        "grant update:users_app_metadata (to write roles and plans); take away what is not needed: delete:users",
    )
    code, findings = doctor(scopes=(*NEEDED, "delete:users"))
    assert (code, findings["scopes"]) == (0, ("note", "take away what is not needed: delete:users"))


def test_refused_credentials_are_told_from_a_tenant_that_is_away(doctor: Doctor) -> None:
    code, findings = doctor(AUTH0_M2M_CLIENT_SECRET="wrong")
    assert code == 1
    assert "AUTH0_M2M_CLIENT_SECRET" in findings["Auth0"][1]
    code, findings = doctor(AUTH0_DOMAIN="127.0.0.1:1")
    assert code == 1
    assert "did not answer" in findings["Auth0"][1]


def test_a_certificate_that_nobody_vouches_for_is_not_trusted(doctor: Doctor) -> None:
    code, findings = doctor(AUTH0_CA_FILE="")
    assert code == 1
    assert "certificate" in findings["Auth0"][1]


def test_a_plan_that_the_tenant_does_not_have_is_noticed(doctor: Doctor) -> None:
    code, findings = doctor(AUTH0_PLAN="essentials")
    assert code == 1
    assert findings["limits"][0] == "wrong"
    assert "bursts of 2" in findings["limits"][1]
    code, findings = doctor(AUTH0_LIMITS="global=1:1/s")
    assert (code, findings["limits"][0]) == (0, "note")


def test_each_server_that_is_away_costs_its_own_lines_alone(doctor: Doctor) -> None:
    code, findings = doctor(REDIS_URL="redis://127.0.0.1:1", DATABASE_URL="postgresql://127.0.0.1:1/none")
    assert code == 1
    assert "REDIS_URL" in findings["Redis"][1]
    assert "DATABASE_URL" in findings["database"][1]
    assert findings["scopes"][0] == "fine"
    assert "worker" not in findings


def test_processes_that_are_not_seen_are_missed(doctor: Doctor, database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE processes SET seen_at = now() - interval '1 hour' WHERE name = 'beat'")
        connection.execute("DELETE FROM processes WHERE name LIKE 'worker%'")
    code, findings = doctor()
    assert code == 1
    assert findings["worker"] == ("wrong", "has never been seen: start it (`worker` in the Procfile)")
    assert findings["beat"][0] == "wrong"


def test_a_redis_that_evicts_and_a_schema_behind_are_noticed(doctor: Doctor, database_url: str, redis_url: str) -> None:
    redis = Redis.from_url(redis_url)
    redis.config_set("maxmemory-policy", "allkeys-lru")
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
    try:
        code, findings = doctor()
    finally:
        redis.config_set("maxmemory-policy", "noeviction")
        redis.close()
    assert code == 1
    assert findings["Redis's eviction"][0] == "wrong"
    assert "understudy db upgrade" in findings["database"][1]


def test_wrong_settings_end_it_with_their_names(doctor: Doctor) -> None:
    assert doctor(AUTH0_PLAN="gold")[1].keys() == {"settings"}
    code, findings = doctor(LOG_STREAM_TOKENS="", AUTH0_M2M_CLIENT_ID="")
    assert code == 1
    assert findings["settings"] == ("wrong", "not set: AUTH0_M2M_CLIENT_ID, LOG_STREAM_TOKENS")


def test_webhooks_that_nobody_answers_are_noticed(doctor: Doctor) -> None:
    code, findings = doctor(PUBLIC_URL="http://127.0.0.1:1")
    assert code == 1
    assert findings["webhooks"][0] == "wrong"


def test_streams_that_are_not_there_or_may_not_be_looked_at_are_noticed(doctor: Doctor) -> None:
    """What they say of streams that are there: tests/journeys/test_lost_deliveries.py."""
    there = {"PUBLIC_URL": "http://127.0.0.1:1", "EVENT_STREAM_TOKENS": "a-token"}
    _, findings = doctor(scopes=(*NEEDED, *STREAMS), **there)
    for kind in ("log", "event"):
        url = f"http://127.0.0.1:1/webhooks/auth0/{kind}s"
        assert findings[f"{kind} stream"] == ("wrong", f"none leads to {url}: run `understudy setup`")
    _, findings = doctor(**there)
    assert findings["log stream"][0] == findings["event stream"][0] == "note"
    assert "read:event_streams" in findings["event stream"][1]


def test_a_plan_without_a_connection_for_both_ways_to_hear_events_is_noticed(doctor: Doctor) -> None:
    both = {"EVENT_STREAM_TOKENS": "a-token", "PULL_EVENTS": "true"}
    code, findings = doctor(scopes=(*NEEDED, "read:events"), **both)
    assert (code, findings["event connections"][0]) == (1, "wrong")
    _, findings = doctor(scopes=(*NEEDED, "read:events"), **both, AUTH0_PLAN="essentials")
    assert "event connections" not in findings


@pytest.mark.parametrize("ahead", [60.0, -60.0])
def test_clocks_that_differ_are_noticed(ahead: float) -> None:
    finding = checks._clocks(ahead)
    assert finding.verdict == "wrong"
    assert "60 s" in finding.says
    assert checks._clocks(ahead / 60).verdict == "fine"


def configured(**changes: object) -> Settings:
    required = {"database_url": "postgresql://x/y", "redis_url": "redis://x", "auth0_domain": "a.auth0.com"}
    return Settings.model_validate({**required, **changes})


def test_the_scopes_it_asks_for_are_those_that_are_documented() -> None:
    section = OPERATING.read_text().partition("\n## Scopes\n")[2].partition("\n## ")[0]
    documented = set(re.findall(r"`((?:read|update):\w+)`", section))
    everything = dict.fromkeys(("pull_logs", "pull_events", "watch_streams", "heal_streams"), True)
    tokens = {"log_stream_tokens": ["x"], "event_stream_tokens": ["y"]}
    assert set(scopes_needed(configured(**everything, **tokens))) == documented
    assert set(scopes_needed(configured(**tokens))) == set(NEEDED)
    assert set(scopes_needed(configured(role_tiers="", default_display_name=""))) == {"read:users"}


def test_the_scope_to_look_behind_a_silent_event_stream_is_no_surplus() -> None:
    granted = frozenset({*NEEDED, "read:events"})
    assert checks._scopes(configured(event_stream_tokens=["x"], log_stream_tokens=["y"]), granted).verdict == "fine"
    assert checks._scopes(configured(log_stream_tokens=["x"], pull_logs=False), granted).verdict == "note"
