"""The parts that ask a simulated tenant, for tests of loops that need no pressure: a budget that is never spent."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import Redis

from tests.simulator.running import Simulator
from worker.auth0.client import Tenant
from worker.auth0.exports import Exports
from worker.auth0.pace import Budget
from worker.auth0.windows import Windows
from worker.settings import Settings
from worker.sync.everyone import Everyone

UNDERSTUDY = Path(sysconfig.get_path("scripts")) / "understudy"


@dataclass(frozen=True)
class Asking:
    """What a loop needs in order to ask."""

    settings: Settings
    budget: Budget
    tenant: Tenant

    @property
    def exports(self) -> Exports:
        return Exports(self.tenant, self.settings)

    @property
    def windows(self) -> Windows:
        return Windows(self.tenant)

    @property
    def everyone(self) -> Everyone:
        return Everyone(self.exports, self.windows, self.budget)


def settings_for(auth0: Simulator, redis_url: str, **changes: Any) -> Settings:
    values: dict[str, Any] = {
        "database_url": "postgresql://nobody@127.0.0.1/none",
        "redis_url": redis_url,
        "auth0_domain": auth0.ready["domain"],
        "auth0_ca_file": auth0.ready["ca_file"],
        "auth0_m2m_client_id": auth0.ready["client_id"],
        "auth0_m2m_client_secret": auth0.ready["client_secret"],
        "auth0_limits": {"global": (1000.0, 1000.0)},
        "auth0_budget_share": 1,
    }
    return Settings.model_validate(values | changes)


@contextmanager
def asking(auth0: Simulator, redis_url: str, **changes: Any) -> Iterator[Asking]:
    """Lend the parts; their connections are closed in the end."""
    settings = settings_for(auth0, redis_url, **changes)
    with Redis.from_url(redis_url) as redis:
        budget = Budget(redis, settings)
        with closing(Tenant(settings, redis, budget)) as tenant:
            yield Asking(settings, budget, tenant)


def environment_of(settings: Settings) -> dict[str, str]:
    """What a process of ours needs to know of these settings."""
    return {
        "PATH": os.environ["PATH"],
        "COLUMNS": "300",
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "REDIS_URL": settings.redis_url.get_secret_value(),
        "AUTH0_DOMAIN": settings.auth0_domain,
        "AUTH0_CA_FILE": str(settings.auth0_ca_file),
        "AUTH0_M2M_CLIENT_ID": settings.auth0_m2m_client_id,
        "AUTH0_M2M_CLIENT_SECRET": settings.auth0_m2m_client_secret.get_secret_value(),
        "AUTH0_LIMITS": "global=1000:1000/s",
    }


def understudy(settings: Settings, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, as an operator does."""
    env = environment_of(settings)
    return subprocess.run([UNDERSTUDY, *words], env=env, capture_output=True, text=True, timeout=120, check=False)
