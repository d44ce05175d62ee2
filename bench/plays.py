"""How fast plays are accepted and counted: against an endpoint that updates the playlist's row at each request, spread and on one playlist."""

import json
import random
import threading
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from uuid import UUID

import psycopg

from bench.calls import copy_users
from bench.figures import Results, alternate, rates, ratio
from bench.load import write_bodies
from bench.stage import TOKEN, Stage
from local.product import environment
from local.simulated_tenant import SimulatedTenant

AUDIENCE = "https://api.music.example/"
_LISTENERS, _OWNERS, _PLAYLISTS = 1_000, 100, 1_000
_PLAYS = {"ours": 24_000, "row_update": 8_000}  # some three seconds of each
_CONNECTIONS = 256  # of a thousand listeners, at any moment
_ROUNDS = 3
_PATIENCE = 60.0  # seconds


def plays(stage: Stage, results: Results) -> None:
    """Measure `plays_vs_row_update` and `plays_vs_row_update_hot`: every play another, a thousand listeners, each with an RS256 token."""
    tenant = SimulatedTenant.start(stage.processes, stage.folder)
    tenant.control("POST", "users/load", {"count": _LISTENERS + _OWNERS})
    people = [user["user_id"] for user in tenant.truth()]
    listeners = people[_OWNERS:]
    tokens = tenant.control("POST", "tokens", {"user_ids": listeners, "audience": AUDIENCE})["access_tokens"]
    with stage.database({"AUTH0_DOMAIN": tenant.domain}) as url, psycopg.connect(url, autocommit=True) as connection:
        copy_users(tenant, url)
        owners = [people[number % _OWNERS] for number in range(_PLAYLISTS)]
        connection.execute("INSERT INTO playlists (user_id, name) SELECT unnest(%s::text[]), 'p'", (owners,))
        base = environment(tenant, database_url=url, redis_url=stage.servers.redis.url, token=TOKEN)
        # So large a cap that every play counts, and no tiers: what is pushed to Auth0 is not what is measured.
        more = {"AUTH0_AUDIENCE": AUDIENCE, "PLAYS_PER_LISTENER_PER_DAY": "1000000", "ROLE_TIERS": ""}
        environ = stage.environ(url, {**base, **more})
        with (
            stage.web(environ) as ours,
            stage.web(environ, "bench.row_update:asgi", "row update") as row_update,
            stage.worker(environ),
        ):
            ports = {"ours": ours, "row_update": row_update}
            for figure, playlists in (("plays_vs_row_update", _PLAYLISTS), ("plays_vs_row_update_hot", 1)):
                peers: dict[str, Callable[[], float]] = {
                    name: partial(_round, stage, connection, port, tokens, _PLAYS[name], playlists)
                    for name, port in ports.items()
                }
                for warm_up in peers.values():
                    warm_up()
                numbers = alternate(_ROUNDS, **peers)
                results.figures[figure] = ratio(numbers["ours"], numbers["row_update"])
                for name, measured in numbers.items():
                    results.note(f"plays on {playlists} playlists, {name}", f"{rates(measured)} accepted and counted")
    tenant.process.stop()


_numbers = count(1)
_rng = random.Random(7)  # noqa: S311 the same spread each time


def _round(
    stage: Stage, connection: psycopg.Connection, port: int, tokens: list[str], number: int, playlists: int
) -> float:
    """Send so many plays; return how many a second from the first request until the sums hold them all."""
    connection.execute("TRUNCATE inbox, plays, play_days, pushes")
    connection.execute("UPDATE playlists SET plays = 0")
    connection.execute("VACUUM playlists")
    connection.execute("CHECKPOINT")
    stage.servers.redis.flush()
    requests = stage.folder / "plays"
    write_bodies(requests, (request(_rng.choice(tokens), _rng.randint(1, playlists)) for _ in range(number)))
    said: dict[str, float] = {}
    sending = threading.Thread(target=lambda: said.update(send(stage, port, requests)))
    sending.start()
    deadline = time.time() + _PATIENCE
    while (counted := _counted(connection)) < number:
        if time.time() > deadline:
            raise SystemExit(f"bench: of {number} plays {counted} were counted in time")
        time.sleep(0.05)  # looking more often would cost what is to be measured
    ended = time.time()
    sending.join()
    if counted != number or said["refused"]:
        raise SystemExit(f"bench: of {number} plays {said['refused']} were refused and {counted} counted")
    return number / (ended - said["begun"])


def request(token: str, playlist: int) -> bytes:
    """Return a play of that playlist like no other."""
    body = b'{"play_id":"%s"}' % str(UUID(int=next(_numbers))).encode()
    head = f"POST /playlists/{playlist}/plays HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def send(stage: Stage, port: int, requests: Path) -> dict[str, float]:
    """Send each request of a file once; return what `bench.load` says of it."""
    plan = stage.folder / "plan.json"
    asked = {
        "port": port,
        "connections": _CONNECTIONS,
        "seconds": 0,
        "bodies": str(requests),
        "status": 202,
        "once": True,
    }
    plan.write_text(json.dumps(asked))
    plan.chmod(0o644)
    answer: dict[str, float] = json.loads(stage.ask("load", "bench.load", str(plan), environ={}))
    return answer


def _counted(connection: psycopg.Connection) -> int:
    row = connection.execute("SELECT sum(plays)::bigint FROM playlists").fetchone()
    return int(row[0]) if row else 0
