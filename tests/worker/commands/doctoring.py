"""Runs `understudy doctor` as an operator does, and reads its lines."""

from __future__ import annotations

import re
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path

from tests.api.web import environment
from tests.simulator.running import Simulator

UNDERSTUDY = Path(sysconfig.get_path("scripts")) / "understudy"
NEEDED = ("read:users", "read:logs", "update:users", "update:users_app_metadata")
STREAMS = ("read:log_streams", "read:event_streams", "read:event_deliveries", "update:event_streams")

# By check: the verdict and the sentence.
Findings = dict[str, tuple[str, str]]
Doctor = Callable[..., tuple[int, Findings]]


def doctor_of(tenant: Simulator, database_url: str, redis_url: str) -> Doctor:
    """Return what runs it; keywords change its environment. That returns the exit code and the findings."""

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
        assert len({check for _, check, _ in lines}) == len(lines), done.stdout
        return done.returncode, {check: (verdict.strip(), says) for verdict, check, says in lines}

    return run
