"""Web processes to speak to, and servers of a module's own to stop, freeze and start."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Protocol

import pytest

from local.children import Children
from local.servers import EmbeddedPostgres, EmbeddedRedis, Redis, embedded_postgres, embedded_redis
from tests.api.listeners import MusicApp, music_app
from tests.api.web import Web, environment, running
from tests.conftest import migrate


class StartWeb(Protocol):
    def __call__(self, database_url: str, redis_url: str, **settings: str) -> Web: ...


@pytest.fixture
def start_web(children: Children) -> Iterator[StartWeb]:
    """Call it for a web process of the test's own; keywords are further settings."""
    with ExitStack() as stack:

        def start(database_url: str, redis_url: str, **settings: str) -> Web:
            return stack.enter_context(running(children, environment(database_url, redis_url, **settings)))

        yield start


@pytest.fixture(scope="module")
def module_web(children: Children, module_database_url: str, redis_server: Redis) -> Iterator[Web]:
    redis_server.flush()
    with running(children, environment(module_database_url, redis_server.url)) as web:
        yield web


@pytest.fixture
def web(module_web: Web) -> Web:
    """The module's web process, with an empty inbox."""
    module_web.empty()
    return module_web


@pytest.fixture(scope="module")
def own_redis(children: Children) -> Iterator[EmbeddedRedis]:
    with embedded_redis(children=children) as server:
        yield server


@pytest.fixture(scope="module")
def own_postgres(children: Children) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL that the module's tests may stop, with the tables in its URL's database; they leave it running."""
    with embedded_postgres(children=children, fsync=False) as server:
        migrate(server.url)
        yield server


@pytest.fixture(scope="module")
def module_music(
    children: Children, tmp_path_factory: pytest.TempPathFactory, module_database_url: str, redis_server: Redis
) -> Iterator[MusicApp]:
    redis_server.flush()
    folder = tmp_path_factory.mktemp("tenant")
    with music_app(children, folder, module_database_url, redis_server.url) as music:
        yield music


@pytest.fixture
def music(module_music: MusicApp) -> MusicApp:
    """The module's music app, without anybody in it."""
    module_music.empty()
    return module_music
