"""Makes lookups that come at the same moment one query: no timer, the pause is the query before."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, TypeVar

from worker.music.database import Overloaded

K = TypeVar("K")
V = TypeVar("V")

# Queries under way at once. While they are, what arrives waits for the next.
AT_ONCE = 2
# Keys of one query, and those that may wait.
MOST_KEYS, MOST_WAITING = 500, 5000


class Loader(Generic[K, V]):
    """`await loader(key)` returns what `fetch` says of it, None where it says nothing.

    A key is looked up by a query that begins after it was asked for, so whoever has just written reads what he wrote.
    When a query fails, so does all that waits for the next one: nobody waits for longer than one query may take.
    """

    def __init__(self, fetch: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]]) -> None:
        self._fetch = fetch
        self._waiting: dict[K, list[asyncio.Future[V | None]]] = {}
        self._under_way: set[asyncio.Task[None]] = set()
        self._begins = False

    async def __call__(self, key: K) -> V | None:
        """Raises Overloaded, and what `fetch` raises."""
        asking = self._waiting.get(key)
        if asking is None:
            if len(self._waiting) >= MOST_WAITING:
                raise Overloaded("too many requests wait for PostgreSQL")
            asking = self._waiting[key] = []
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[V | None] = loop.create_future()
        asking.append(answer)
        if not self._begins and len(self._under_way) < AT_ONCE:
            self._begins = True
            loop.call_soon(self._begin)  # after all that this turn of the event loop brings
        return await answer

    def _begin(self) -> None:
        self._begins = False
        if not self._waiting:
            return
        batch, self._waiting = self._waiting, {}
        if len(batch) > MOST_KEYS:
            keys = list(batch)
            self._waiting = {key: batch[key] for key in keys[MOST_KEYS:]}
            batch = {key: batch[key] for key in keys[:MOST_KEYS]}
        task = asyncio.get_running_loop().create_task(self._answer(batch))
        self._under_way.add(task)
        task.add_done_callback(self._ended)

    async def _answer(self, batch: dict[K, list[asyncio.Future[V | None]]]) -> None:
        try:
            found = await self._fetch(list(batch))
        except Exception as error:  # noqa: BLE001 whatever it is, it is answered to those who asked
            failed, self._waiting = [*batch.values(), *self._waiting.values()], {}
            for asking in failed:
                for answer in asking:
                    if not answer.done():
                        answer.set_exception(type(error)(*error.args))
            return
        for key, asking in batch.items():
            value = found.get(key)
            for answer in asking:
                if not answer.done():
                    answer.set_result(value)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if self._waiting and not self._begins:
            self._begin()
