"""What must never be printed: markers of people and secrets, planted wherever somebody's data can be, and looked for in all that is said."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest

from tests.journeys.stage import Stage, Told

# What a module of such a journey is marked with: everything that can fail fails one after the other.
SILENCE: Final = [pytest.mark.journey, pytest.mark.timeout(900)]

EMAIL = "marker.email@marker-mail.example"
NAME = "Markername Markerson"
NICKNAME = "markernick"
USER_ID = "auth0|markerid0001"
ODD_ID = "markeroddid|x'\"%00;--"
IP = "203.0.113.77"
GUESS = "marker-wrong-token"
SECRET = "marker-wrong-secret"
PASSWORD = "marker-database-password"
METADATA = "marker-metadata"

MARKERS = [
    EMAIL,
    "marker.email",
    "Markername",
    NICKNAME,
    "markerid0001",
    "markeroddid",
    IP,
    GUESS,
    SECRET,
    PASSWORD,
    METADATA,
]


def record(**fields: Any) -> bytes:
    """Build a record full of markers."""
    data = {
        "date": "2026-01-01T00:00:00.000Z",
        "type": "s",
        "log_id": "90020260101",
        "user_id": USER_ID,
        "user_name": EMAIL,
        "ip": IP,
        "description": f"{NAME} {EMAIL}",
        "details": {"body": {"email": EMAIL, "name": NAME, "user_metadata": {"note": METADATA}}},
        **fields,
    }
    return json.dumps({"log_id": data["log_id"], "data": data}).encode()


def plant(stage: Stage) -> str:
    """Make a user whose profile consists of markers; return its id."""
    user_id = stage.sign_up(1, connection="Username-Password-Authentication")[0]
    for act in (
        {"act": "change_email", "email": EMAIL, "via": "dashboard"},
        {"act": "change_name", "name": NAME},
        {"act": "metadata", "user_metadata": {"note": METADATA}, "app_metadata": {"note": METADATA}},
        {"act": "login", "ip": IP},
    ):
        stage.tenant.control("POST", "people/act", {"user_id": user_id, **act})
    stage.settle()
    assert stage.query(f"SELECT email FROM users WHERE user_id = '{user_id}'") == [(EMAIL,)]  # noqa: S608
    return user_id


@contextmanager
def broken_statements(stage: Stage, *tables: str, state: str = "XX000") -> Iterator[None]:
    """Let PostgreSQL refuse each write of these tables, with an error of this SQLSTATE whose message and DETAIL quote the row."""
    stage.execute(
        "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION 'refused %', NEW USING DETAIL = NEW::text, ERRCODE = TG_ARGV[0]; END $$"
    )
    for table in tables:
        stage.execute(
            f"CREATE TRIGGER refuse BEFORE UPDATE OR INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION refuse('{state}')"
        )
    yield
    for table in tables:
        stage.execute(f"DROP TRIGGER refuse ON {table}")


def assert_silent(stage: Stage, told: Iterable[Told], *own: str) -> None:
    """Look for all markers, and for `own`, in what the processes and commands said."""
    said = list(told)
    everything = stage.output.of("web", "worker", "beat", "migrations") + "".join(one.out + one.err for one in said)
    assert len(everything) > 10_000, "nothing was said"
    leaked = [marker for marker in [*MARKERS, *own] if marker in everything]
    lines = [line for line in everything.splitlines() if any(marker in line for marker in leaked)]
    assert not leaked, "\n".join(lines)[:4000]
    assert "Traceback" not in everything, everything.partition("Traceback")[2][:2000]
