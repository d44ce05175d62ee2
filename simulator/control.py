"""The control plane, `/_sim/*`: drive people, set faults and limits, read the truth."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import datetime
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from simulator.access_control import AccessControl
from simulator.errors import ApiError
from simulator.feeds_control import FeedsControl
from simulator.live import Live, weights_with
from simulator.people import People
from simulator.tenant import Tenant
from simulator.users import User

_BREATH = 100
"""Acts between two turns of the event loop, so that the tenant answers while people are busy."""

Handler = Callable[[dict[str, Any]], Awaitable[Any]]


class Control:
    """Handlers of the control plane. Each takes the request's JSON (or query) and answers JSON."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._people = People(tenant)
        self._live = Live(self._people, tenant)

    def app(self) -> Starlette:
        table: list[tuple[str, str, Handler]] = [
            ("POST", "/_sim/people/signup", self.sign_up),
            ("POST", "/_sim/people/login", self.log_in),
            ("POST", "/_sim/people/burst", self.burst),
            ("POST", "/_sim/people/act", self.act),
            ("POST", "/_sim/people/live", self.live),
            ("POST", "/_sim/people/import", self.import_users),
            ("POST", "/_sim/users/load", self.load),
            ("POST", "/_sim/connections/delete", self.delete_connection),
            ("GET", "/_sim/truth", self.truth),
            ("GET", "/_sim/stats", self.stats),
            ("POST", "/_sim/stats/reset", self.reset_stats),
            ("GET", "/_sim/streams", self.streams),
            ("POST", "/_sim/streams/pause", self.pause),
            ("POST", "/_sim/streams/resume", self.resume),
            ("POST", "/_sim/streams/drain", self.drain),
            ("PUT", "/_sim/streams/pace", self.set_pace),
            ("GET", "/_sim/faults", self.faults),
            ("PUT", "/_sim/faults", self.set_faults),
            ("DELETE", "/_sim/faults", self.clear_faults),
            ("GET", "/_sim/limits", self.limits),
            ("PUT", "/_sim/limits", self.set_limits),
            ("POST", "/_sim/logs", self.inject_logs),
            *AccessControl(self._tenant).table(),
            *FeedsControl(self._tenant).table(),
        ]
        return Starlette(
            routes=[Route(path, _json_endpoint(handler), methods=[method]) for method, path, handler in table]
        )

    async def sign_up(self, asked: dict[str, Any]) -> Any:
        """`{count?, connection?, login?, profile?}` → `{user_ids}`."""
        made: list[str] = []
        for number in range(int(asked.get("count", 1))):
            await _breathe(number)
            user = self._people.sign_up(
                self._tenant.rng, asked.get("connection"), log_in=asked.get("login", True), profile=asked.get("profile")
            )
            made.append(user.user_id)
        return {"user_ids": made}

    async def log_in(self, asked: dict[str, Any]) -> Any:
        """`{user_ids}` or `{count}` → `{user_ids}` of those who are in: not of the blocked; a linked identity is its primary."""
        user_ids = asked.get("user_ids") or self._tenant.users.sample(self._tenant.rng, int(asked.get("count", 1)))
        inside: list[str] = []
        for number, user_id in enumerate(user_ids):
            await _breathe(number)
            user = self._people.log_in(user_id)
            if user.blocked is not True:
                inside.append(user.user_id)
        return {"user_ids": inside}

    async def burst(self, asked: dict[str, Any]) -> Any:
        """`{logins, users?, seconds?}`: logins of different users, spread evenly, or as fast as possible."""
        logins, seconds = int(asked["logins"]), float(asked.get("seconds") or 0)
        user_ids = self._tenant.users.sample(self._tenant.rng, int(asked.get("users") or logins))
        if not user_ids:
            raise ApiError(400, "There are no users")
        loop = asyncio.get_running_loop()
        start = loop.time()
        for number in range(logins):
            if seconds:
                await asyncio.sleep(max(0.0, start + seconds * number / logins - loop.time()))
            else:
                await _breathe(number)
            user_id = user_ids[number % len(user_ids)]
            if self._tenant.users.get(user_id) is not None:
                self._people.log_in(user_id)
        return {"logins": logins, "users": len(user_ids), "seconds": round(loop.time() - start, 3)}

    async def act(self, asked: dict[str, Any]) -> Any:
        """`{user_id?, act, …}`: one person does one thing; the rest of the keys say how."""
        act = self._people.acts.get(asked["act"])
        if act is None:
            raise ApiError(400, f"act is one of {', '.join(sorted(self._people.acts))}")
        user_id = asked.get("user_id") or next(iter(self._tenant.users.sample(self._tenant.rng, 1)), "")
        done = act(user_id, asked, self._tenant.rng)
        return {"user_id": done.user_id if isinstance(done, User) else user_id, "act": asked["act"]}

    async def live(self, asked: dict[str, Any]) -> Any:
        """`{actions, seed, weights?}`: a random mix of everything → `{acts: counts, refused: counts}`."""
        rng, weights = random.Random(asked.get("seed", 1)), weights_with(asked.get("weights"))
        done: Counter[str] = Counter()
        refused: Counter[str] = Counter()
        for number in range(int(asked["actions"])):
            await _breathe(number)
            act, carried_out = self._live.step(rng, weights)
            (done if carried_out else refused)[act] += 1
        return {"acts": done, "refused": refused}

    async def import_users(self, asked: dict[str, Any]) -> Any:
        """`{count}`: a bulk import, of which the log names nobody → `{user_ids}`."""
        return {
            "user_ids": [u.user_id for u in self._people.import_users(self._tenant.rng, int(asked.get("count", 1)))]
        }

    async def delete_connection(self, asked: dict[str, Any]) -> Any:
        """Delete `{connection}` and all its users → `{deleted}`."""
        return {"deleted": self._people.delete_connection(asked["connection"])}

    async def load(self, asked: dict[str, Any]) -> Any:
        """`{count, created_from?, created_to?}`: users that were always there, without logs and events."""
        count, span = int(asked["count"]), _span(asked)
        for start in range(0, count, 1000):
            await asyncio.sleep(0)
            self._people.load(self._tenant.rng, min(1000, count - start), span)
        return {"users": len(self._tenant.users)}

    async def truth(self, asked: dict[str, Any]) -> Any:
        """`cursor`, `limit` → all live users in pages, as `GET /api/v2/users/{id}` would answer each."""
        limit = int(asked.get("limit", 1000))
        users = self._tenant.users.after(str(asked.get("cursor", "")), limit)
        return {"users": users, "next": users[-1].user_id if len(users) == limit else None}

    async def stats(self, asked: dict[str, Any]) -> Any:  # noqa: ARG002 one signature for all handlers
        tenant = self._tenant
        pending = {stream.id: stream.left for stream in tenant.streams}
        return {"users": len(tenant.users), "pending": pending, **tenant.stats.as_dict()}

    async def reset_stats(self, asked: dict[str, Any]) -> Any:  # noqa: ARG002
        self._tenant.stats.reset()
        return {}

    async def streams(self, asked: dict[str, Any]) -> Any:  # noqa: ARG002
        return {"streams": [{**s.as_dict(), "pending": s.left, "errors": list(s.errors)} for s in self._tenant.streams]}

    async def pause(self, asked: dict[str, Any]) -> Any:
        return self._set_status(asked, str(asked.get("status", "paused")))

    async def resume(self, asked: dict[str, Any]) -> Any:
        return self._set_status(asked, "active")

    def _set_status(self, asked: dict[str, Any], status: str) -> Any:
        chosen = [s for s in self._tenant.streams if asked.get("id") in (None, s.id)]
        for stream in chosen:
            self._tenant.streams.set_status(stream, status)
        return {"streams": [stream.id for stream in chosen]}

    async def drain(self, asked: dict[str, Any]) -> Any:
        """`{seconds?}`: wait until every record is delivered → `{pending}` what is left."""
        return {"pending": await self._tenant.streams.drain(float(asked.get("seconds", 30)))}

    async def set_pace(self, asked: dict[str, Any]) -> Any:
        """Set any of Pace's fields: batch, linger, retry_delay, cycle_delay, timeout, pause_after."""
        self._tenant.streams.pace = msgspec.convert(
            {**asdict(self._tenant.streams.pace), **asked}, type(self._tenant.streams.pace)
        )
        return asdict(self._tenant.streams.pace)

    async def faults(self, asked: dict[str, Any]) -> Any:  # noqa: ARG002
        return {"faults": self._tenant.faults.as_list()}

    async def set_faults(self, asked: Any) -> Any:
        """Set a list of faults (or `{faults: [...]}`) in place of those that were set."""
        self._tenant.faults.set(asked["faults"] if isinstance(asked, dict) else asked)
        return {"faults": self._tenant.faults.as_list()}

    async def clear_faults(self, asked: dict[str, Any]) -> Any:  # noqa: ARG002
        self._tenant.faults.set([])
        return {"faults": []}

    async def limits(self, asked: dict[str, Any]) -> Any:  # noqa: ARG002
        tenant = self._tenant
        return {
            **tenant.limits.as_dict(),
            "per_page_max": tenant.search.per_page_max,
            "q_max": tenant.search.q_max,
            "search_timeout_probability": tenant.search.timeout_probability,
            "index_lag": tenant.index.lag,
            "log_skew": tenant.logs.skew,
        }

    async def set_limits(self, asked: dict[str, Any]) -> Any:
        """`plan` or `groups: {name: [burst, per_second]}`, and the numbers that GET shows."""
        tenant = self._tenant
        unknown = asked.keys() - (await self.limits({})).keys()
        if unknown:
            raise ValueError(f"no such limit: {', '.join(sorted(unknown))}")
        if "plan" in asked:
            tenant.limits.use_plan(asked["plan"])
        if "groups" in asked:
            tenant.limits.use_groups({name: (float(b), float(r)) for name, (b, r) in asked["groups"].items()})
        tenant.search.per_page_max = int(asked.get("per_page_max", tenant.search.per_page_max))
        tenant.search.q_max = int(asked.get("q_max", tenant.search.q_max))
        tenant.search.timeout_probability = float(
            asked.get("search_timeout_probability", tenant.search.timeout_probability)
        )
        tenant.index.lag = float(asked.get("index_lag", tenant.index.lag))
        tenant.logs.skew = float(asked.get("log_skew", tenant.logs.skew))
        return await self.limits({})

    async def inject_logs(self, asked: dict[str, Any]) -> Any:
        """Put raw `{records}` into the log and the streams → `{log_ids}`."""
        return {"log_ids": [self._tenant.logs.inject(record).log_id for record in asked["records"]]}


def _span(asked: dict[str, Any]) -> tuple[float, float] | None:
    """Read `created_from` and `created_to` (ISO 8601; the latter is the former unless given)."""
    if "created_from" not in asked:
        return None
    times = asked["created_from"], asked.get("created_to", asked["created_from"])
    return datetime.fromisoformat(times[0]).timestamp(), datetime.fromisoformat(times[1]).timestamp()


async def _breathe(number: int) -> None:
    if number % _BREATH == _BREATH - 1:
        await asyncio.sleep(0)


def _json_endpoint(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        raw = await request.body()
        try:
            asked = msgspec.json.decode(raw) if raw else dict(request.query_params)
            return _json(200, await handler(asked))
        except ApiError as error:
            return _json(error.status, error.body)
        except (KeyError, TypeError, ValueError) as error:
            return _json(
                400, {"statusCode": 400, "error": "Bad Request", "message": f"{type(error).__name__}: {error}"}
            )

    return endpoint


def _json(status: int, body: Any) -> Response:
    return Response(msgspec.json.encode(body), status, media_type="application/json")
