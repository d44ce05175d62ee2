"""What `understudy status` can print is explained, and the Procfile's lines are understood by what they start."""

from __future__ import annotations

import ast
import re
import shlex
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec

import celery.bin.beat
import celery.bin.worker
import click
import psycopg
import pytest
import uvicorn

from local.product import procfile
from tests.docs.pages import CHECKOUT, OPERATING, RUNBOOKS
from worker import views
from worker.settings import Settings
from worker.setup.credentials import Credentials
from worker.store.feeds import Standing
from worker.store.rhythm import Silence
from worker.store.runs import KINDS, Standing as Runs

LINES = dict(line.split(": ", 1) for line in (CHECKOUT / "Procfile").read_text().splitlines())


def everything_wrong() -> views.Status:
    return views.Status(
        tenant="acme.eu.auth0.com",
        schema="0001",
        users={"live": 1, "tombstones": 0},
        inbox={"pending": 1, "oldest_pending_s": 1e6, "parked_deliveries": 1, "oversize": 1, "parked_records": 1},
        news={"stale": 1, "oldest_stale_s": 1e6, "strong": 1, "braked": 1, "failing": 1},
        pushes={"wanted": 1, "oldest_wanted_s": 1e6, "default_names": 1, "parked": 1, "braked": 1},
        last_delivery_at=None,
        counters={"unauthorized_logs": {"value": 1, "latest_at": datetime.now(UTC)}},
        conditions={},
        processes={},
        budget=None,
    )


def plain(text: str) -> str:
    """Return text as it reads: without marks of code, numbers as N."""
    return re.sub(r"\d+", "N", text.replace("`", ""))


def test_every_problem_that_status_prints_is_explained() -> None:
    explained = plain(OPERATING.read_text())
    problems = list(views._problems(everything_wrong()))
    assert len(problems) == 10
    for problem in problems:
        assert f"| {plain(problem)} |" in explained


def test_what_status_says_of_pulls_streams_and_silence_is_explained() -> None:
    explained = plain(OPERATING.read_text())
    settings = Settings.model_validate(
        {"database_url": "postgresql://x/y", "redis_url": "redis://x", "auth0_domain": "a.auth0.com"}
        | {"log_stream_tokens": ["x"], "pull_events": True}
    )
    standings = [Standing(name, 1e6, 0, 0, "…") for name in ("logs", "events")]
    said = views._feed_problems(standings, settings)
    for missed in (True, False):
        silent = {feed: Silence(1e6, 1, missed) for feed in ("logs", "events")}
        nobody = settings.model_copy(update={"pull_logs": False, "pull_events": False})
        said += views._silence_problems(silent, nobody)
    assert len(said) == 7
    for problem in said:
        assert f"| {plain(problem)} |" in explained


def test_what_status_says_of_runs_is_explained() -> None:
    explained, day = plain(OPERATING.read_text()), timedelta(days=1)
    now = datetime.now(UTC)
    stopped = {"backfill": Runs(began_at=now), "reconcile": Runs(complete_at=now), "verify": Runs()}
    report = replace(everything_wrong(), users={"live": 0}, runs=dict.fromkeys(KINDS, Runs()))
    said = [
        *views._run_problems(report, 0, day),
        *views._run_problems(replace(report, runs=stopped), 0, day),
        *views._run_problems(replace(report, users={"live": 1}), 1e6, day),
    ]
    assert len(said) == 3
    for problem in said:
        assert f"| {plain(problem)} |" in explained


def test_every_condition_that_the_code_raises_is_one_that_the_pages_know() -> None:
    """The first words of each sentence, wherever the code raises a condition with it."""
    raised = set()
    for path in (CHECKOUT / "worker").rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            name = getattr(getattr(call, "func", None), "attr", None)
            if isinstance(call, ast.Call) and name in ("raise_condition", "_note"):
                raised |= {
                    one.value
                    for part in call.args[1:]
                    for one in ast.walk(part)
                    if isinstance(one, ast.Constant) and isinstance(one.value, str) and len(one.value) > 20
                }
    assert len(raised) > 6
    explained = plain(OPERATING.read_text())
    unexplained = [text for text in raised if plain(text).strip(" :;") not in explained]
    assert unexplained == []


def test_every_line_of_doctor_is_explained() -> None:
    code = "".join((CHECKOUT / "worker" / "commands" / name).read_text() for name in ("checks.py", "stream_checks.py"))
    checks = set(re.findall(r'(?:fine|note|wrong)\(\s*"([^"]+)"', code)) | {"log stream", "event stream", "streams"}
    assert len(checks) > 15
    section = OPERATING.read_text().partition("\n## What `understudy doctor` says\n")[2].partition("\n## ")[0]
    told = {
        name.strip() for line in section.splitlines() if line.startswith("| ") for name in line.split("|")[1].split(",")
    }
    assert checks - told == set()


def test_every_secret_has_its_way_to_be_rotated() -> None:
    section = RUNBOOKS.read_text().partition("\n## Rotating secrets\n")[2].partition("\n## ")[0]
    told = {
        name
        for line in section.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`([A-Z0-9_]+)`", line.split("|")[1])
    }
    secrets = {
        name.upper()
        for name, field in {**Settings.model_fields, **Credentials.model_fields}.items()
        if "SecretStr" in str(field.annotation)
    }
    assert told == secrets


def test_every_line_that_status_shows_is_explained() -> None:
    explained = OPERATING.read_text()
    for name in (
        "copy of",
        "schema",
        "users",
        "inbox",
        "parked",
        "stale",
        "pushes",
        "last delivery",
        "last backfill",
        "last reconcile",
        "last verify",
        "unauthorized logs",
        "budget",
    ):
        assert re.search(rf"^\| [^|]*\b{name}\b[^|]* \|", explained, re.MULTILINE), name


def test_retention_names_every_table_and_settings_that_exist(database_url: str) -> None:
    section = OPERATING.read_text().partition("\n## Retention\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("| `")]
    named = [name for tables, _ in rows for name in re.findall(r"`(\w+)`", tables)]
    with psycopg.connect(database_url) as connection:
        there = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    assert sorted(named) == sorted(name for (name,) in there)
    settings = {name for _, kept in rows for name in re.findall(r"`([A-Z_]+)`", kept)}
    assert settings
    assert {name.lower() for name in settings} <= Settings.model_fields.keys()


def option_names(command: click.Command) -> set[str]:
    return {spelling for parameter in command.params for spelling in (*parameter.opts, *parameter.secondary_opts)}


@pytest.mark.parametrize(
    ("process", "command", "module"),
    [
        ("web", uvicorn.main, "api.asgi"),
        ("worker", celery.bin.worker.worker, "worker.celery"),
        ("beat", celery.bin.beat.beat, "worker.celery"),
    ],
)
def test_the_procfile_uses_options_that_exist(process: str, command: click.Command, module: str) -> None:
    words = shlex.split(LINES[process])
    options = {word for word in words if word.startswith("--")}
    assert options <= option_names(command)
    assert any(word.partition(":")[0] == module for word in words)
    assert find_spec(module) is not None


def test_the_procfile_minds_what_heroku_does() -> None:
    assert LINES["worker"].startswith("REMAP_SIGTERM=SIGQUIT celery ")  # read from the environment, at import
    assert "--workers 1 " in LINES["web"]  # else WEB_CONCURRENCY, which the buildpack sets
    assert "--port $PORT " in LINES["web"]
    assert set(procfile()) == {"release", "web", "worker", "beat"}
