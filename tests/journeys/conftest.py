"""Servers of a journey's own: it may stop, kill and empty them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

import pytest

from local.children import Children
from local.servers import EmbeddedPostgres, EmbeddedRedis, embedded_postgres, embedded_redis
from tests.journeys.stage import Stage, on_stage


class OnStage(Protocol):
    def __call__(self, **how: Any) -> AbstractContextManager[Stage]: ...


@pytest.fixture
def play(children: Children, database_url: str, redis_url: str) -> OnStage:
    """Call it, in a `with`, for a tenant and the product on an empty database and Redis."""

    def begin(**how: Any) -> AbstractContextManager[Stage]:
        return on_stage(children, **{"database_url": database_url, "redis_url": redis_url, **how})

    return begin


@pytest.fixture
def own_redis(children: Children) -> Iterator[EmbeddedRedis]:
    with embedded_redis(children=children) as server:
        yield server


@pytest.fixture
def own_postgres(children: Children) -> Iterator[EmbeddedPostgres]:
    with embedded_postgres(children=children, fsync=False) as server:
        yield server
