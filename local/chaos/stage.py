"""What chaos is played on: servers and processes of its own, the wires between them, and a tenant with all three feeds."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from celery import Celery

from local.chaos.wires import Wire
from local.children import Children
from local.processes import ProcessDied, Processes, Say
from local.product import MUSIC_API, Product, environment, product_processes, start_loops, start_web, understudy
from local.server import free_port
from local.servers import EmbeddedPostgres, EmbeddedRedis, embedded_postgres, embedded_redis
from local.simulated_tenant import SimulatedTenant

TIERS = {"playlist_editor": 15, "curator": 40}
CAP = 10
"""Plays of one playlist by one listener that count on a day."""

# Shorter than in production, so that what waits and what fails for a while happens within minutes.
_SETTINGS = {
    "AUTH0_AUDIENCE": MUSIC_API,
    "AUTH0_BUDGET_SHARE": "0.9",
    "AUTH0_TIMEOUT": "3s",
    "HEAL_STREAMS": "true",
    "PLAYS_PER_LISTENER_PER_DAY": str(CAP),
    "PULL_EVENTS": "true",
    "PULL_LOGS": "true",
    "RECONCILE_EVERY": "60s",
    "ROLE_TIERS": ",".join(f"{role}={plays}" for role, plays in TIERS.items()),
    "SEARCH_SETTLE": "3s",
    "WATCH_STREAMS": "true",
}
_SETUP_SCOPES = [
    f"{verb}:{what}"
    for what in ("log_streams", "event_streams", "actions")
    for verb in ("read", "create", "update", "delete")
]


@dataclass
class Stage:
    """A running product and everything around it. `environ` is what configures it, `product` its processes of now."""

    tenant: SimulatedTenant
    product: Product
    processes: Processes
    postgres: EmbeddedPostgres
    redis: EmbeddedRedis
    wires: dict[str, Wire]
    environ: dict[str, str] = field(repr=False)
    port: int

    @property
    def database_url(self) -> str:
        """PostgreSQL itself, past the wire."""
        return self.postgres.url

    @property
    def public_url(self) -> str:
        return self.environ["PUBLIC_URL"]

    def understudy(self, *arguments: str) -> None:
        """Run a command of ours to its end; raises ProcessDied with what it said if that is not 0."""
        self.processes.run("understudy", understudy(*arguments), env=self.environ, patience=240)

    def persistently(self, *arguments: str, go_on: Callable[[], bool]) -> bool:
        """Run a command as an operator would who is told "try again"; tell whether it succeeded."""
        while go_on():
            try:
                self.understudy(*arguments)
            except ProcessDied:
                time.sleep(1)
            else:
                return True
        return False

    def ring(self, task: str) -> None:
        """Let a worker run a loop now, as beat does."""
        with Celery(broker=self.redis.url, set_as_current=False) as app:
            app.send_task(f"worker.tasks.{task}", queue="understudy", ignore_result=True, expires=30, retry=False)

    def deploy(self, log_tokens: str, event_tokens: str, *, web_alone: bool = False) -> None:
        """Replace the processes by ones with these tokens, the web process first; later commands have them too."""
        self.environ |= {"LOG_STREAM_TOKENS": log_tokens, "EVENT_STREAM_TOKENS": event_tokens}
        self.product.web.stop()
        self.product = replace(self.product, web=start_web(self.processes, self.environ, self.port))
        if not web_alone:
            for old in (self.product.worker, self.product.beat):
                old.stop()
            worker, beat = start_loops(self.processes, self.environ)
            self.product = replace(self.product, worker=worker, beat=beat)


@contextmanager
def on_stage(children: Children, say: Say, seed: int) -> Iterator[Stage]:
    """Start everything and connect the tenant by `understudy setup`; all of it is gone afterwards."""
    with ExitStack() as stack:
        postgres = stack.enter_context(embedded_postgres(children=children))
        redis = stack.enter_context(embedded_redis(children=children))
        processes, folder = stack.enter_context(product_processes(children, say))
        port = free_port()
        wires = {
            name: stack.enter_context(Wire(to))
            for name, to in (("postgres", postgres.port), ("redis", redis.port), ("web", port))
        }
        stage = _start(processes, folder, postgres, redis, wires, port, seed)
        stage.understudy("setup")
        yield stage


def _start(
    processes: Processes,
    folder: Path,
    postgres: EmbeddedPostgres,
    redis: EmbeddedRedis,
    wires: dict[str, Wire],
    port: int,
    seed: int,
) -> Stage:
    tenant = SimulatedTenant.start(processes, folder, seed=seed)
    operator = tenant.control("POST", "clients", {"scopes": _SETUP_SCOPES})
    settings = _SETTINGS | {
        "EVENT_STREAM_TOKENS": secrets.token_urlsafe(32),
        "PUBLIC_URL": f"http://127.0.0.1:{wires['web'].port}",
        "AUTH0_SETUP_CLIENT_ID": operator["client_id"],
        "AUTH0_SETUP_CLIENT_SECRET": operator["client_secret"],
    }
    environ = environment(
        tenant,
        database_url=_through(wires["postgres"], postgres.url),
        redis_url=_through(wires["redis"], redis.url),
        token=secrets.token_urlsafe(32),
        settings=settings,
    )
    product = Product.start(processes, environ, port=port)
    return Stage(tenant, product, processes, postgres, redis, wires, environ, port)


def _through(wire: Wire, url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition(':')[0]}:{wire.port}"))
