"""A database that was restored from a backup is told from one that stayed where it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, NullPool, create_engine, text

from local.servers import Postgres
from worker.store import places, schema


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool)
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def look(url: str) -> places.Move | None:
    with connected(url) as connection:
        return places.moved(connection)


def copied(new_database: Callable[[], str]) -> str:
    url = new_database()
    with connected(url) as connection:
        schema.claim_tenant(connection, "acme.eu.auth0.com")
    return url


def test_a_new_database_has_never_been_elsewhere(new_database: Callable[[], str]) -> None:
    url = copied(new_database)
    assert [look(url), look(url)] == [None, None]


def test_one_that_no_process_has_claimed_yet_has_nothing_to_say(new_database: Callable[[], str]) -> None:
    assert look(new_database()) is None


def test_a_copy_of_it_is_told_once(new_database: Callable[[], str], postgres_server: Postgres) -> None:
    url = copied(new_database)
    look(url)
    name = f"{url.rpartition('/')[2]}_restored"
    try:
        restored = postgres_server.create_database(name, template=url.rpartition("/")[2])
        assert [look(restored), look(restored)] == ["restored", None]
    finally:
        postgres_server.drop_database(name)
    assert look(url) is None


def test_tables_made_anew_in_the_same_database_are_told(new_database: Callable[[], str]) -> None:
    url = copied(new_database)
    look(url)
    with connected(url) as connection:
        connection.execute(text("CREATE TABLE anew (LIKE tenant INCLUDING ALL)"))
        connection.execute(text("INSERT INTO anew SELECT * FROM tenant"))
        connection.execute(text("DROP TABLE tenant CASCADE"))
        connection.execute(text("ALTER TABLE anew RENAME TO tenant"))
    assert [look(url), look(url)] == ["restored", None]


def test_another_history_of_the_same_database_is_a_failover(new_database: Callable[[], str]) -> None:
    url = copied(new_database)
    look(url)
    with connected(url) as connection:
        connection.execute(text("UPDATE tenant SET timeline = timeline - 1"))
    assert [look(url), look(url)] == ["failed over", None]
