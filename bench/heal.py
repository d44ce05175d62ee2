"""How many Management API calls it costs to make good what no webhook brought."""

import time

import psycopg

from bench.calls import copy_users
from bench.drain import ring
from bench.figures import Results
from bench.stage import NO_TENANT, TOKEN, Stage
from local.product import Product, environment
from local.simulated_tenant import SimulatedTenant

_LOGINS = 500  # each writes two records
_RECORDS = 1_000
_SECONDS = 5
_PATIENCE = 240.0
# Beat rings for a pull of its own as it starts; in seconds, until that has ended too.
_SETTLE = 5.0
_SETTINGS = {
    "AUTH0_LIMITS": "global=2:2/s",
    "AUTH0_BUDGET_SHARE": "1",
    "DEFAULT_DISPLAY_NAME": "",
    "PULL_LOGS": "true",
}
_OPEN = """
SELECT (SELECT count(*) FROM news) + (SELECT count(*) FROM inbox WHERE state = 'pending'),
  (SELECT count(*) FROM users WHERE last_login IS NOT NULL)
"""


def heal(stage: Stage, results: Results) -> None:
    """Measure `heal_calls_per_1000_lost`: 500 known users log in and no stream tells; the log is pulled, until nothing is left to do."""
    tenant = SimulatedTenant.start(stage.processes, stage.folder, plan="enterprise")
    tenant.control("PUT", "limits", {"index_lag": 2, "per_page_max": 100})
    tenant.control("POST", "users/load", {"count": 2 * _LOGINS})
    more = {"AUTH0_DOMAIN": tenant.domain}
    with stage.database(more) as url, psycopg.connect(url, autocommit=True) as connection:
        copy_users(tenant, url)
        base = environment(tenant, database_url=url, redis_url=stage.servers.redis.url, token=TOKEN)
        product = Product.start(stage.processes, {**NO_TENANT, **base, **_SETTINGS})
        ring(stage, "catch_up")
        _wait(stage, connection, "SELECT EXISTS (SELECT FROM feeds WHERE leased_until IS NULL)", (True,))
        time.sleep(_SETTLE)
        tenant.control("POST", "stats/reset")
        burst = {"logins": _LOGINS, "users": _LOGINS, "seconds": _SECONDS}
        tenant.control("POST", "people/burst", burst)
        time.sleep(_SECONDS + 1)
        begun = time.monotonic()
        ring(stage, "catch_up")
        whom = sum(1 for user in tenant.truth() if user.get("last_login"))
        _wait(stage, connection, _OPEN, (0, whom))
        stats = tenant.control("GET", "stats")
        calls, records = stats["api_calls_total"], stats["logs_written"]
        results.figures["heal_calls_per_1000_lost"] = calls * _RECORDS / records
        said = {**stats["api_calls"], "records lost": records, "seconds": round(time.monotonic() - begun)}
        results.note("calls until what was lost is made good", str(said))
        for process in (product.beat, product.worker, product.web, tenant.process):
            process.stop()


def _wait(stage: Stage, connection: psycopg.Connection, query: str, wanted: tuple[object, ...]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while connection.execute(query).fetchone() != wanted:
        stage.processes.check()
        if time.monotonic() > deadline:
            raise SystemExit("bench: what was lost was not made good in time")
        time.sleep(0.1)
