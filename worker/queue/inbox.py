"""Writes deliveries into the inbox: durable when `put` returns, many per commit when many wait."""

import asyncio
import contextlib
import re
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from typing import Any, Self

import psycopg
import zstandard

from worker.errors import DatabaseDown, Error, Transient
from worker.logs import describe, get_logger
from worker.settings import Settings

log = get_logger(__name__)

Connection = psycopg.AsyncConnection[Any]

# Connections, each with a batch of its own under way: while both are busy, what arrives waits for the next commit.
WRITERS = 2
# From `put` to DatabaseDown, in seconds: Auth0 hears 503 within 2.
DEADLINE = 1.8
# What may wait for a commit: more would be a queue, and queues belong into PostgreSQL or stay with Auth0.
MOST_BYTES, MOST_DELIVERIES = 64 * 1024 * 1024, 2000
# What one statement takes at most.
BATCH_BYTES, BATCH_DELIVERIES = 4 * 1024 * 1024, 500
# A body this large is compressed off the event loop: it would hold up everyone else for more than a millisecond.
LARGE = 256 * 1024
# Between attempts to connect, and between writes of the counters, in seconds.
RECONNECT, COUNT_EVERY = 0.2, 1.0

_INSERT = """
INSERT INTO inbox (source, state, encoding, size, body, error)
SELECT * FROM unnest(%b::text[], %b::text[], %b::text[], %b::int4[], %b::bytea[], %b::text[])
"""
_COUNT = """
INSERT INTO counters AS c (name, value, latest_at) SELECT name, value, now() FROM unnest(%b::text[], %b::int8[]) AS n (name, value)
ON CONFLICT (name) DO UPDATE SET value = c.value + excluded.value, latest_at = excluded.latest_at
"""

Row = tuple[str, str, str, int, bytes | None, str | None]


class Overloaded(Transient):
    """More deliveries wait for a commit than this process may hold."""


class _Delivery:
    """A row on its way; `stored` is done when it is committed, or will not be."""

    __slots__ = ("bytes", "deadline", "row", "stored")

    def __init__(self, row: Row, loop: asyncio.AbstractEventLoop) -> None:
        self.row = row
        self.bytes = len(row[4] or b"")
        self.stored: asyncio.Future[None] = loop.create_future()
        self.deadline = loop.time() + DEADLINE


class Inbox:
    """The web process's way into `inbox`, open inside `async with`, used from one event loop.

    `check` is awaited with each new connection before its first use; the Error it raises is what `put` raises then.
    """

    def __init__(self, settings: Settings, check: Callable[[Connection], Awaitable[None]]) -> None:
        self._url = re.sub(r"^postgresql\+psycopg:", "postgresql:", settings.database_url.get_secret_value())
        self._check = check
        self._compress = zstandard.ZstdCompressor(level=1).compress
        self._waiting: deque[_Delivery] = deque()
        self._under_way: set[_Delivery] = set()
        self._held_bytes = 0
        self._counts: Counter[str] = Counter()
        self._count_due = 0.0
        self._work = asyncio.Event()
        self._closing = False
        self._trouble: Error | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._tasks = [asyncio.create_task(self._write(), name=f"inbox-writer-{number}") for number in range(WRITERS)]
        self._tasks.append(asyncio.create_task(self._watch(), name="inbox-watch"))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Write what waits, the counters too, for as long as a delivery may take."""
        self._closing = True
        self._count_due = 0.0
        self._work.set()
        *writers, watch = self._tasks
        await asyncio.wait(writers, timeout=DEADLINE)
        for task in self._tasks:
            task.cancel()
        await asyncio.wait([watch])

    async def put(self, source: str, body: bytes, note: str | None = None) -> None:
        """Store one body and return when it is committed; `note` is kept in `error` for whoever looks at it later.

        Raises Overloaded at once, DatabaseDown within 2 s, or what `check` raised.
        """
        if len(body) < LARGE:
            packed = self._compress(body)
        else:
            # A compressor is not to be shared by threads.
            packed = await asyncio.to_thread(lambda: zstandard.ZstdCompressor(level=1).compress(body))
        if len(packed) < len(body):
            row: Row = (source, "pending", "zstd", len(body), packed, note)
        else:
            row = (source, "pending", "identity", len(body), body, note)
        await self._store(row)

    async def put_marker(self, source: str, size: int, error: str) -> None:
        """Store that a delivery of `size` bytes was too large to keep (P24), and count it."""
        await self._store((source, "parked", "identity", min(size, 2**31 - 1), None, error))
        self.count("oversize")

    def count(self, name: str) -> None:
        """Add 1 to a row of `counters`, written at most once a second."""
        self._counts[name] += 1
        self._work.set()

    async def _store(self, row: Row) -> None:
        delivery = _Delivery(row, self._loop)
        if self._held_bytes + delivery.bytes > MOST_BYTES or len(self._waiting) >= MOST_DELIVERIES:
            raise Overloaded("too many deliveries wait to be stored")
        self._waiting.append(delivery)
        self._held_bytes += delivery.bytes
        self._work.set()
        try:
            await delivery.stored
        finally:
            self._held_bytes -= delivery.bytes

    async def _write(self) -> None:
        connection: Connection | None = None
        while not (self._closing and not self._waiting and not self._counts):
            await self._work.wait()
            try:
                if connection is None:
                    connection = await self._connect()
                await self._write_waiting(connection)
                await self._write_counts(connection)
            except (psycopg.Error, OSError, TimeoutError, Error) as error:
                self._notice(error)
                if connection is not None:
                    await _discard(connection)
                connection = None
                await asyncio.sleep(RECONNECT)
            else:
                if not self._waiting and not self._closing:
                    self._work.clear()
        if connection is not None:
            await _discard(connection)

    async def _connect(self) -> Connection:
        async with asyncio.timeout(DEADLINE):
            connection = await psycopg.AsyncConnection.connect(
                self._url,
                autocommit=True,
                application_name="understudy-web",
                tcp_user_timeout=5000,
                prepare_threshold=0,
            )
        try:
            async with asyncio.timeout(DEADLINE):
                await self._check(connection)
        except BaseException:
            await _discard(connection)
            raise
        self._trouble = None
        return connection

    async def _write_waiting(self, connection: Connection) -> None:
        while batch := self._take():
            self._under_way.update(batch)
            try:
                await connection.execute(
                    _INSERT, tuple(list(column) for column in zip(*(delivery.row for delivery in batch), strict=True))
                )
            except BaseException:
                # Perhaps it was committed: then it is stored twice, which is harmless (P6).
                self._waiting.extendleft(reversed([delivery for delivery in batch if not delivery.stored.done()]))
                raise
            finally:
                self._under_way.difference_update(batch)
            for delivery in batch:
                if not delivery.stored.done():
                    delivery.stored.set_result(None)

    async def _write_counts(self, connection: Connection) -> None:
        if self._counts and self._loop.time() >= self._count_due:
            self._count_due = self._loop.time() + COUNT_EVERY
            counts, self._counts = self._counts, Counter()
            try:
                await connection.execute(_COUNT, (list(counts), list(counts.values())))
            except BaseException:
                self._counts += counts
                raise

    def _take(self) -> list[_Delivery]:
        batch: list[_Delivery] = []
        total = 0
        while self._waiting and len(batch) < BATCH_DELIVERIES and total < BATCH_BYTES:
            delivery = self._waiting.popleft()
            if not delivery.stored.done():
                batch.append(delivery)
                total += delivery.bytes
        return batch

    def _notice(self, error: BaseException) -> None:
        trouble = error if isinstance(error, Error) else DatabaseDown("PostgreSQL cannot be reached")
        if type(trouble) is not type(self._trouble):
            log.warning(
                "inbox_unavailable",
                reason=str(error) if isinstance(error, Error) else describe(error),
                waiting=len(self._waiting),
            )
        self._trouble = trouble

    async def _watch(self) -> None:
        """Give up on what waits too long; look once a second for counters that wait."""
        while True:
            await asyncio.sleep(0.1)
            now = self._loop.time()
            if self._counts:
                self._work.set()
            for delivery in (*self._under_way, *self._waiting):
                if delivery.deadline <= now and not delivery.stored.done():
                    delivery.stored.set_exception(self._trouble or DatabaseDown("PostgreSQL does not answer"))


async def _discard(connection: Connection) -> None:
    with contextlib.suppress(psycopg.Error, OSError, TimeoutError):
        await connection.close()
