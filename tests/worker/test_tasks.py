"""A task that fails says so in one line of ours, in a process like a worker's."""

import os
import subprocess
import sys

import psycopg
import pytest

from worker.bootstrap import Parts
from worker.settings import Settings

_WORKER = """
from celery import Celery
from celery.app.trace import build_tracer

from worker import tasks
from worker.logs import configure
from worker.settings import settings

configure(settings())


def drain():
    raise KeyError("auth0|marker@example.test")


tasks.drain = drain
app = Celery("worker", set_as_current=False)
tasks.register(app)
app.finalize()
build_tracer("worker.tasks.drain", app.tasks["worker.tasks.drain"], app=app)("id", (), {}, {})
"""


_HEALTHY = """
from celery import Celery
from celery.app.trace import build_tracer

from worker import tasks

app = Celery("worker", set_as_current=False)
tasks.register(app)
app.finalize()
for name in ("clean", "clean", "heartbeat"):
    build_tracer("worker.tasks." + name, app.tasks["worker.tasks." + name], app=app)("id", (), {}, {})
"""


_LOST = """
from billiard.einfo import ExceptionInfo
from billiard.exceptions import WorkerLostError
from celery.app import trace

from worker.logs import configure
from worker.settings import settings

configure(settings())
try:
    raise WorkerLostError("of marker@example.test")
except WorkerLostError:
    # As Celery logs it where a child is gone.
    trace.logger.error("Task handler raised error", exc_info=ExceptionInfo(internal=True).exc_info)
"""


_FAILING = """
from datetime import timedelta

from celery import Celery
from celery.app.trace import build_tracer

from worker import tasks
from worker.errors import TenantDown


def heal():
    raise TenantDown("Auth0 answered 503")


tasks.heal = heal
app = Celery("worker", set_as_current=False)
tasks.register(app)
app.finalize()
build_tracer("worker.tasks.heal", app.tasks["worker.tasks.heal"], app=app)("id", (), {}, {})
"""

_STARTING = """
from worker.bootstrap import parts

parts().begin_anew()
assert "engine" not in parts().__dict__, "a connection that the process would fork with"
"""


def run(script: str) -> str:
    """Run it as a worker that has no servers; return all it said."""
    names = {
        "DATABASE_URL": "postgresql://127.0.0.1:1/none",
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "AUTH0_DOMAIN": "acme.eu.auth0.com",
    }
    ended = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | names, capture_output=True, text=True, check=True, timeout=60
    )
    return ended.stdout + ended.stderr


def test_how_long_a_loop_took_is_written_down_now_and_then(database_url: str, redis_url: str) -> None:
    names = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "AUTH0_DOMAIN": "acme.eu.auth0.com"}
    subprocess.run([sys.executable, "-c", _HEALTHY], env=os.environ | names, check=True, timeout=60)
    with psycopg.connect(database_url) as connection:
        counted = {
            name.split(":")[1]
            for (name,) in connection.execute("SELECT name FROM counters WHERE name LIKE 'loop:%' AND value > 0")
        }
    assert counted == {"clean"}, "the first run is written at once, what follows within seconds waits"


def test_what_nobody_foresaw_is_logged_without_its_text() -> None:
    said = run(_WORKER)
    assert "KeyError at drain" in said
    assert "marker" not in said


def test_a_lost_child_is_named_by_what_ended_it() -> None:
    said = run(_LOST)
    assert "billiard.exceptions.WorkerLostError at <module>" in said
    assert "marker" not in said
    assert "ExceptionWithTraceback" not in said


def test_a_run_that_fails_is_counted_under_its_loop(database_url: str, redis_url: str) -> None:
    names = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "AUTH0_DOMAIN": "acme.eu.auth0.com"}
    subprocess.run([sys.executable, "-c", _FAILING], env=os.environ | names, check=True, timeout=60)
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT name, value FROM counters").fetchall() == [("loop_failed:heal", 1)]


@pytest.mark.parametrize("watched", [True, False])
def test_what_no_loop_would_end_any_more_ends_when_a_worker_starts(
    database_url: str, redis_url: str, watched: bool
) -> None:
    names = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "AUTH0_DOMAIN": "acme.eu.auth0.com"}
    secrets = {"AUTH0_M2M_CLIENT_ID": "ours", "AUTH0_M2M_CLIENT_SECRET": "marker"}
    raised = ["auth0_refused", "writing_refused", "users_braked", "streams_unwatched", "event_deliveries_failed"]
    with psycopg.connect(database_url, autocommit=True) as connection:
        for name in raised:
            connection.execute("INSERT INTO conditions (name, detail) VALUES (%s, 'why')", (name,))
        environ = os.environ | names | secrets | {"WATCH_STREAMS": str(watched).lower()}
        subprocess.run([sys.executable, "-c", _STARTING], env=environ, check=True, timeout=60)
        left = {name for (name,) in connection.execute("SELECT name FROM conditions").fetchall()}
    assert left == set(raised[2:] if watched else raised[2:3])


@pytest.mark.parametrize(("connected", "pulled"), [("LOG_STREAM_TOKENS", {"logs"}), ("EVENT_STREAM_TOKENS", set())])
def test_a_backfill_begins_no_pull_that_nobody_will_go_on_with(
    database_url: str, redis_url: str, connected: str, pulled: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "AUTH0_DOMAIN": "acme.eu.auth0.com"}
    secrets = {"AUTH0_M2M_CLIENT_ID": "ours", "AUTH0_M2M_CLIENT_SECRET": "marker", connected: "token"}
    for name, value in (names | secrets).items():
        monkeypatch.setenv(name, value)
    parts = Parts(Settings.model_validate({}))
    try:
        assert parts.backfill(lambda _: None).pulls.keys() == pulled
    finally:
        parts.engine.dispose()
