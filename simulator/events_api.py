"""Management API: events to pull, as server-sent events (Consume Events with the Events API, Auth0 docs)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from simulator import cloud_events
from simulator.clock import iso
from simulator.cloud_events import TYPES, Event
from simulator.errors import ApiError, invalid_query
from simulator.event_streams_api import STREAMS_OF_PLAN
from simulator.events import number_of_offset, offset_of
from simulator.management import Answer, Call, Endpoint
from simulator.tenant import Tenant

_PATH = "/api/v2/events"
_BATCH = 100
_RETRY_AFTER_SECONDS = 5


class EventsApi:
    """Handler of `/api/v2/events`."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._open = 0

    def endpoints(self) -> list[Endpoint]:
        return [Endpoint("GET", _PATH, ("read:events",), self.subscribe)]

    def subscribe(self, call: Call) -> Answer:
        """From an offset, a time or now on, until the connection is cycled."""
        types = frozenset(value for name, value in call.pairs if name == "event_type") or TYPES
        if not types <= TYPES:
            raise invalid_query("No enum match on property event_type")
        place = self._start(call)
        self._tenant.events.after(place, 0)  # 410 when it is expired
        plan, limit = self._tenant.limits.plan, self._tenant.events.pull.connections
        if self._open >= (limit if limit is not None else STREAMS_OF_PLAN.get(plan, self._open + 1)):
            refusal = ApiError(429, "Too many open connections to the Events API", "too_many_requests")
            return Answer(refusal.body, 429, {"Retry-After": str(_RETRY_AFTER_SECONDS)})
        seconds = min(self._tenant.events.pull.cycle, call.claims["exp"] - self._tenant.clock())
        return Answer(response=_EventSource(self._messages(place, types, seconds)))

    def _start(self, call: Call) -> int:
        """Number of the event behind which to begin; `Last-Event-ID` wins over `from`."""
        offset, time = call.headers.get("last-event-id") or call.query.get("from"), call.query.get("from_timestamp")
        if "from" in call.query and time is not None:
            raise invalid_query("from and from_timestamp are mutually exclusive")
        events = self._tenant.events
        try:
            if offset is not None:
                number = number_of_offset(offset)
                if not 0 <= number <= events.newest:
                    raise ValueError(offset)
                return number
            if time is not None:
                return events.number_before(iso(datetime.fromisoformat(time).timestamp()))
        except ValueError:
            raise invalid_query("Invalid from or from_timestamp") from None
        return events.newest

    async def _messages(self, place: int, types: frozenset[str], seconds: float) -> AsyncIterator[bytes | None]:
        """Messages one by one; None asks for the connection to be cut."""
        events, bell, now = self._tenant.events, asyncio.Event(), asyncio.get_running_loop().time
        end, beat, comment = now() + seconds, now() + events.pull.heartbeat, now()
        events.bells.add(bell)
        self._open += 1
        try:
            yield b":connected\n\nretry: 2000\n\n"
            while now() < end and not events.closing:
                bell.clear()
                try:
                    batch = events.after(place, _BATCH)
                except ApiError as expired:
                    yield _error("cursor_expired", str(expired), place)
                    return
                for event in batch:
                    async for message in self._message(event, place, types):
                        yield message
                    place = event.number
                if now() >= beat:
                    async for message in self._spoiled(b": heartbeat\n\n" + _offset_only(place), place):
                        yield message
                    beat = now() + events.pull.heartbeat
                elif events.pull.comments is not None and now() >= comment:
                    yield b": still here\n\n"
                    comment = now() + events.pull.comments
                elif not batch:
                    await _either(bell, min(beat, end, comment if events.pull.comments is not None else end) - now())
        finally:
            self._open -= 1
            events.bells.discard(bell)

    async def _message(self, event: Event, place: int, types: frozenset[str]) -> AsyncIterator[bytes | None]:
        if event.type in types:
            told = {"offset": offset_of(event.number), "event": cloud_events.as_dict(event, self._tenant.name)}
            async for message in self._spoiled(_sse(event.type, event.number, told), place):
                yield message

    async def _spoiled(self, message: bytes, place: int) -> AsyncIterator[bytes | None]:
        """The message, or what the faults of this moment make of it; `place` is how far the reader had come before."""
        struck = {fault.kind: fault for fault in self._tenant.faults.strike("pull", "GET", _PATH)}
        if "delay" in struck:
            await asyncio.sleep(struck["delay"].seconds or 1)
        if "drop" in struck:
            yield None
        elif "error" in struck:
            yield _error(struck["error"].message or "processing_error", "A fault was set", place)
            yield b""
        elif "lose" not in struck:
            yield message
            if "duplicate" in struck:
                yield message


class _EventSource(Response):
    """Sends messages until there are none, the reader goes away, or one asks for the connection to be cut."""

    def __init__(self, messages: AsyncIterator[bytes | None]) -> None:
        super().__init__(media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        del self.headers["content-length"]
        self._messages = messages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        tasks = [asyncio.create_task(self._send(scope, send)), asyncio.create_task(_until_gone(receive))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, scope: Scope, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async with contextlib.aclosing(self._messages) as messages:  # type: ignore[type-var]
            async for message in messages:
                if message is None:
                    scope["extensions"]["simulator.transport"]["abort"]()
                    return
                if not message:
                    break
                await send({"type": "http.response.body", "body": message, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _either(bell: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(bell.wait(), max(0.0, seconds))


def _sse(kind: str, number: int, told: dict[str, Any]) -> bytes:
    return f"event: {kind}\nid: {offset_of(number)}\ndata: ".encode() + msgspec.json.encode(told) + b"\n\n"


def _offset_only(number: int) -> bytes:
    return _sse("offset-only", number, {"offset": offset_of(number)})


def _error(code: str, message: str, place: int) -> bytes:
    """Write the message after which the stream ends."""
    told = {"error": {"code": code, "message": message, "offset": offset_of(place)}}
    return b"event: error\ndata: " + msgspec.json.encode(told) + b"\n\n"
