"""`understudy doctor` against real servers and a simulated tenant: all well, and one thing wrong at a time."""

from __future__ import annotations

import json
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import time

import psycopg
import pytest
import trustme
from redis import Redis
from sqlalchemy import NullPool, create_engine

from tests.docs.pages import OPERATING
from tests.worker.commands.doctoring import NEEDED, STREAMS, Doctor
from worker.commands import checks
from worker.commands.checks import scopes_needed
from worker.settings import Settings


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


def test_the_scopes_by_which_it_looks_at_streams_are_no_surplus_where_there_are_streams(doctor: Doctor) -> None:
    _, findings = doctor(scopes=(*NEEDED, *STREAMS), EVENT_STREAM_TOKENS="a-token")
    assert findings["scopes"][0] == "fine"
    assert findings["scopes"][1].endswith(f"for `understudy doctor` alone: {', '.join(sorted(STREAMS))}")
    _, findings = doctor(scopes=(*NEEDED, *STREAMS))  # no event stream is wanted
    assert findings["scopes"] == ("note", f"take away what is not needed: {', '.join(sorted(STREAMS[1:]))}")


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
    unless = ", unless it runs: each is seen only while the other runs"
    assert findings["worker"] == ("wrong", f"has never been seen: start it (`worker` in the Procfile){unless}")
    assert findings["beat"][0] == "wrong"
    assert findings["beat"][1].startswith("was last seen 36")
    assert findings["beat"][1].endswith(f" s ago: start it (`beat` in the Procfile){unless}")
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE processes SET seen_at = now() + interval '1 hour'")
    _, findings = doctor()
    assert findings["worker"] == ("wrong", "has never been seen: start it (`worker` in the Procfile)")
    assert findings["beat"][0] == "fine"


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
    assert "noeviction" in findings["Redis's eviction"][1]
    assert findings["schema"][0] == "wrong"
    assert "understudy db upgrade" in findings["schema"][1]
    assert findings["database"][0] == "fine"


def test_a_schema_ahead_is_no_trouble_and_is_not_called_the_one_it_needs(doctor: Doctor, database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9001'")
    code, findings = doctor()
    assert code == 0
    assert findings["schema"][0] == "note"
    assert "at revision 9001, which a newer release made" in findings["schema"][1]
    assert findings["worker"][0] == "fine"


def test_a_database_without_tables_is_said_once_and_the_rest_is_looked_at(
    doctor: Doctor, new_database: Callable[[], str]
) -> None:
    empty = new_database()
    with psycopg.connect(empty) as connection:
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    code, findings = doctor(
        scopes=(*NEEDED, *STREAMS), DATABASE_URL=empty, PUBLIC_URL="http://127.0.0.1:1", EVENT_STREAM_TOKENS="a-token"
    )
    assert code == 1
    assert findings["schema"][0] == "wrong"
    assert "understudy db upgrade" in findings["schema"][1]
    assert findings["event stream"][1].startswith("none leads to")


def test_a_database_of_another_tenant_is_named_and_the_rest_is_looked_at(doctor: Doctor, database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("INSERT INTO tenant (domain) VALUES ('other.auth0.com')")
    code, findings = doctor()
    assert code == 1
    assert findings["tenant"][0] == "wrong"
    assert "a copy of other.auth0.com" in findings["tenant"][1]
    assert "point one of them at the other" in findings["tenant"][1]
    assert (findings["worker"][0], findings["scopes"][0]) == ("fine", "fine")


def test_wrong_settings_end_it_with_their_names(doctor: Doctor) -> None:
    assert doctor(AUTH0_PLAN="gold")[1].keys() == {"settings"}
    code, findings = doctor(LOG_STREAM_TOKENS="", AUTH0_M2M_CLIENT_ID="")
    assert code == 1
    assert findings["settings"] == ("wrong", "not set: AUTH0_M2M_CLIENT_ID, LOG_STREAM_TOKENS")


def test_webhooks_that_nobody_answers_are_noticed(doctor: Doctor) -> None:
    code, findings = doctor(PUBLIC_URL="http://127.0.0.1:1")
    assert code == 1
    assert findings["webhooks"][0] == "wrong"
    assert "is the web process deployed there?" in findings["webhooks"][1]
    _, findings = doctor()
    assert "set PUBLIC_URL" in findings["webhooks"][1]


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


@contextmanager
def tenant_whose_clock_is_off(folder: Path, seconds: float) -> Iterator[tuple[str, str]]:
    """Answer as Auth0 does with a clock that is so far ahead; yield the domain and the file of its certificate."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self, status: int, body: object) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.answer(200, {"access_token": "a.b.c", "scope": " ".join(NEEDED)})

        def do_GET(self) -> None:
            self.answer(404, {"statusCode": 404, "error": "Not Found", "errorCode": "inexistent_user"})

        def date_time_string(self, timestamp: float | None = None) -> str:  # noqa: ARG002 it is asked for now
            return formatdate(time() + seconds, usegmt=True)

        def log_message(self, *_: object) -> None: ...

    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.socket = context.wrap_socket(http.socket, server_side=True)
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{http.server_port}", str(folder / "ca.pem")
        http.shutdown()


@pytest.mark.parametrize(
    ("ahead", "verdict", "says"),
    [
        (60.0, "wrong", "behind Auth0's: let this machine's clock be set by NTP"),
        (-60.0, "wrong", "ahead of Auth0's: let this machine's clock be set by NTP"),
        (0.0, "fine", "ours and Auth0's agree within 5 s"),
    ],
)
def test_clocks_that_differ_are_noticed(doctor: Doctor, tmp_path: Path, ahead: float, verdict: str, says: str) -> None:
    with tenant_whose_clock_is_off(tmp_path, ahead) as (domain, ca_file):
        _, findings = doctor(AUTH0_DOMAIN=domain, AUTH0_CA_FILE=ca_file)
    assert findings["clocks"][0] == verdict
    assert findings["clocks"][1].endswith(says)
    assert findings["limits"][1].startswith("Auth0 does not say what it allows")


@pytest.mark.parametrize(
    ("url", "verify", "verdict", "says"),
    [
        ("rediss://redis.example", True, "fine", "encrypted, and its certificate verified"),
        ("rediss://redis.example", False, "note", "set REDIS_TLS_VERIFY=true"),
        ("redis://redis.example", True, "note", "use a rediss:// URL"),
        ("redis://localhost", True, "fine", "on this machine"),
    ],
)
def test_what_is_not_encrypted_or_not_verified_is_said_of_redis(
    url: str, verify: bool, verdict: str, says: str
) -> None:
    finding = checks._redis_tls(configured(redis_url=url, redis_tls_verify=verify))
    assert finding.verdict == verdict
    assert says in finding.says


@pytest.mark.parametrize(("host", "verdict"), [("db.example", "note"), ("localhost", "fine"), ("/run/sockets", "fine")])
def test_what_is_not_encrypted_is_said_of_postgresql(database_url: str, host: str, verdict: str) -> None:
    engine = create_engine(database_url.replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool)
    with engine.connect() as connection:
        finding = checks._encryption(connection, host)
    assert finding.verdict == verdict
    assert ("set PGSSLMODE=require" in finding.says) == (verdict == "note")


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
