"""`understudy dev`: everything on this machine, with the processes' logs in the terminal, until Ctrl-C."""

from __future__ import annotations

import os
import secrets
import sys
from contextlib import suppress

from rich.console import Console

from local.children import Children
from local.display import ProcessLines
from local.processes import NotHealthy, ProcessDied, ending_on_signals
from local.product import WEBHOOK, Product, environment, page_settings, product_processes
from local.server import free_port, is_free
from local.servers import ServerError, servers_from_environment
from local.services import KEPT
from local.simulated_tenant import SimulatedTenant

_PEOPLE = 25
_KNOWN = ({"email": "ada@example.com", "name": "Ada"}, {"email": "ben@example.com", "name": "Ben"})
_PORT = 8000


def main() -> None:
    """Run until Ctrl-C or SIGTERM, or until one of the processes dies.

    The simulated tenant begins anew each time, and so does the database that copies it (`understudy_dev`); a copy of
    yesterday's tenant would be a copy of nothing.
    """
    console = Console()
    try:
        with suppress(KeyboardInterrupt), ending_on_signals(), Children() as children:
            _run(console, children)
    except (ServerError, ProcessDied, NotHealthy) as error:
        sys.exit(f"understudy: {error}")


def _run(console: Console, children: Children) -> None:
    with (
        servers_from_environment(os.environ, children=children, keep=KEPT) as servers,
        product_processes(children, ProcessLines(console)) as (processes, folder),
    ):
        servers.postgres.drop_database("understudy_dev")
        database_url = servers.postgres.create_database("understudy_dev")
        tenant = SimulatedTenant.start(processes, folder)
        token = secrets.token_urlsafe(32)
        port = _PORT if is_free(_PORT) else free_port()
        environ = environment(
            tenant,
            database_url=database_url,
            redis_url=servers.redis.url,
            token=token,
            settings=page_settings(tenant, port),
        )
        product = Product.start(processes, environ, port=port)
        tenant.create_log_stream(product.url + WEBHOOK, token)
        tenant.control("POST", "people/signup", {"count": _PEOPLE})
        for person in _KNOWN:
            tenant.control("POST", "people/signup", {"count": 1, "profile": person})
        for name, url in {
            "the page": f"{product.url}/",
            "log in as": f"{', '.join(person['email'] for person in _KNOWN)}, or whoever you like; no password is asked",
            "tenant": f"https://{tenant.domain} (certificates: {tenant.ca_file})",
            "its people": f"{tenant.control_url}/_sim/ (POST people/signup, people/login, people/live …)",
            "PostgreSQL": database_url,
            "Redis": servers.redis.url,
        }.items():
            console.print(f"{name:>10} │ {url}", style="bold", soft_wrap=True, highlight=False)
        processes.watch(servers.check)


if __name__ == "__main__":
    main()
