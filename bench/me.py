"""How fast people are shown themselves: GET /me with real access tokens, against a route that answers the same bytes and asks for nothing."""

import json

import httpx

from bench.calls import copy_users
from bench.figures import Results, alternate, rates, ratio
from bench.load import write_bodies
from bench.stage import TOKEN, Stage
from local.product import environment
from local.simulated_tenant import SimulatedTenant

_AUDIENCE = "https://api.music.example/"
_PEOPLE = 1_000
_CONNECTIONS = 32
_SECONDS = 2.0
_ROUNDS = 5


def me(stage: Stage, results: Results) -> None:
    """Measure `me_vs_noop`: a thousand people, each with an RS256 token of their own, over 32 connections."""
    tenant = SimulatedTenant.start(stage.processes, stage.folder)
    tenant.control("POST", "users/load", {"count": _PEOPLE})
    people = [user["user_id"] for user in tenant.truth()]
    tokens = tenant.control("POST", "tokens", {"user_ids": people, "audience": _AUDIENCE})["access_tokens"]
    with stage.database({"AUTH0_DOMAIN": tenant.domain}) as url:
        copy_users(tenant, url)
        base = environment(tenant, database_url=url, redis_url=stage.servers.redis.url, token=TOKEN)
        ours_environ = stage.environ(url, {**base, "AUTH0_AUDIENCE": _AUDIENCE})
        requests, answer = stage.folder / "requests", stage.folder / "answer"
        write_bodies(requests, (_request(token) for token in tokens))
        with stage.web(ours_environ) as ours:
            shown = httpx.get(
                f"http://127.0.0.1:{ours}/me", headers={"Authorization": f"Bearer {tokens[0]}"}, trust_env=False
            ).raise_for_status()
            answer.write_bytes(shown.content)
            answer.chmod(0o644)
            with stage.web({**ours_environ, "BENCH_ANSWER": str(answer)}, "bench.noop:asgi", "no-op") as noop:
                for port in (ours, noop):
                    _rate(stage, port, str(requests))
                numbers = alternate(
                    _ROUNDS,
                    ours=lambda: _rate(stage, ours, str(requests)),
                    noop=lambda: _rate(stage, noop, str(requests)),
                )
    tenant.process.stop()
    results.figures["me_vs_noop"] = ratio(numbers["ours"], numbers["noop"])
    for name, measured in numbers.items():
        results.note(f"GET /me, {len(shown.content)} bytes, {name}", rates(measured))


def _request(token: str) -> bytes:
    return f"GET /me HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\nAccept: */*\r\n\r\n".encode()


def _rate(stage: Stage, port: int, requests: str) -> float:
    plan = stage.folder / "plan.json"
    asked = {"port": port, "connections": _CONNECTIONS, "seconds": _SECONDS, "bodies": requests, "status": 200}
    plan.write_text(json.dumps(asked))
    plan.chmod(0o644)
    said: dict[str, float] = json.loads(stage.ask("load", "bench.load", str(plan), environ={}))
    if said["refused"]:
        raise SystemExit(f"bench: {said['refused']} requests were refused")
    return float(said["accepted"] / said["seconds"])
