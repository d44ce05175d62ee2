"""The servers every test may use: a real PostgreSQL and a real Redis, embedded unless the environment names others."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine, NullPool, create_engine, make_url

from local.children import Children
from local.servers import Postgres, Redis, Servers, servers_from_environment
from worker.store import schema

_PREFIX = f"understudy_test_{os.getpid()}"
_numbers = itertools.count(1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """Stay in one process where REDIS_URL names a Redis: the tests empty it, and would empty each other's."""
    return 1 if os.environ.get("REDIS_URL") else None


def migrate(database_url: str) -> None:
    """Give a database its tables: the one place where a test's database gets them."""
    engine = create_engine(make_url(database_url).set(drivername="postgresql+psycopg"), poolclass=NullPool)
    schema.upgrade(engine)
    engine.dispose()


@pytest.fixture(scope="session")
def children() -> Iterator[Children]:
    """Starts processes and folders that end with the test run, however it ends."""
    with Children() as children:
        yield children


@pytest.fixture(scope="session")
def servers(children: Children) -> Iterator[Servers]:
    """Both servers. Without fsync: no test pulls the plug, and PostgreSQL's own recovery does not need it."""
    with servers_from_environment(os.environ, children=children, fsync=False) as servers:
        yield servers


@pytest.fixture(scope="session")
def postgres_server(servers: Servers) -> Postgres:
    """A server for databases of one's own: `create_database(name)`. To stop and start one, run `embedded_postgres()`."""
    return servers.postgres


@pytest.fixture(scope="session")
def redis_server(servers: Servers) -> Redis:
    """To stop, kill or pause one, run `embedded_redis()`. Tests empty it: somebody's keys in it stop the run."""
    if not servers.redis.is_empty():
        pytest.exit("the database of REDIS_URL holds keys, and the tests would delete them; name an empty one")
    return servers.redis


@pytest.fixture(scope="session")
def migrated_template(postgres_server: Postgres) -> Iterator[str]:
    """The name of a migrated database to copy."""
    name = f"{_PREFIX}_template"
    postgres_server.drop_database(name)
    migrate(postgres_server.create_database(name))
    yield name
    postgres_server.drop_database(name)


@pytest.fixture(scope="session")
def new_database(postgres_server: Postgres, migrated_template: str) -> Iterator[Callable[[], str]]:
    """Call it for the URL of one more migrated, empty database."""
    made: list[str] = []

    def new() -> str:
        name = f"{_PREFIX}_{next(_numbers)}"
        postgres_server.drop_database(name)
        made.append(name)
        return postgres_server.create_database(name, template=migrated_template)

    yield new
    for name in made:
        postgres_server.drop_database(name)


@pytest.fixture
def database_url(new_database: Callable[[], str], postgres_server: Postgres) -> Iterator[str]:
    """A migrated, empty database of this test's own."""
    url = new_database()
    yield url
    postgres_server.drop_database(url.rpartition("/")[2])


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine for this test's database."""
    engine = create_engine(make_url(database_url).set(drivername="postgresql+psycopg"))
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def module_database_url(new_database: Callable[[], str]) -> str:
    """A migrated database that the tests of a module share; they leave it as they like."""
    return new_database()


@pytest.fixture
def redis_url(redis_server: Redis) -> str:
    """An empty Redis."""
    redis_server.flush()
    return redis_server.url
