"""Our own processes on this machine, as production runs them: their commands and what their environment says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import httpx

from local.children import Children
from local.privileges import Account, can_reach, unprivileged_account
from local.processes import Process, Processes, Say
from local.server import free_port
from local.simulated_tenant import SimulatedTenant

CHECKOUT = Path(__file__).resolve().parent.parent
WEBHOOK = "/webhooks/auth0/logs"
MUSIC_API = "https://api.music.example/"  # an audience that the simulated tenant knows

_EVERYWHERE = "0.0.0.0"  # noqa: S104 -- what a dyno listens on
_SCRIPTS = sysconfig.get_path("scripts")

# What configures the product. None of it is inherited: a demo must not meet a real tenant, nor be tuned by its settings.
_SETTINGS = (
    *("AUTH0_", "CORS_", "DATABASE_", "DEFAULT_DISPLAY_NAME", "EVENT_STREAM_", "HEAL_STREAMS", "INBOX_", "LOG_"),
    *("MAX_DELIVERY_BYTES", "METRICS_TOKEN", "PGSSLMODE", "PLAYS_", "PORT", "PUBLIC_URL", "PULL_", "RECONCILE_EVERY"),
    *("REDIS_", "ROLE_TIERS", "SEARCH_SETTLE", "SESSION_", "SILENCE_FLOOR", "TOKEN_", "USER_HASH_KEY", "WATCH_STREAMS"),
    *("RUN_RETENTION", "WORKER_CONCURRENCY"),
)


@contextmanager
def product_processes(children: Children, say: Say) -> Iterator[tuple[Processes, Path]]:
    """Yield what starts our processes, and a folder which they may write to."""
    account = _account()
    with children.folder(account) as parent:
        folder = parent / "data"
        folder.mkdir(mode=0o700)
        if account is not None:
            os.chown(folder, account.uid, account.gid)
        environ = inherited(os.environ) | {"HOME": str(folder), "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"}
        if account is None and os.geteuid() == 0:
            # Celery's advice not to be root is meant for production; here there is no other account that could.
            environ["PYTHONWARNINGS"] = "ignore:You're running the worker with superuser privileges"
        with Processes(children, cwd=CHECKOUT, environ=environ, account=account, say=say) as processes:
            yield processes, folder


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what of our environment our processes may have: nothing that configures the product."""
    return {name: value for name, value in environ.items() if not name.startswith(_SETTINGS)}


def _account() -> Account | None:
    """Name the account for our processes: if we are root, an unprivileged one that can run them.

    Often none can: a checkout or a Python below /root is closed to all others. Then they run as root, like us.
    """
    account = unprivileged_account()
    if account is None or not can_reach(CHECKOUT / "local", account):
        return None
    trial = [sys.executable, "-c", "import api, simulator, worker, celery, psycopg"]
    try:
        done = subprocess.run(
            trial, cwd=CHECKOUT, user=account.uid, group=account.gid, extra_groups=[], capture_output=True, check=False
        )
    except PermissionError:
        return None
    return account if done.returncode == 0 else None


def environment(
    tenant: SimulatedTenant, *, database_url: str, redis_url: str, token: str, settings: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the variables that make our processes keep a copy of a simulated tenant."""
    return {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "AUTH0_DOMAIN": tenant.domain,
        "AUTH0_M2M_CLIENT_ID": tenant.client_id,
        "AUTH0_M2M_CLIENT_SECRET": tenant.client_secret,
        "AUTH0_CA_FILE": tenant.ca_file,
        "AUTH0_PLAN": tenant.plan,
        "LOG_STREAM_TOKENS": token,
        "LOG_FORMAT": "console",
        **(settings or {}),
    }


def page_settings(tenant: SimulatedTenant, port: int) -> dict[str, str]:
    """Return the variables that make the page at this port of 127.0.0.1, its application registered with the tenant."""
    url = f"http://127.0.0.1:{port}"
    client_id, client_secret = tenant.create_web_application(url)
    return {
        "PUBLIC_URL": url,
        "AUTH0_AUDIENCE": MUSIC_API,
        "AUTH0_ISSUER": tenant.browser_issuer,
        "AUTH0_WEB_CLIENT_ID": client_id,
        "AUTH0_WEB_CLIENT_SECRET": client_secret,
    }


@dataclass(frozen=True)
class Product:
    """The running processes, and where the web process listens."""

    url: str
    web: Process
    worker: Process
    beat: Process

    @classmethod
    def start(cls, processes: Processes, environ: Mapping[str, str], *, port: int | None = None) -> Self:
        """Migrate the database and start all three; return when the web process is ready.

        Raises:
            ProcessDied, NotHealthy: one of them cannot run; with what it said.
        """
        port = port or free_port()
        processes.run("migrations", procfile()["release"], env=with_scripts(environ), patience=180)
        web = start_web(processes, environ, port)
        worker, beat = start_loops(processes, environ)
        return cls(f"http://127.0.0.1:{port}", web, worker, beat)


def understudy(*arguments: str) -> list[str]:
    """Return the command line of a command of ours."""
    return [os.path.join(_SCRIPTS, "understudy"), *arguments]  # noqa: PTH118 a word of a command line


def with_scripts(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the same with our commands on the PATH."""
    return {**environ, "PATH": os.pathsep.join([_SCRIPTS, os.environ["PATH"]])}


def start_web(processes: Processes, environ: Mapping[str, str], port: int) -> Process:
    """Start a web process at this port of 127.0.0.1; return when it is ready."""
    environ = {**with_scripts(environ), "PORT": str(port)}
    url = f"http://127.0.0.1:{port}"
    return processes.start("web", procfile()["web"], env=environ, healthy=lambda: _is_ready(url), patience=180)


def start_loops(processes: Processes, environ: Mapping[str, str]) -> tuple[Process, Process]:
    """Start a worker and beat."""
    commands, environ = procfile(), with_scripts(environ)
    # SIGTERM would make the worker wait, idle or not, as long as a dyno may; SIGINT lets it end what it has begun.
    return (
        processes.start("worker", commands["worker"], env=environ, stop=((signal.SIGINT, 8),)),
        processes.start("beat", commands["beat"], env=environ),
    )


def procfile() -> dict[str, list[str]]:
    """Return the commands that production runs, by the names of its processes, but listening on this machine alone."""
    lines = (line.partition(":") for line in (CHECKOUT / "Procfile").read_text().splitlines() if line.strip())
    # `env` takes the assignments that may precede a command; `exec` makes the shell become it, so signals reach it.
    return {
        name: ["/bin/sh", "-c", f"exec env {command.strip().replace(_EVERYWHERE, '127.0.0.1')}"]
        for name, _, command in lines
    }


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5, trust_env=False).is_success
    except httpx.TransportError:
        return False
