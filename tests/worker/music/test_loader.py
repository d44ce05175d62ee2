"""Lookups that come at the same moment are one query, and none of them reads what was true before it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from worker.errors import DatabaseDown
from worker.music.loader import AT_ONCE, MOST_KEYS, Loader


class Source:
    """Answers `{key: key * 10}`, each query when it is let go on; `queries` are the keys of each."""

    def __init__(self) -> None:
        self.queries: list[list[int]] = []
        self.gates: list[asyncio.Future[None]] = []

    async def fetch(self, keys: Sequence[int]) -> dict[int, int]:
        self.queries.append(list(keys))
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.gates.append(gate)
        await gate
        return {key: key * 10 for key in keys if key >= 0}


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_lookups_at_the_same_moment_are_one_query() -> None:
    async def look() -> None:
        source = Source()
        loader = Loader(source.fetch)
        asked = asyncio.gather(*(loader(key) for key in (1, 2, 3, 2, -1)))
        await turns()
        assert source.queries == [[1, 2, 3, -1]]
        source.gates[0].set_result(None)
        assert await asked == [10, 20, 30, 20, None]

    asyncio.run(look())


def test_what_comes_while_queries_are_under_way_waits_for_the_next() -> None:
    async def look() -> None:
        source = Source()
        loader = Loader(source.fetch)
        asked = []
        for key in range(AT_ONCE + 3):
            asked.append(asyncio.ensure_future(loader(key)))
            await turns()
        assert source.queries == [[key] for key in range(AT_ONCE)]
        source.gates[0].set_result(None)
        await turns()
        assert source.queries[AT_ONCE] == list(range(AT_ONCE, AT_ONCE + 3))
        for gate in source.gates[1:]:
            gate.set_result(None)
        assert await asyncio.gather(*asked) == [key * 10 for key in range(AT_ONCE + 3)]

    asyncio.run(look())


def test_a_key_that_is_being_looked_up_is_looked_up_again_for_who_asks_later() -> None:
    async def look() -> None:
        source = Source()
        loader = Loader(source.fetch)
        first = asyncio.ensure_future(loader(1))
        await turns()
        second = asyncio.ensure_future(loader(1))
        await turns()
        assert source.queries == [[1], [1]]
        for gate in source.gates:
            gate.set_result(None)
        assert (await first, await second) == (10, 10)

    asyncio.run(look())


def test_a_query_that_fails_fails_all_that_wait() -> None:
    async def look() -> None:
        source = Source()
        loader = Loader(source.fetch)
        asked = []
        for key in range(AT_ONCE + 1):
            asked.append(asyncio.ensure_future(loader(key)))
            await turns()
        source.gates[0].set_exception(DatabaseDown("away"))
        await turns()
        assert [answer.done() for answer in asked] == [True, *[False] * (AT_ONCE - 1), True]
        for answer in (asked[0], asked[-1]):
            with pytest.raises(DatabaseDown):
                await answer
        again = asyncio.ensure_future(loader(7))
        await turns()
        for gate in source.gates[1:]:
            gate.set_result(None)
        assert await again == 70

    asyncio.run(look())


def test_who_goes_away_takes_nobody_with_them() -> None:
    async def look() -> None:
        source = Source()
        loader = Loader(source.fetch)
        leaves, stays = asyncio.ensure_future(loader(1)), asyncio.ensure_future(loader(1))
        await turns()
        leaves.cancel()
        source.gates[0].set_result(None)
        assert await stays == 10

    asyncio.run(look())


def test_a_query_has_a_bounded_number_of_keys() -> None:
    async def look() -> None:
        source = Source()
        loader = Loader(source.fetch)
        asked = asyncio.gather(*(loader(key) for key in range(MOST_KEYS + 1)))
        await turns()
        source.gates[0].set_result(None)
        await turns()
        assert [len(keys) for keys in source.queries] == [MOST_KEYS, 1]
        source.gates[1].set_result(None)
        assert len(await asked) == MOST_KEYS + 1

    asyncio.run(look())
