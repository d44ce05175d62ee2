"""How long it takes until a login that was sent shows in the table: ours and the recipe's, calm and beyond the recipe's capacity."""

import random
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

import psycopg

from bench.accept import send
from bench.bodies import deliveries, new_ids
from bench.drain import RECIPE_TABLE, recipe_worker, wait
from bench.figures import Results, alternate, quantile, ratio
from bench.load import write_bodies
from bench.stage import Stage

_SECONDS = 8.0
_ROUNDS = 3
_WINDOW = 300
_SAMPLED = 5  # logins of each delivery
_SIZE = 20  # records of each delivery: small enough that half the recipe's capacity is several a second

_OURS = "SELECT user_id FROM live_users WHERE user_id = ANY(%s) AND last_seen_at IS NOT NULL"
_RECIPES = "SELECT user_id FROM recipe_users WHERE user_id = ANY(%s)"


def seen(stage: Stage, results: Results) -> None:
    """Measure `seen_p99_vs_recipe` and `seen_p99_10x`: web and worker (two children) of each, deliveries of 20 logins."""
    with stage.database() as url, psycopg.connect(url, autocommit=True) as connection:
        environ = stage.environ(url)
        stage.processes.run("recipe's table", [sys.executable, "-c", RECIPE_TABLE], env=environ)
        with (
            stage.web(environ) as ours,
            stage.worker(environ, children=2),
            stage.web(environ, "bench.recipe:asgi", "recipe's web") as theirs,
            stage.process("recipe", recipe_worker(children=2), environ),
        ):
            capacity = _capacity(stage, connection, theirs)
            results.note("the recipe's capacity", f"{capacity:,.0f} events/s")
            half, tenfold = capacity / 2 / _SIZE, capacity * 10 / _SIZE
            numbers = alternate(
                _ROUNDS,
                ours=lambda: _p99(stage, connection, ours, half, _OURS),
                recipe=lambda: _p99(stage, connection, theirs, half, _RECIPES),
                tenfold=lambda: _p99(stage, connection, ours, tenfold, _OURS),
            )
    results.figures["seen_p99_vs_recipe"] = ratio(numbers["ours"], numbers["recipe"])
    results.figures["seen_p99_10x"] = ratio(numbers["tenfold"], numbers["ours"])
    for name, measured in numbers.items():
        results.note(f"sent → visible, p99, {name}", ", ".join(f"{one * 1000:,.0f} ms" for one in measured))


def _capacity(stage: Stage, connection: psycopg.Connection, port: int) -> float:
    """Send as fast as the recipe's web process takes it; return the events/s from the first until all are in the table."""
    ids = new_ids(20_000, seed=99)
    bodies = stage.folder / "capacity"
    write_bodies(bodies, deliveries(ids, size=_SIZE, kinds=False))
    begun = time.perf_counter()
    said = send(stage, port, str(bodies), seconds=3)
    events = said["accepted"] * _SIZE
    wait(stage, lambda: connection.execute("SELECT count(*) FROM recipe_users").fetchone() == (events,))
    return float(events / (time.perf_counter() - begun))


def _p99(stage: Stage, connection: psycopg.Connection, port: int, rate: float, query: str) -> float:
    connection.execute("TRUNCATE inbox, news, users, recipe_users")
    connection.execute("CHECKPOINT")
    number = max(2, int(rate * _SECONDS))
    seed = random.randrange(10**6)  # noqa: S311 new users for each round
    ids = new_ids(number * _SIZE, seed=seed)
    bodies = stage.folder / "seen"
    write_bodies(bodies, deliveries(ids, size=_SIZE, kinds=False))
    rng = random.Random(seed)  # noqa: S311
    sampled = {
        user_id: body
        for body in range(number)
        for user_id in rng.sample(ids[body * _SIZE : (body + 1) * _SIZE], _SAMPLED)
    }
    said: dict[str, Any] = {}
    sending = threading.Thread(target=lambda: said.update(send(stage, port, str(bodies), seconds=_SECONDS, rate=rate)))
    sending.start()
    shown = _watch(connection, sampled, query)
    sending.join()
    if not said:
        raise SystemExit("bench: the load generator failed")
    return quantile([shown[user_id] - said["sent"][body] for user_id, body in sampled.items()], 0.99)


def _watch(connection: psycopg.Connection, sampled: Mapping[str, int], query: str) -> dict[str, float]:
    """Look every 4 ms which of the next ones show; return when each was first seen."""
    shown: dict[str, float] = {}
    open_ids = list(sampled)
    deadline = time.monotonic() + 120
    while open_ids:
        new = {row[0] for row in connection.execute(query, [open_ids[:_WINDOW]])}
        now = time.time()
        shown |= dict.fromkeys(new, now)
        if new:
            open_ids = [user_id for user_id in open_ids if user_id not in new]
        if time.monotonic() > deadline:
            raise SystemExit("bench: logins were never seen")
        time.sleep(0.004)
    return shown
