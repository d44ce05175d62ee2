"""Log streams: filters, queues, and the pusher with Auth0's retry and pause rules."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from simulator import pii
from simulator.clock import Clock, iso
from simulator.faults import Fault, Faults
from simulator.log_categories import category_of
from simulator.logs import LogRecord
from simulator.stats import Stats


@dataclass
class Pace:
    """How streams deliver. Auth0 documents three attempts and seven days; the other numbers are guesses, all settable."""

    batch: int = 100
    concurrency: int = 4
    """Deliveries of one stream under way at once; a stream keeps the number it was created with."""
    linger: float = 0.05
    """Seconds that a stream waits for company of a lone record."""
    attempts: int = 3
    retry_delay: float = 0.25
    cycle_delay: float = 1.0
    """Seconds between a failed cycle of attempts and the next one."""
    timeout: float = 5.0
    pause_after: float = 7 * 86_400
    """Seconds of failing without a success after which a stream pauses itself."""


@dataclass
class LogStream:
    """One stream: its configuration as the API shows it, and what it still has to deliver."""

    id: str
    name: str
    sink: dict[str, Any]
    status: str = "active"
    filters: list[dict[str, str]] = field(default_factory=list)
    pii_config: dict[str, Any] | None = None
    is_priority: bool = False
    pending: deque[LogRecord] = field(default_factory=deque, repr=False)
    in_flight: int = 0
    failing_since: float | None = None
    errors: deque[dict[str, str]] = field(default_factory=lambda: deque(maxlen=10))
    wake: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """As the Management API answers it."""
        shown = {
            "id": self.id,
            "name": self.name,
            "type": "http",
            "status": self.status,
            "sink": self.sink,
            "filters": self.filters,
            "isPriority": self.is_priority,
        }
        return {**shown, "pii_config": self.pii_config} if self.pii_config else shown

    def wants(self, record: LogRecord) -> bool:
        return not self.filters or any(f.get("name") == category_of(record.type) for f in self.filters)

    @property
    def ready(self) -> bool:
        return self.status == "active" and len(self.pending) > 0

    @property
    def left(self) -> int:
        """Count the records not yet accepted."""
        return len(self.pending) + self.in_flight


class LogStreams:
    """The tenant's streams and the tasks that push them."""

    def __init__(self, clock: Clock, rng: random.Random, faults: Faults, stats: Stats) -> None:
        self.pace = Pace()
        self._clock = clock
        self._rng = rng
        self._faults = faults
        self._stats = stats
        self._streams: dict[str, LogStream] = {}
        self._pushers: dict[str, list[asyncio.Task[None]]] = {}
        self._settled = asyncio.Event()
        self._http: httpx.AsyncClient | None = None

    def __iter__(self) -> Iterator[LogStream]:
        return iter(self._streams.values())

    def get(self, stream_id: str) -> LogStream | None:
        return self._streams.get(stream_id)

    def create(self, name: str, sink: dict[str, Any], **settings: Any) -> LogStream:
        """Add a stream and start to push it. Needs a running event loop."""
        stream = LogStream(f"lst_{self._rng.randrange(10**16):016d}", name, sink, **settings)
        self._streams[stream.id] = stream
        self._pushers[stream.id] = [asyncio.create_task(self._push(stream)) for _ in range(self.pace.concurrency)]
        return stream

    def delete(self, stream_id: str) -> None:
        """Take a stream away with all it had still to deliver."""
        self._streams.pop(stream_id, None)
        for task in self._pushers.pop(stream_id, []):
            task.cancel()
        self._settle()

    def set_status(self, stream: LogStream, status: str) -> None:
        """Pause or resume; what came meanwhile was queued and is delivered on resume."""
        stream.status = status
        if status == "active":
            stream.failing_since = None
            stream.wake.set()

    def offer(self, record: LogRecord) -> None:
        for stream in self._streams.values():
            if stream.wants(record):
                stream.pending.append(record)
                stream.wake.set()
                self._settled.clear()

    def left(self) -> int:
        return sum(stream.left for stream in self._streams.values())

    def _settle(self) -> None:
        if self.left():
            self._settled.clear()
        else:
            self._settled.set()

    async def drain(self, seconds: float) -> int:
        """Wait up to `seconds` until nothing is left; answers how many records are."""
        self._settle()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._settled.wait(), seconds)
        return self.left()

    async def close(self) -> None:
        for stream_id in list(self._streams):
            self.delete(stream_id)
        if self._http is not None:
            await self._http.aclose()

    async def _push(self, stream: LogStream) -> None:
        """One of a stream's concurrent pushers: take a batch, deliver it, or put it back for the next cycle."""
        while True:
            batch = await self._next_batch(stream)
            try:
                delivered = await self._deliver(stream, batch)
            except BaseException:
                stream.pending.extendleft(reversed(batch))
                raise
            finally:
                stream.in_flight -= len(batch)
            if delivered:
                stream.failing_since = None
                self._settle()
            else:
                stream.pending.extendleft(reversed(batch))
                self._note_failing(stream)
                await asyncio.sleep(self.pace.cycle_delay)
            if 0 < len(stream.pending) < self.pace.batch:
                await asyncio.sleep(self.pace.linger)

    async def _next_batch(self, stream: LogStream) -> list[LogRecord]:
        while not stream.ready:
            stream.wake.clear()
            await stream.wake.wait()
            if len(stream.pending) < self.pace.batch:
                await asyncio.sleep(self.pace.linger)
        batch = [stream.pending.popleft() for _ in range(min(self.pace.batch, len(stream.pending)))]
        stream.in_flight += len(batch)
        return batch

    async def _deliver(self, stream: LogStream, batch: list[LogRecord]) -> bool:
        """Up to three attempts. True when one was answered with 2xx."""
        for attempt in range(self.pace.attempts):
            if attempt:
                await asyncio.sleep(self.pace.retry_delay * attempt)
            if stream.status != "active":
                return False
            self._stats.deliveries["attempted"] += 1
            problem = await self._attempt(stream, batch)
            if problem is None:
                self._stats.deliveries["accepted"] += 1
                self._stats.deliveries["records"] += len(batch)
                return True
            self._stats.deliveries["failed"] += 1
            stream.errors.append({"date": iso(self._clock()), "reason": problem})
        return False

    async def _attempt(self, stream: LogStream, batch: list[LogRecord]) -> str | None:
        """One POST; answers what went wrong, or None."""
        struck = self._faults.strike("stream", "POST", str(stream.sink["httpEndpoint"]))
        kinds = {fault.kind for fault in struck}
        if "drop" in kinds:
            return "connection dropped before sending"
        if "reorder" in kinds:
            batch = self._rng.sample(batch, len(batch))
        body = body_of(stream, batch, mask_all="mask_pii" in kinds)
        await _wait(struck, "delay")
        if "duplicate" in kinds:
            await self._post(stream, body)
        problem = await self._post(stream, body)
        if "hang" in kinds:
            await _wait(struck, "hang")
            return "no answer in time"
        refused = next((fault for fault in struck if fault.kind in {"status", "html"}), None)
        return f"answered {refused.status}" if refused is not None else problem

    async def _post(self, stream: LogStream, body: bytes) -> str | None:
        try:
            answer = await self._client().post(
                stream.sink["httpEndpoint"], content=body, headers=headers_of(stream), timeout=self.pace.timeout
            )
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            return type(error).__name__
        return None if answer.is_success else f"answered {answer.status_code}"

    def _note_failing(self, stream: LogStream) -> None:
        now = self._clock()
        stream.failing_since = stream.failing_since or now
        if now - stream.failing_since >= self.pace.pause_after:
            stream.status = "paused"

    def _client(self) -> httpx.AsyncClient:
        if self._http is None:
            self._http = httpx.AsyncClient(trust_env=False, limits=httpx.Limits(max_connections=64))
        return self._http


def headers_of(stream: LogStream) -> dict[str, str]:
    """Exactly what the customer configured: the token has no `Bearer `, the content type need not be true."""
    sink = stream.sink
    custom = {h["header"]: h["value"] for h in sink.get("httpCustomHeaders") or ()}
    authorization = {"Authorization": sink["httpAuthorization"]} if sink.get("httpAuthorization") else {}
    return {**custom, **authorization, "Content-Type": sink.get("httpContentType") or "application/json"}


def body_of(stream: LogStream, batch: list[LogRecord], *, mask_all: bool = False) -> bytes:
    """Write the records in the stream's format: JSON lines, an array, or `{"logs": […]}`."""
    config = pii.MASK_ALL if mask_all else stream.pii_config
    parts = [pii.masked(record, config).wrapped() if config else record.wrapped() for record in batch]
    wanted = stream.sink.get("httpContentFormat") or "JSONLINES"
    if wanted == "JSONLINES":
        return b"\n".join(parts)
    array = b"[" + b",".join(parts) + b"]"
    return b'{"logs":' + array + b"}" if wanted == "JSONOBJECT" else array


async def _wait(struck: list[Fault], kind: str) -> None:
    for fault in struck:
        if fault.kind == kind:
            await asyncio.sleep(fault.seconds or 1)
