"""How many Management API calls a storm of logins costs, and when the profiles are confirmed."""

import time
from datetime import datetime

import psycopg
from sqlalchemy import create_engine, text

from bench.figures import Results, quantile
from bench.stage import NO_TENANT, TOKEN, Stage
from local.product import WEBHOOK, Product, environment
from local.simulated_tenant import SimulatedTenant
from worker.domain.users import Row
from worker.store import users

_USERS = 1_000
_SECONDS = 10
_CALM = 40
_PATIENCE = 200.0
# Whoever logs in for the first time without a name gets one: two calls more, once in a lifetime. These have been here before.
# The log is pulled every few minutes whatever happens, a call for each 100 records: it serves no mark.
_SETTINGS = {
    "AUTH0_LIMITS": "global=2:2/s",
    "AUTH0_BUDGET_SHARE": "1",
    "DEFAULT_DISPLAY_NAME": "",
    "PULL_LOGS": "false",
}


def calls(stage: Stage, results: Results) -> None:
    """Measure `calls_per_1000_logins`: 1,000 known users log in, 10 s long, at 2 calls/s, the index 2 s behind; until no mark is left."""
    tenant = SimulatedTenant.start(stage.processes, stage.folder, plan="enterprise")
    tenant.control("PUT", "limits", {"index_lag": 2, "per_page_max": 100})
    tenant.control("POST", "users/load", {"count": _USERS})
    more = {"AUTH0_DOMAIN": tenant.domain}
    with stage.database(more) as url, psycopg.connect(url, autocommit=True) as connection:
        copy_users(tenant, url)
        base = environment(tenant, database_url=url, redis_url=stage.servers.redis.url, token=TOKEN)
        product = Product.start(stage.processes, {**NO_TENANT, **base, **_SETTINGS})
        tenant.create_log_stream(product.url + WEBHOOK, TOKEN)
        tenant.control("POST", "stats/reset")
        begun = time.monotonic()
        tenant.control("POST", "people/burst", {"logins": _USERS, "users": _USERS, "seconds": _SECONDS})
        confirmed = _watch(tenant, connection, begun)
        stats = tenant.control("GET", "stats")
        results.figures["calls_per_1000_logins"] = float(stats["api_calls_total"])
        results.note("calls of the storm", str({**stats["api_calls"], "seconds": round(time.monotonic() - begun)}))
        _note(results, f"profile confirmed, storm ({len(confirmed)} logins at 2 calls/s)", confirmed)
        calm = [
            _one(tenant, connection, user["user_id"]) for user, _ in zip(tenant.truth(), range(_CALM), strict=False)
        ]
        _note(results, f"profile confirmed, calm ({_CALM} logins, one a second)", calm)
        for process in (product.beat, product.worker, product.web, tenant.process):
            process.stop()


def _watch(tenant: SimulatedTenant, connection: psycopg.Connection, begun: float) -> list[float]:
    """Wait until no mark is left; return the seconds from each login to the end of its mark, looked at five times a second."""
    logins = {
        user["user_id"]: datetime.fromisoformat(user["last_login"]).timestamp()
        for user in tenant.truth()
        if user.get("last_login")
    }
    confirmed: dict[str, float] = {}
    while time.monotonic() < begun + _PATIENCE:
        marked = {row[0] for row in connection.execute("SELECT user_id FROM news")}
        known = {
            row[0]
            for row in connection.execute("SELECT user_id FROM users WHERE synced_at > created_at AND version > 1")
        }
        now = time.time()
        for user_id in known - marked - confirmed.keys():
            if user_id in logins:
                confirmed[user_id] = now - logins[user_id]
        pending = sum(tenant.control("GET", "stats")["pending"].values())
        if not marked and not pending and time.monotonic() > begun + _SECONDS + 3:
            return list(confirmed.values())
        time.sleep(0.2)
    raise SystemExit("bench: marks were left")


def _one(tenant: SimulatedTenant, connection: psycopg.Connection, user_id: str) -> float:
    """Let one user log in; return the seconds until the profile shows that login."""
    before = connection.execute("SELECT logins_count FROM users WHERE user_id = %s", [user_id]).fetchone()
    tenant.control("POST", "people/login", {"user_ids": [user_id]})
    begun = time.monotonic()
    while connection.execute("SELECT logins_count FROM users WHERE user_id = %s", [user_id]).fetchone() == before:
        if time.monotonic() > begun + _PATIENCE:
            raise SystemExit("bench: a profile was never confirmed")
        time.sleep(0.005)
    took = time.monotonic() - begun
    time.sleep(max(0.0, 1.0 - took))
    return took


def copy_users(tenant: SimulatedTenant, url: str) -> None:
    """Put the tenant's users into the table, as a backfill would."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
    with engine.begin() as connection:
        profiles = list(tenant.truth())
        ids = [profile["user_id"] for profile in profiles]
        connection.execute(text("INSERT INTO users (user_id) SELECT unnest(CAST(:ids AS text[]))"), {"ids": ids})
        users.write_snapshots(connection, [(Row(profile["user_id"], 0), profile) for profile in profiles])
    engine.dispose()


def _note(results: Results, what: str, seconds: list[float]) -> None:
    results.note(what, f"p50 {quantile(seconds, 0.5):.2f} s, p99 {quantile(seconds, 0.99):.2f} s")
