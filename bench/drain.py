"""How fast one worker process turns deliveries into marks: against the bare database, the recipe, and itself in a large table."""

import itertools
import random
import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import psycopg
from celery import Celery

from bench.bodies import USER_ID_SQL, deliveries, new_ids, numbered_id
from bench.figures import Results, alternate, rates, ratio
from bench.stage import Stage, fill_inbox, pack

_EVENTS = 80_000
_RECIPE_EVENTS = 600
_ROUNDS = 5
_WAVES = 10
_MANY, _FEW = 1_000_000, 10_000
_PATIENCE = 180.0  # seconds

RECIPE_TABLE = "from bench.recipe import Base, engine; Base.metadata.create_all(engine())"

Packed = list[tuple[bytes, int]]


def drain(stage: Stage, results: Results) -> None:
    """Measure `drain_vs_bare` and `drain_vs_recipe`: all different users, none known before."""
    ids = new_ids(_EVENTS)
    bodies = pack(deliveries(ids))
    with stage.database() as url, psycopg.connect(url, autocommit=True) as connection:
        rows = stage.folder / "rows.tsv"
        now = datetime.now(UTC).isoformat()
        rows.write_text("\n".join(f"{user_id}\t{now}" for user_id in ids))
        rows.chmod(0o644)
        environ = stage.environ(url)
        stage.processes.run("recipe's table", [sys.executable, "-c", RECIPE_TABLE], env=environ)
        with stage.worker(environ), stage.process("recipe", recipe_worker(), environ):

            def bare(commit: str) -> float:
                _reset(connection, "inbox, news, users")
                return _EVENTS / float(stage.ask("bare", "bench.bare", str(rows), commit, environ=environ))

            numbers = alternate(
                _ROUNDS,
                ours=lambda: drained(stage, connection, bodies, _EVENTS, empty="inbox, news, users"),
                bare=lambda: bare("off"),
                bare_waiting_for_the_disk=lambda: bare("on"),
                recipe=lambda: _recipe_round(stage, connection, ids),
            )
    results.figures["drain_vs_bare"] = ratio(numbers["ours"], numbers["bare"])
    results.figures["drain_vs_recipe"] = ratio(numbers["ours"], numbers["recipe"])
    for name, measured in numbers.items():
        results.note(f"drain, {name}", rates(measured) + " events")


def large_table(stage: Stage, results: Results) -> None:
    """Measure `drain_1m_vs_10k`: logins of users who are there already, each wave of 10,000 different ones."""
    with stage.database() as many, stage.database() as few:
        rng = random.Random(7)  # noqa: S311 the same waves each time
        connections, bodies = {}, {}
        for name, url, users in (("many", many, _MANY), ("few", few, _FEW)):
            connection = connections[name] = psycopg.connect(url, autocommit=True)
            connection.execute(
                f"INSERT INTO users (user_id) SELECT {USER_ID_SQL} FROM generate_series(1, {users}::bigint) n"  # noqa: S608 ours
            )
            connection.execute("VACUUM ANALYZE users")
            waves = [rng.sample(range(1, users + 1), _FEW) for _ in range(_WAVES)]
            bodies[name] = pack(deliveries([numbered_id(number) for number in itertools.chain(*waves)]))

        def run(name: str, url: str) -> Callable[[], float]:
            def measure() -> float:
                with stage.worker(stage.environ(url)):
                    # One round warms the worker and the cache, the next counts.
                    drained(stage, connections[name], bodies[name][:50], 1)
                    return drained(stage, connections[name], bodies[name], _FEW * _WAVES)

            return measure

        numbers = alternate(_ROUNDS, many=run("many", many), few=run("few", few))
        for connection in connections.values():
            connection.close()
    results.figures["drain_1m_vs_10k"] = ratio(numbers["many"], numbers["few"])
    results.note("drain, 1,000,000 users", rates(numbers["many"]) + " events")
    results.note("drain, 10,000 users", rates(numbers["few"]) + " events")


def drained(
    stage: Stage, connection: psycopg.Connection, bodies: Packed, events: int, *, empty: str = "inbox, news"
) -> float:
    """Fill the inbox, ring, and return the events/s from the ring to the last commit."""
    _reset(connection, empty)
    fill_inbox(connection, bodies)
    connection.execute("CHECKPOINT")
    begun = time.perf_counter()
    ring(stage)
    wait(stage, lambda: _value(connection, "SELECT EXISTS (SELECT FROM inbox WHERE state = 'pending')") is False)
    return events / (time.perf_counter() - begun)


def ring(stage: Stage, task: str = "drain") -> None:
    """Ring for a task of the worker's, as the web process and beat do."""
    with Celery("bench", broker=stage.servers.redis.url, set_as_current=False) as app:
        app.send_task(f"worker.tasks.{task}", queue="understudy", ignore_result=True)


def recipe_worker(children: int = 1) -> list[str]:
    """Return the recipe's worker as a command, with as many children as ours."""
    options = [
        "--concurrency",
        str(children),
        "--without-gossip",
        "--without-mingle",
        "--without-heartbeat",
        "--loglevel",
        "warning",
    ]
    return [sys.executable, "-m", "celery", "-A", "bench.recipe", "worker", *options]


def wait(stage: Stage, done: Callable[[], bool], patience: float = _PATIENCE) -> None:
    """Look every 10 ms until `done`."""
    deadline = time.perf_counter() + patience
    while not done():
        stage.processes.check()
        if time.perf_counter() > deadline:
            raise SystemExit("bench: waited in vain for a worker")
        time.sleep(0.01)


def _recipe_round(stage: Stage, connection: psycopg.Connection, ids: Iterable[str]) -> float:
    """Queue the tasks while the worker is frozen by an empty table's lock, let go, and return the events/s."""
    from bench.recipe import publish  # noqa: PLC0415 it reads the environment

    some = list(itertools.islice(ids, _RECIPE_EVENTS))
    _reset(connection, "recipe_users")
    connection.execute("CHECKPOINT")
    with connection.transaction():
        connection.execute("LOCK TABLE recipe_users IN ACCESS EXCLUSIVE MODE")
        with Celery("recipe", broker=stage.servers.redis.url, set_as_current=False) as app:
            for body in deliveries(some, kinds=False):
                publish(app, body)
        begun = time.perf_counter()
    wait(stage, lambda: _value(connection, "SELECT count(*) FROM recipe_users") == _RECIPE_EVENTS)
    return _RECIPE_EVENTS / (time.perf_counter() - begun)


def _reset(connection: psycopg.Connection, tables: str) -> None:
    connection.execute(f"TRUNCATE {tables}")
    connection.execute("CHECKPOINT")


def _value(connection: psycopg.Connection, query: str) -> object:
    row = connection.execute(query).fetchone()
    return row[0] if row else None
