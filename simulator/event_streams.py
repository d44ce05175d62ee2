"""Event streams and their pusher, with Auth0's attempts, lost events and disabling."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import httpx

from simulator import cloud_events
from simulator.clock import Clock, iso
from simulator.cloud_events import Event
from simulator.event_delivery import Delivery, EventPace, EventStream
from simulator.faults import Fault, Faults


@dataclass(frozen=True)
class _Problem:
    reason: str
    is_final: bool = False


class EventStreams:
    """The tenant's event streams and the tasks that push them."""

    def __init__(self, clock: Clock, rng: random.Random, faults: Faults, tenant: str) -> None:
        self.pace = EventPace()
        self.tenant = tenant
        self._clock = clock
        self._rng = rng
        self._faults = faults
        self._streams: dict[str, EventStream] = {}
        self._pushers: dict[str, list[asyncio.Task[None]]] = {}
        self._settled = asyncio.Event()
        self._http: httpx.AsyncClient | None = None

    def __iter__(self) -> Iterator[EventStream]:
        return iter(self._streams.values())

    def __len__(self) -> int:
        return len(self._streams)

    def get(self, stream_id: str) -> EventStream | None:
        return self._streams.get(stream_id)

    def create(self, name: str, subscriptions: tuple[str, ...], endpoint: str, authorization: dict[str, str], status: str) -> EventStream:  # fmt: skip
        """Add a stream and start to push it. Needs a running event loop."""
        now = iso(self._clock())
        letters = base64.b64encode(self._rng.randbytes(18), altchars=b"Aa").decode()
        stream = EventStream(f"est_{letters[:22]}", name, subscriptions, endpoint, authorization, now, now, status)
        self._streams[stream.id] = stream
        self._pushers[stream.id] = [asyncio.create_task(self._push(stream)) for _ in range(self.pace.concurrency)]
        return stream

    def delete(self, stream_id: str) -> None:
        """Take a stream away with all it had still to deliver and all that failed."""
        self._streams.pop(stream_id, None)
        for task in self._pushers.pop(stream_id, []):
            task.cancel()
        self._settle()

    def offer(self, event: Event) -> None:
        """Queue an event for whoever subscribed to it."""
        for stream in self._streams.values():
            if event.type in stream.subscriptions:
                self.queue(stream, Delivery(event))

    def queue(self, stream: EventStream, delivery: Delivery) -> None:
        if stream.status != "enabled" and not delivery.is_redelivery:
            self._miss(stream, delivery)
            return
        stream.pending.append(delivery)
        stream.wake.set()
        self._settled.clear()

    def redeliver(self, stream: EventStream, deliveries: list[Delivery]) -> None:
        """Try failed deliveries again, of a disabled stream too; each stays listed until it is accepted."""
        for delivery in deliveries:
            if not delivery.is_redelivery:  # else it is under way already
                delivery.is_redelivery, delivery.tries = True, 0
                delivery.attempts.append({"status": "retrying", "timestamp": iso(self._clock())})
                self.queue(stream, delivery)

    def set_status(self, stream: EventStream, status: str) -> None:
        """Enable or disable. What a disabled stream had still to deliver goes the way of what comes meanwhile."""
        stream.status = status
        stream.updated_at = iso(self._clock())
        if status == "enabled":
            stream.in_a_row = 0
            return
        left = [delivery for delivery in stream.pending if not delivery.is_redelivery]
        stream.pending = deque(delivery for delivery in stream.pending if delivery.is_redelivery)
        for delivery in left:
            self._miss(stream, delivery)
        self._settle()

    def left(self) -> int:
        return sum(stream.left for stream in self._streams.values())

    async def drain(self, seconds: float) -> int:
        """Wait up to `seconds` until nothing is left; answers how many deliveries are."""
        self._settle()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._settled.wait(), seconds)
        return self.left()

    async def close(self) -> None:
        for stream_id in list(self._streams):
            self.delete(stream_id)
        if self._http is not None:
            await self._http.aclose()

    def _settle(self) -> None:
        if self.left():
            self._settled.clear()
        else:
            self._settled.set()

    async def _push(self, stream: EventStream) -> None:
        """One of a stream's concurrent pushers: take a delivery, make one attempt, conclude."""
        while True:
            while not stream.pending:
                stream.wake.clear()
                await stream.wake.wait()
            delivery = stream.pending.popleft()
            stream.in_flight += 1
            try:
                await self._handle(stream, delivery)
            finally:
                stream.in_flight -= 1
            self._settle()

    async def _handle(self, stream: EventStream, delivery: Delivery) -> None:
        struck = {fault.kind: fault for fault in self._faults.strike("event", "POST", stream.endpoint)}
        if "lose" in struck:
            stream.lost += 1
            delivery.is_redelivery = False
            return
        if "reorder" in struck and not delivery.is_held:
            delivery.is_held = True
            self._later(stream, delivery, self._rng.uniform(0, struck["reorder"].seconds or 0.5))
            return
        started = self._clock()
        problem = await self._attempt(stream, delivery, struck)
        if problem is None:
            self._accept(stream, delivery)
            return
        milliseconds = (self._clock() - started) * 1000
        delivery.attempts.append(
            {"status": "failed", "error_message": problem.reason, "timestamp": iso(started), "duration": milliseconds}
        )
        delivery.tries += 1
        if problem.is_final or delivery.tries > len(self.pace.retry_delays):
            self._fail(stream, delivery)
        else:
            self._later(stream, delivery, self.pace.retry_delays[delivery.tries - 1] * self.pace.scale)

    def _later(self, stream: EventStream, delivery: Delivery, seconds: float) -> None:
        def queue() -> None:
            stream.waiting -= 1
            self.queue(stream, delivery)
            self._settle()

        stream.waiting += 1
        asyncio.get_running_loop().call_later(seconds, queue)

    def _accept(self, stream: EventStream, delivery: Delivery) -> None:
        stream.delivered += 1
        stream.in_a_row = 0
        stream.failed.pop(delivery.event.id, None)

    def _fail(self, stream: EventStream, delivery: Delivery) -> None:
        delivery.is_redelivery = False
        stream.failed[delivery.event.id] = delivery
        stream.failures += 1
        stream.in_a_row += 1
        too_many = stream.in_a_row >= self.pace.disable_after or len(stream.failed) >= self.pace.disable_at
        if too_many and stream.status == "enabled":
            self.set_status(stream, "disabled")

    def _miss(self, stream: EventStream, delivery: Delivery) -> None:
        """Let go of what a disabled stream does not deliver."""
        if self.pace.while_disabled == "failed":
            stream.failed[delivery.event.id] = delivery
            stream.failures += 1
        else:
            stream.lost += 1

    async def _attempt(self, stream: EventStream, delivery: Delivery, struck: dict[str, Fault]) -> _Problem | None:
        """One POST; answers what went wrong, or None."""
        if "drop" in struck:
            return _Problem("connection dropped before sending")
        if "delay" in struck:
            await asyncio.sleep(struck["delay"].seconds or 1)
        body = cloud_events.encoded(delivery.event, self.tenant, stream.id)
        if "duplicate" in struck:
            await self._post(stream, body)
        problem = await self._post(stream, body)
        if "hang" in struck:
            await asyncio.sleep(struck["hang"].seconds or 1)
            return _Problem("no answer in time")
        refused = struck.get("status") or struck.get("html")
        return _refusal(refused.status) if refused is not None else problem

    async def _post(self, stream: EventStream, body: bytes) -> _Problem | None:
        try:
            answer = await self._client().post(
                stream.endpoint, content=body, headers=stream.headers(), timeout=self.pace.timeout
            )
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            return _Problem(type(error).__name__)
        return None if answer.is_success else _refusal(answer.status_code)

    def _client(self) -> httpx.AsyncClient:
        if self._http is None:
            self._http = httpx.AsyncClient(trust_env=False, limits=httpx.Limits(max_connections=64))
        return self._http


def _refusal(status: int) -> _Problem:
    """A 4xx is final: the event is not tried again (Events Best Practices, Auth0 docs)."""
    return _Problem(f"answered {status}", is_final=400 <= status < 500)
