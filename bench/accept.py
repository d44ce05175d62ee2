"""How fast the web process accepts deliveries: against an endpoint that does nothing, and against the recipe's."""

import json
import statistics
from collections.abc import Callable
from functools import partial

import psycopg

from bench.bodies import deliveries, new_ids
from bench.figures import Results, alternate, rates, ratio
from bench.load import write_bodies
from bench.stage import TOKEN, Stage

_CONNECTIONS = 16
_SECONDS = 2.0
_ROUNDS = 5


def accept(stage: Stage, results: Results) -> None:
    """Measure `accept_vs_noop`, `accept_vs_recipe` and `accept_one_vs_noop`: each web process in turn takes the whole machine."""
    with stage.database() as url, psycopg.connect(url, autocommit=True) as connection:
        environ = stage.environ(url)
        with (
            stage.web(environ) as ours,
            stage.web(environ, "bench.noop:asgi", "no-op") as noop,
            stage.web(environ, "bench.recipe:asgi", "recipe") as recipe,
        ):
            hundred, one = stage.folder / "hundred", stage.folder / "one"
            write_bodies(hundred, deliveries(new_ids(10_000)))
            write_bodies(one, deliveries(new_ids(2_000), size=1))

            def rate(port: int, bodies: str) -> float:
                connection.execute("TRUNCATE inbox")
                connection.execute("CHECKPOINT")
                stage.servers.redis.flush()
                said = send(stage, port, bodies, seconds=_SECONDS)
                return float(said["accepted"] / said["seconds"])

            peers: dict[str, Callable[[], float]] = {
                "ours": partial(rate, ours, str(hundred)),
                "noop": partial(rate, noop, str(hundred)),
                "recipe": partial(rate, recipe, str(hundred)),
            }
            for warm_up in peers.values():
                warm_up()
            numbers = alternate(_ROUNDS, **peers)
            ones = alternate(_ROUNDS, ours=partial(rate, ours, str(one)), noop=partial(rate, noop, str(one)))
    results.figures["accept_vs_noop"] = ratio(numbers["ours"], numbers["noop"])
    results.figures["accept_vs_recipe"] = ratio(numbers["ours"], numbers["recipe"])
    results.figures["accept_one_vs_noop"] = ratio(ones["ours"], ones["noop"])
    for name, measured in numbers.items():
        results.note(
            f"accept 100 events, {name}",
            f"{rates(measured)} deliveries, {statistics.median(measured) * 100:,.0f} events/s",
        )
    for name, measured in ones.items():
        results.note(f"accept 1 event, {name}", f"{rates(measured)} deliveries")


def send(stage: Stage, port: int, bodies: str, *, seconds: float, rate: float | None = None) -> dict[str, float]:
    """Run the load generator and return its answer; every delivery must be accepted."""
    plan = stage.folder / "plan.json"
    asked = {
        "port": port,
        "token": TOKEN,
        "connections": _CONNECTIONS,
        "seconds": seconds,
        "bodies": bodies,
        "rate": rate,
    }
    plan.write_text(json.dumps(asked))
    plan.chmod(0o644)
    said: dict[str, float] = json.loads(stage.ask("load", "bench.load", str(plan), environ={}))
    if said["refused"]:
        raise SystemExit(f"bench: {said['refused']} deliveries were refused")
    return said
