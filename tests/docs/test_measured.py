"""What docs/operating.md says of connections and scopes holds for the processes of the Procfile."""

from __future__ import annotations

import re
import time
from collections import Counter

import psutil
import pytest
from sqlalchemy import make_url

from local.children import Children
from local.comparison import compare
from local.copy_watch import CopyWatch
from local.processes import Process
from local.product import WEBHOOK, Product, environment, product_processes
from local.simulated_tenant import SimulatedTenant
from tests.docs.pages import OPERATING

pytestmark = [pytest.mark.journey, pytest.mark.timeout(900)]


def scopes() -> list[str]:
    """Return the scopes in the page's table."""
    section = OPERATING.read_text().partition("## Scopes")[2].partition("\n## ")[0]
    return sorted(set(re.findall(r"^\| [^|]+ \| `([a-z]+:[a-z_]+)` \|", section, re.MULTILINE)))


def most_connections() -> dict[str, tuple[int, int]]:
    """Return {process: (PostgreSQL, Redis)} as the page's table has it: the most of each."""
    rows = re.findall(
        r"^\| (web|worker, parent|worker, each child|beat) \| ([^|]*) \| (\d+) \|", OPERATING.read_text(), re.MULTILINE
    )
    return {name: (most(postgres), int(redis)) for name, postgres, redis in rows}


def most(cell: str) -> int:
    numbers = [int(number) for number in re.findall(r"\d+", cell)]
    return sum(numbers) if " more " in cell else max(numbers)


def connections(product: Product, ports: list[int | None]) -> dict[str, list[tuple[int, int]]]:
    """Return, for each kind of process, what each of that kind holds to PostgreSQL and to Redis."""
    groups = {
        "web": tree(product.web),
        "worker, parent": tree(product.worker)[:1],
        "worker, each child": tree(product.worker)[1:],
        "beat": tree(product.beat),
    }
    return {name: [held for process in group if (held := count(process, ports))] for name, group in groups.items()}


def tree(process: Process) -> list[psutil.Process]:
    parent = psutil.Process(process.pid)
    return [parent, *parent.children(recursive=True)]


def count(process: psutil.Process, ports: list[int | None]) -> tuple[int, int] | None:
    try:
        peers = Counter(
            one.raddr.port for one in process.net_connections(kind="tcp") if one.status == "ESTABLISHED" and one.raddr
        )
    except psutil.Error:
        return None
    return peers[ports[0]], peers[ports[1]]


def at_work(seen: dict[str, tuple[int, int]]) -> bool:
    """Whether the web process and a worker's child were seen with the connections of their work."""
    return min(seen["web"]) >= 2 and seen["worker, each child"][1] >= 2


def test_the_page_is_right_about_connections_and_scopes(children: Children, database_url: str, redis_url: str) -> None:
    table = most_connections()
    assert set(table) == {"web", "worker, parent", "worker, each child", "beat"}
    assert scopes() == ["read:logs", "read:users", "update:users", "update:users_app_metadata"]
    seen = dict.fromkeys(table, (0, 0))
    ports = [make_url(url).port for url in (database_url, redis_url)]
    with product_processes(children, lambda _name, _line: None) as (processes, folder):
        tenant = SimulatedTenant.start(processes, folder)
        client = tenant.control("POST", "clients", {"scopes": scopes()})
        secret = {"AUTH0_M2M_CLIENT_ID": client["client_id"], "AUTH0_M2M_CLIENT_SECRET": client["client_secret"]}
        settings = {"SEARCH_SETTLE": "3s", **secret}
        environ = environment(tenant, database_url=database_url, redis_url=redis_url, token="t", settings=settings)
        product = Product.start(processes, environ)
        tenant.create_log_stream(product.url + WEBHOOK, "t")
        tenant.control("POST", "people/signup", {"count": 80})
        least, most_patient = time.monotonic() + 12, time.monotonic() + 120
        while (now := time.monotonic()) < least or (now < most_patient and not at_work(seen)):
            for name, all_held in connections(product, ports).items():
                for held in all_held:
                    seen[name] = (max(seen[name][0], held[0]), max(seen[name][1], held[1]))
            time.sleep(0.05)
        assert len(connections(product, ports)["worker, each child"]) == 2
        with CopyWatch(database_url, tenant) as watch:
            processes.wait_until(watch.is_quiet, "the copy to settle", time.monotonic() + 100)
        assert compare(tenant.truth(), database_url) == (80, [])
    assert at_work(seen), "nothing was measured"
    for name, limit in table.items():
        assert seen[name][0] <= limit[0], f"{name} held {seen[name][0]} connections to PostgreSQL, not {limit[0]}"
        assert seen[name][1] <= limit[1], f"{name} held {seen[name][1]} connections to Redis, not {limit[1]}"
