"""Writes deliveries into the inbox: durable when `put` returns, many per commit when many wait."""

import asyncio
import contextlib
import re
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from typing import Self

import psycopg
import zstandard

from worker.errors import DatabaseDown, Error, Permanent, Transient
from worker.logs import describe, get_logger
from worker.queue.batch import Connection, insert, prepare
from worker.settings import Settings

log = get_logger(__name__)

# Connections, each with a batch of its own under way: while they are busy, what arrives waits for the next commit. The
# second starts only for much (LARGE): one compresses while the other commits. Little waits for the first: fewer, larger
# batches cost a third less.
WRITERS = 2
# From `put` to DatabaseDown, in seconds: Auth0 hears 503 within 2.
DEADLINE = 1.8
# What may wait for a commit: more would be a queue, and queues belong into PostgreSQL or stay with Auth0.
MOST_BYTES, MOST_DELIVERIES = 64 * 1024 * 1024, 2000
# What one statement takes at most.
BATCH_BYTES, BATCH_DELIVERIES = 4 * 1024 * 1024, 500
# A body this large is compressed in a thread, with its batch: on two cores that is half again as many deliveries a second
# (measured). A smaller one is compressed as it arrives: sooner than a thread would begin, while the commit before it is under way.
LARGE = 16 * 1024
# Between attempts to connect, and between writes of the counters, in seconds.
RECONNECT, COUNT_EVERY = 0.2, 1.0

# No state of a row: what is written where there is nothing to keep.
_NOTHING = "nothing"

_COUNT = """
INSERT INTO counters AS c (name, value, latest_at) SELECT name, value, now() FROM unnest(%b::text[], %b::int8[]) AS n (name, value)
ON CONFLICT (name) DO UPDATE SET value = c.value + excluded.value, latest_at = excluded.latest_at
"""


class Overloaded(Transient):
    """More deliveries wait for a commit than this process may hold."""


class _Delivery:
    """A row on its way; `stored` is done when it is committed, or will not be."""

    __slots__ = ("body", "deadline", "error", "size", "source", "state", "stored")

    def __init__(
        self,
        source: str,
        body: bytes | None,
        error: str | None,
        loop: asyncio.AbstractEventLoop,
        *,
        state: str = "pending",
        size: int | None = None,
    ) -> None:
        self.source, self.body, self.error, self.state = source, body, error, state
        self.size = len(body or b"") if size is None else size
        self.stored: asyncio.Future[None] = loop.create_future()
        self.deadline = loop.time() + DEADLINE

    def like(self, other: "_Delivery") -> bool:
        """Whether both fit into one statement."""
        return (self.source, self.state, self.error) == (other.source, other.state, other.error)


class Inbox:
    """The web process's way into `inbox`, open inside `async with`, used from one event loop.

    `check` is awaited with each new connection before its first use; the Error it raises is what `put` raises then.
    """

    def __init__(self, settings: Settings, check: Callable[[Connection], Awaitable[None]]) -> None:
        self._url = re.sub(r"^postgresql\+psycopg:", "postgresql:", settings.database_url.get_secret_value())
        self._check = check
        self._waiting: deque[_Delivery] = deque()
        self._under_way: set[_Delivery] = set()
        self._held_bytes = self._waiting_bytes = 0
        self._compressor = zstandard.ZstdCompressor(level=1)
        self._counts: Counter[str] = Counter()
        self._count_due = 0.0
        self._work = asyncio.Event()
        self._closing = False
        self._trouble: Error | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._work.set()  # connect now: the first delivery need not wait for it
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

        Raises Overloaded or what `check` raised at once, DatabaseDown within 2 s.
        """
        delivery = _Delivery(source, body, note, self._loop)
        if delivery.size < LARGE:
            _compress(self._compressor, delivery)
        await self._store(delivery)

    async def put_marker(self, source: str, size: int, error: str) -> None:
        """Store that a delivery of `size` bytes was too large to keep (P24), and count it."""
        await self._store(_Delivery(source, None, error, self._loop, state="parked", size=min(size, 2**31 - 1)))
        self.count("oversize")

    async def put_nothing(self) -> None:
        """Have PostgreSQL take a statement that stores nothing: when this returns, a delivery would have been durable. Raises as `put` does."""
        await self._store(_Delivery("", None, None, self._loop, state=_NOTHING))

    def count(self, name: str) -> None:
        """Add 1 to a row of `counters`, written at most once a second."""
        self._counts[name] += 1
        self._work.set()

    async def _store(self, delivery: _Delivery) -> None:
        if isinstance(self._trouble, Permanent):
            raise _fresh(self._trouble)
        held = len(delivery.body or b"")
        if self._held_bytes + held > MOST_BYTES or len(self._waiting) >= MOST_DELIVERIES:
            raise Overloaded("too many deliveries wait to be stored")
        self._waiting.append(delivery)
        self._waiting_bytes += held
        self._held_bytes += held
        if not self._under_way or self._waiting_bytes >= LARGE:
            self._work.set()
        trouble: tuple[type[Error], tuple[object, ...]] | None = None
        try:
            await delivery.stored
        except Error as error:
            # The future holds the error, whose frames hold the body: a circle that would stay until the collector comes by.
            error.__traceback__ = None
            trouble = type(error), error.args
        finally:
            self._held_bytes -= held
        if trouble is not None:
            raise trouble[0](*trouble[1])

    async def _write(self) -> None:
        connection: Connection | None = None
        compressor = zstandard.ZstdCompressor(level=1)  # one each: it is not to be used by two threads at once
        while not (self._closing and not self._waiting and not self._counts):
            await self._work.wait()
            try:
                if connection is None:
                    connection = await self._connect()
                await self._write_waiting(connection, compressor)
                await self._write_counts(connection)
            except (psycopg.Error, OSError, TimeoutError, Error) as error:
                self._notice(error)
                if connection is None:
                    await asyncio.sleep(RECONNECT)
                else:
                    await _discard(connection)
                connection = None
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
                # A server that vanished while it owed an answer is noticed in ten seconds, not in the system's two hours.
                keepalives_idle=5,
                keepalives_interval=2,
                keepalives_count=3,
                tcp_user_timeout=5000,
                prepare_threshold=0,
            )
        try:
            async with asyncio.timeout(DEADLINE):
                await self._check(connection)
                await prepare(connection)
        except BaseException:
            await _discard(connection)
            raise
        if self._trouble is not None:
            log.info("inbox_available")
        self._trouble = None
        return connection

    async def _write_waiting(self, connection: Connection, compressor: zstandard.ZstdCompressor) -> None:
        while batch := self._take():
            self._under_way.update(batch)
            try:
                if large := [delivery for delivery in batch if delivery.body and delivery.size >= LARGE]:
                    await asyncio.to_thread(_compress, compressor, *large)
                first = batch[0]
                rows = [] if first.state == _NOTHING else batch
                sizes, bodies = [delivery.size for delivery in rows], [delivery.body for delivery in rows]
                await insert(connection, first.source, first.state, first.error, sizes, bodies)
            except BaseException:
                # Perhaps it was committed: then it is stored twice, which is harmless.
                self._give_back(batch)
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
        """Return the next batch: what waits, as long as it differs in nothing but the body."""
        batch: list[_Delivery] = []
        total = 0
        while self._waiting and len(batch) < BATCH_DELIVERIES and total < BATCH_BYTES:
            delivery = self._waiting[0]
            if batch and not delivery.like(batch[0]):
                break
            self._waiting.popleft()
            self._waiting_bytes -= len(delivery.body or b"")
            if not delivery.stored.done():
                batch.append(delivery)
                total += delivery.size
        return batch

    def _give_back(self, batch: list[_Delivery]) -> None:
        again = [delivery for delivery in batch if not delivery.stored.done()]
        self._waiting.extendleft(reversed(again))
        self._waiting_bytes += sum(len(delivery.body or b"") for delivery in again)

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
        """Give up on what waits too long; wake a writer for what a busy one did not come back for."""
        while True:
            await asyncio.sleep(0.1)
            now = self._loop.time()
            if self._counts or self._waiting:
                self._work.set()
            for delivery in (*self._under_way, *self._waiting):
                if delivery.deadline <= now and not delivery.stored.done():
                    trouble = self._trouble or DatabaseDown("PostgreSQL does not answer")
                    delivery.stored.set_exception(_fresh(trouble))
            # Nobody waits for these any longer, so nobody counts what they hold.
            while self._waiting and self._waiting[0].stored.done():
                self._waiting_bytes -= len(self._waiting.popleft().body or b"")


def _compress(compressor: zstandard.ZstdCompressor, *deliveries: _Delivery) -> None:
    """Compress the bodies where that makes them smaller; those that are compressed already stay as they are."""
    for delivery in deliveries:
        if delivery.body and len(delivery.body) == delivery.size:
            small = compressor.compress(delivery.body)
            if len(small) < delivery.size:
                delivery.body = small


def _fresh(error: Error) -> Error:
    """Return its like: one raised again and again would gather tracebacks."""
    return type(error)(*error.args)


async def _discard(connection: Connection) -> None:
    with contextlib.suppress(psycopg.Error, OSError, TimeoutError):
        await connection.close()
