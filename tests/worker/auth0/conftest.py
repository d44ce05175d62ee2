"""A simulated tenant over HTTPS, and the parts that talk to it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from redis import Redis

from worker.auth0.client import Tenant
from worker.auth0.pace import Budget
from worker.settings import Settings


@dataclass(frozen=True)
class Simulator:
    """A simulated tenant: where it is, and its control plane."""

    domain: str
    ca_file: str
    client_id: str
    client_secret: str
    control: httpx.Client

    def faults(self, *faults: dict[str, Any]) -> None:
        self.control.put("/_sim/faults", json=list(faults)).raise_for_status()

    def limits(self, **limits: Any) -> None:
        self.control.put("/_sim/limits", json=limits).raise_for_status()

    def sign_up(self, count: int = 1) -> list[str]:
        answer = self.control.post("/_sim/people/signup", json={"count": count}).raise_for_status()
        made: list[str] = answer.json()["user_ids"]
        return made

    def stats(self) -> dict[str, Any]:
        """Return what the tenant was asked since the test began."""
        told: dict[str, Any] = self.control.get("/_sim/stats").raise_for_status().json()
        return told


@pytest.fixture(scope="session")
def simulator_process() -> Iterator[Simulator]:
    command = [sys.executable, "-m", "simulator", "--domain-port", "0", "--control-port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        with httpx.Client(base_url=told["control_url"], timeout=30) as control:
            yield Simulator(told["domain"], told["ca_file"], told["client_id"], told["client_secret"], control)
        process.terminate()
        process.wait(20)


@pytest.fixture
def simulator(simulator_process: Simulator) -> Simulator:
    """A tenant without faults or limits."""
    simulator_process.faults()
    simulator_process.limits(plan="none", per_page_max=100, q_max=8000, search_timeout_probability=0, index_lag=0)
    simulator_process.control.post("/_sim/stats/reset").raise_for_status()
    return simulator_process


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as redis:
        yield redis


@pytest.fixture
def settings_for(simulator: Simulator, redis_url: str) -> Callable[..., Settings]:
    """Settings that name the simulated tenant; keywords change some."""

    def make(**changes: Any) -> Settings:
        values: dict[str, Any] = {
            "database_url": "postgresql://nobody@127.0.0.1/none",
            "redis_url": redis_url,
            "auth0_domain": simulator.domain,
            "auth0_ca_file": simulator.ca_file,
            "auth0_m2m_client_id": simulator.client_id,
            "auth0_m2m_client_secret": simulator.client_secret,
            "auth0_limits": {"global": (1000, 1000)},
            "auth0_timeout": "1s",
        }
        return Settings(**values | changes)

    return make


@pytest.fixture
def tenant_for(redis: Redis) -> Iterator[Callable[[Settings], Tenant]]:
    opened: list[Tenant] = []

    def make(settings: Settings) -> Tenant:
        opened.append(Tenant(settings, redis, Budget(redis, settings)))
        return opened[-1]

    yield make
    for tenant in opened:
        tenant.close()


@pytest.fixture
def tenant(settings_for: Callable[..., Settings], tenant_for: Callable[[Settings], Tenant]) -> Tenant:
    return tenant_for(settings_for())
