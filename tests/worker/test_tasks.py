"""A task that fails says so in one line of ours, in a process like a worker's."""

import os
import subprocess
import sys

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


def test_what_nobody_foresaw_is_logged_without_its_text() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _WORKER],
        env=os.environ
        | {
            "DATABASE_URL": "postgresql://127.0.0.1:1/none",
            "REDIS_URL": "redis://127.0.0.1:1/0",
            "AUTH0_DOMAIN": "acme.eu.auth0.com",
        },
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "KeyError at drain" in ended.stdout
    assert "marker" not in ended.stdout + ended.stderr
