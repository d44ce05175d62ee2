"""`make demo`: a thousand simulated people against the real thing, then the local copy is compared with the tenant."""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import psycopg
from rich.console import Console

from local.children import Children
from local.comparison import Difference, compare
from local.copy_watch import CopyWatch
from local.display import Phases
from local.postgres_server import Postgres
from local.processes import NotHealthy, ProcessDied, Processes, ending_on_signals, ending_with_parent
from local.product import WEBHOOK, Product, environment, product_processes
from local.redis_server import EmbeddedRedis
from local.servers import ServerError, Servers, servers_from_environment
from local.simulated_tenant import SimulatedTenant
from local.storm import Latencies, calm_logins, sign_everyone_up, storm

_QUIET_WITHIN = 300  # seconds
_SHOWN = 50  # differences

# The tenant's index lags half a second here, and nobody else calls its API; see docs/operating.md for the defaults. Nobody here
# has a display name: to write a default one for everybody is two calls each, and would take most of the time.
_SETTINGS = {"SEARCH_SETTLE": "5s", "AUTH0_BUDGET_SHARE": "0.9", "DEFAULT_DISPLAY_NAME": ""}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; return 0 when the copy equals the tenant, 1 when it does not, 2 when something could not run."""
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("--seconds", type=float, default=15, help="how long the storm lasts (default: %(default)s)")
    parser.add_argument("--people", type=int, default=1000, help="how many sign up (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=1, help="the same seed makes the same people (default: %(default)s)"
    )
    parser.add_argument(
        "--log", type=Path, default=Path("build/demo.log"), help="what the processes say (default: %(default)s)"
    )
    parser.add_argument(
        "--exit-with-parent", action="store_true", help="end when the process that started this one does"
    )
    asked = parser.parse_args(argv)
    if asked.exit_with_parent:
        ending_with_parent()
    try:
        with ending_on_signals():
            return _Demo(asked.people, asked.seconds, asked.seed, asked.log).run()
    except KeyboardInterrupt:
        return 130
    except (ServerError, ProcessDied, NotHealthy) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    except (httpx.HTTPError, psycopg.Error) as error:
        print(f"demo: {error}\nWhat the processes said is in {asked.log}", file=sys.stderr)
        return 2


class _Demo:
    def __init__(self, people: int, seconds: float, seed: int, log: Path) -> None:
        self._people, self._seconds, self._seed, self._log_file = people, seconds, seed, log
        self._console = Console()
        self._phases = Phases(self._console)
        self._writing = threading.Lock()

    def run(self) -> int:
        self._log_file.parent.mkdir(parents=True, exist_ok=True)
        self._log_file.write_text("")
        with ExitStack() as stack:
            with self._phases.phase("PostgreSQL, Redis, a tenant, web, worker and beat start"):
                children = stack.enter_context(Children())
                servers = stack.enter_context(_empty_servers(children))
                processes, folder = stack.enter_context(product_processes(children, self._say))
                tenant, product = _start(processes, folder, servers, self._seed)
                watch = stack.enter_context(CopyWatch(servers.postgres.url, tenant))
            return self._play(tenant, product, processes, watch)

    def _play(self, tenant: SimulatedTenant, product: Product, processes: Processes, watch: CopyWatch) -> int:
        with watch.noting(self._phases.note):
            with self._phases.phase(f"{self._people:,} people sign up"):
                sampled = sign_everyone_up(tenant, self._people)
                self._wait_until_quiet(processes, watch)
            with self._phases.phase("some of them log in, one after the other"):
                calm = calm_logins(tenant, watch, sampled)
            with self._phases.phase("storm: doubles, disorder, 429s, 500s, web away for 4 s"):
                stormy = storm(tenant, product, watch, people=self._people, seconds=self._seconds)
            with self._phases.phase("the storm is over, the copy settles"):
                quiet = self._wait_until_quiet(processes, watch)
            with self._phases.phase("the copy is compared with the tenant"):
                users, differences = compare(tenant.truth(), watch.database_url)
        processes.check()
        self._report(tenant, watch, calm, stormy)
        return self._verdict(users, differences, quiet)

    def _wait_until_quiet(self, processes: Processes, watch: CopyWatch) -> bool:
        try:
            processes.wait_until(watch.is_quiet, "the copy to settle", time.monotonic() + _QUIET_WITHIN)
        except NotHealthy:
            return False
        return True

    def _report(self, tenant: SimulatedTenant, watch: CopyWatch, calm: Latencies, stormy: Latencies) -> None:
        stats, counts = tenant.control("GET", "stats"), watch.counts()
        sent, statuses = stats["deliveries"], stats["api_statuses"]
        failed = sum(number for status, number in statuses.items() if str(status).startswith("5"))
        lines = {
            "deliveries": f"{sent['accepted']:,} accepted in {sent['attempted']:,} attempts; {counts.deliveries:,} stored, doubles included",
            "events": f"{stats['logs_written']:,} log records, {counts.parked:,} parked",
            "Management API": f"{stats['api_calls_total']:,} calls, {statuses.get('429', 0):,} answered 429, {failed:,} answered 5xx",
            "login → row": f"calm {calm}; storm (web's absence included) {stormy}",
            "": "from the tenant's answer to a login until SQL shows it, the tenant's own delay before delivery included",
            "users": f"{counts.live:,} live, {counts.deleted:,} deleted or linked away",
            "settings": "SEARCH_SETTLE 5 s (default 60 s: here the index lags 0.5 s), AUTH0_BUDGET_SHARE 0.9 (default 0.5), DEFAULT_DISPLAY_NAME off",
            "logs": str(self._log_file),
            "in a browser": "the music app's page, on a tenant of its own: .venv/bin/understudy dev",
        }
        self._console.print()
        for name, text in lines.items():
            self._console.print(f"{name:<15} {text}", soft_wrap=True, highlight=False)
        self._console.print()

    def _verdict(self, users: int, differences: list[Difference], quiet: bool) -> int:  # noqa: FBT001
        for difference in differences[:_SHOWN]:
            print(difference)
        if len(differences) > _SHOWN:
            print(f"… and {len(differences) - _SHOWN} more")
        if not quiet:
            print(f"after {_QUIET_WITHIN} s there still was something to do")
        if differences or not quiet:
            print(f"local copy ≠ tenant: {users} users, {len(differences)} differences")
            return 1
        print(f"local copy = tenant: {users} users, 0 differences")
        return 0

    def _say(self, name: str, line: str) -> None:
        with self._writing, self._log_file.open("a") as log:
            log.write(f"{name:>10} | {line}\n")


@contextmanager
def _empty_servers(children: Children) -> Iterator[Servers]:
    """Yield servers to fill; of the environment's own, an own database, and a Redis that was empty and will be again."""
    with servers_from_environment(os.environ, children=children) as servers:
        if not servers.redis.is_empty():
            raise ServerError("the database of REDIS_URL holds keys; name an empty one, or unset REDIS_URL")
        name = f"understudy_demo_{os.getpid()}"
        url = servers.postgres.create_database(name)
        try:
            yield Servers(Postgres(url), servers.redis)
        finally:
            servers.postgres.drop_database(name)
            if not isinstance(servers.redis, EmbeddedRedis):
                servers.redis.flush()


def _start(processes: Processes, folder: Path, servers: Servers, seed: int) -> tuple[SimulatedTenant, Product]:
    tenant = SimulatedTenant.start(processes, folder, seed=seed)
    token = secrets.token_urlsafe(32)
    environ = environment(
        tenant, database_url=servers.postgres.url, redis_url=servers.redis.url, token=token, settings=_SETTINGS
    )
    product = Product.start(processes, environ)
    tenant.create_log_stream(product.url + WEBHOOK, token)
    return tenant, product


if __name__ == "__main__":
    sys.exit(main())
