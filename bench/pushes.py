"""How many writes to Auth0 it costs when plays earn a role."""

import time

import psycopg

from bench.calls import copy_users
from bench.figures import Results
from bench.load import write_bodies
from bench.plays import AUDIENCE, request, send
from bench.stage import NO_TENANT, TOKEN, Stage
from local.product import Product, environment
from local.simulated_tenant import SimulatedTenant

_PLAYS = 1_000
_PATIENCE = 120.0
# What would be pushed once too often comes with the next rings of beat.
_AFTERWARDS = 12.0
_SETTINGS = {"AUTH0_AUDIENCE": AUDIENCE, "ROLE_TIERS": "playlist_editor=100", "DEFAULT_DISPLAY_NAME": ""}
_EARNED = """
SELECT (SELECT sum(plays)::bigint FROM playlists), (SELECT roles FROM users WHERE user_id = %s)
"""


def pushes(stage: Stage, results: Results) -> None:
    """Measure `pushes_per_1000_plays`: a thousand listeners play one owner's playlist once each; a hundred plays earn a role."""
    tenant = SimulatedTenant.start(stage.processes, stage.folder)
    tenant.control("POST", "users/load", {"count": _PLAYS + 1})
    owner, *listeners = [user["user_id"] for user in tenant.truth()]
    asked = {"user_ids": listeners, "audience": AUDIENCE}
    tokens = tenant.control("POST", "tokens", asked)["access_tokens"]
    with (
        stage.database({"AUTH0_DOMAIN": tenant.domain}) as url,
        psycopg.connect(url, autocommit=True) as connection,
    ):
        copy_users(tenant, url)
        connection.execute("INSERT INTO playlists (user_id, name) VALUES (%s, 'p')", [owner])
        base = environment(tenant, database_url=url, redis_url=stage.servers.redis.url, token=TOKEN)
        product = Product.start(stage.processes, {**NO_TENANT, **base, **_SETTINGS})
        tenant.control("POST", "stats/reset")
        requests = stage.folder / "plays"
        write_bodies(requests, (request(token, 1) for token in tokens))
        send(stage, int(product.url.rpartition(":")[2]), requests)
        deadline = time.monotonic() + _PATIENCE
        while connection.execute(_EARNED, [owner]).fetchone() != (_PLAYS, ["playlist_editor"]):
            stage.processes.check()
            if time.monotonic() > deadline:
                raise SystemExit("bench: a thousand plays earned no role in time")
            time.sleep(0.1)
        time.sleep(_AFTERWARDS)
        calls = tenant.control("GET", "stats")["api_calls"]
        results.figures["pushes_per_1000_plays"] = float(
            sum(number for call, number in calls.items() if call.startswith("PATCH"))
        )
        results.note("calls for 1,000 plays that earn a role", str(calls))
        for process in (product.beat, product.worker, product.web, tenant.process):
            process.stop()
