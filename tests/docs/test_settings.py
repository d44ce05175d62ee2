"""The settings, .env.example, app.json and docs/operating.md name the same variables and the same defaults."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest
from pydantic_core import PydanticUndefined

from tests.docs.pages import CHECKOUT, OPERATING, first_cells
from worker.settings import Settings
from worker.setup.credentials import Credentials

SETTINGS = {name.upper(): field for name, field in Settings.model_fields.items()}
SETUP = {name.upper() for name in Credentials.model_fields}  # in the environment of one command, never of the processes
OTHERS = {"PORT", "WORKER_CONCURRENCY", "PGSSLMODE"}  # read by the Procfile and by libpq
EXAMPLES = {
    "AUTH0_LIMITS",
    "AUTH0_CA_FILE",
    "AUTH0_AUDIENCE",
    "AUTH0_ISSUER",
    "AUTH0_HS256_SECRET",
    "CORS_ALLOWED_ORIGINS",
    "EVENT_STREAM_TOKENS",
    "EVENT_STREAM_HEADER",
    "LOG_STREAM_TOKENS",
    "METRICS_TOKEN",
    "PUBLIC_URL",
    "AUTH0_WEB_CLIENT_ID",
    "AUTH0_WEB_CLIENT_SECRET",
    "USER_HASH_KEY",
}  # nothing is a default one could write
EXAMPLE = (CHECKOUT / ".env.example").read_text()
_LINE = re.compile(r"^(#?)([A-Z][A-Z0-9_]*)=(.*)$", re.MULTILINE)


def default(name: str) -> Any:
    field = SETTINGS[name]
    return field.get_default(call_default_factory=True)


def test_env_example_names_every_setting_once() -> None:
    names = [name for _, name, _ in _LINE.findall(EXAMPLE)]
    assert sorted(names) == sorted([*SETTINGS, *OTHERS])


def test_operating_explains_every_setting_once() -> None:
    cells = [match[1] for cell in first_cells(OPERATING) if (match := re.fullmatch(r"`([A-Z][A-Z0-9_]+)`", cell))]
    assert sorted(cells) == sorted([*SETTINGS, *OTHERS, *SETUP])


def test_app_json_asks_for_settings_that_exist_and_for_all_that_are_needed() -> None:
    app = json.loads((CHECKOUT / "app.json").read_text())
    asked = set(app["env"])
    assert asked <= set(SETTINGS) | OTHERS
    required = {name for name, field in SETTINGS.items() if field.is_required()} - {"DATABASE_URL", "REDIS_URL"}
    assert required | {"AUTH0_M2M_CLIENT_ID", "AUTH0_M2M_CLIENT_SECRET", "LOG_STREAM_TOKENS"} <= asked
    assert set(app["formation"]) == {"web", "worker", "beat"}


@pytest.mark.parametrize("name", sorted(set(SETTINGS) - EXAMPLES))
def test_env_example_shows_the_default(name: str) -> None:
    (commented, value) = next((hash_, value) for hash_, found, value in _LINE.findall(EXAMPLE) if found == name)
    if SETTINGS[name].is_required() or value == "":
        assert not commented, "what must be filled in is not commented out"
        return
    needed = {
        "DATABASE_URL": "postgresql://127.0.0.1/x",
        "REDIS_URL": "redis://127.0.0.1",
        "AUTH0_DOMAIN": "a.auth0.com",
    }
    settings = Settings.model_validate({key.lower(): text for key, text in (needed | {name: value}).items()})
    assert default(name) is not PydanticUndefined
    assert getattr(settings, name.lower()) == default(name)


@pytest.mark.parametrize("uncomment", [False, True])
def test_a_shell_and_the_settings_can_read_env_example(uncomment: bool) -> None:
    text = re.sub(r"^#(?=[A-Z][A-Z0-9_]*=.)", "", EXAMPLE, flags=re.MULTILINE) if uncomment else EXAMPLE
    script = f'set -a\n{text}\nset +a\nexec "$0" -c "from worker.settings import settings; settings()"'
    done = subprocess.run(
        ["/bin/sh", "-c", script, sys.executable], cwd=CHECKOUT, capture_output=True, text=True, env={}, check=False
    )
    assert done.returncode == 0, done.stderr
