"""The music app's connections to PostgreSQL: a small pool that opens by itself and answers, or says DatabaseDown, within 2 s."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Self, TypeVar

import psycopg
from psycopg.errors import QueryCanceled, RaiseException, UndefinedColumn, UndefinedTable
from psycopg_pool import AsyncConnectionPool, PoolTimeout, TooManyRequests

from worker.errors import DatabaseDown, Permanent, SchemaBehind, Transient
from worker.logs import describe, get_logger
from worker.settings import Settings

log = get_logger(__name__)

Connection = psycopg.AsyncConnection[Any]
Row = tuple[Any, ...]
T = TypeVar("T")

# A small Heroku database allows 20 connections to everybody. What is read most is read for many callers at once.
MOST_CONNECTIONS = 4
# Who may wait for one of them: more would be a queue, and queues stay with the callers.
MOST_WAITING = 500
# From the question to DatabaseDown, in seconds.
DEADLINE = 1.8


class Overloaded(Transient):
    """More requests wait for PostgreSQL than this process may hold."""


class WasForgotten(Permanent):
    """Whoever asked has been forgotten since they were looked up: nothing of theirs is written (P14)."""


class Database:
    """A pool of connections, open inside `async with`, used from one event loop.

    Nothing is connected before the first question, and a server that is away at first is no error. `check` is awaited
    with each new connection; a connection it raises for is not used. Statements take psycopg's own parameters (`%b`).
    """

    def __init__(self, settings: Settings, check: Callable[[Connection], Awaitable[None]]) -> None:
        self._check, self._trouble = check, ""
        self._pool = AsyncConnectionPool(
            re.sub(r"^postgresql\+psycopg:", "postgresql:", settings.database_url.get_secret_value()),
            open=False,
            min_size=0,
            max_size=MOST_CONNECTIONS,
            max_waiting=MOST_WAITING,
            timeout=DEADLINE,
            # Do not go on trying with longer and longer pauses: whoever asks next is reason enough to try again.
            reconnect_timeout=0,
            configure=self._admit,
            kwargs={
                "autocommit": True,
                "prepare_threshold": 0,
                "connect_timeout": 2,
                "application_name": "understudy-music",
                # Every statement is prepared, and good for any parameters: planning one anew takes longer than running it.
                "options": f"-c statement_timeout={int(DEADLINE * 1000)} -c timezone=UTC -c plan_cache_mode=force_generic_plan",
                "keepalives_idle": 5,
                "keepalives_interval": 2,
                "keepalives_count": 3,
                "tcp_user_timeout": 5000,
            },
            name="music",
        )

    async def __aenter__(self) -> Self:
        await self._pool.open(wait=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pool.close(timeout=DEADLINE)

    async def read(self, statement: str, parameters: Any = None) -> list[Row]:
        """Return a statement's rows. It may run twice: a connection that broke while it was idle is replaced.

        Raises DatabaseDown or Overloaded within 2 s, SchemaBehind.
        """
        return await self._within(self._reading(statement, parameters))

    async def write(self, statement: str, parameters: Any = None) -> list[Row]:
        """Run a statement that writes, once, and return its rows; raises as `read` does, and WasForgotten."""

        async def work(connection: Connection) -> list[Row]:
            return await fetch(connection, statement, parameters)

        return await self._within(self._lend(work))

    async def transaction(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run `work` in one transaction, undone by what it raises; raises as `read` does."""

        async def whole(connection: Connection) -> T:
            async with connection.transaction():
                return await work(connection)

        return await self._within(self._lend(whole))

    async def _reading(self, statement: str, parameters: Any) -> list[Row]:
        async def work(connection: Connection) -> list[Row]:
            return await fetch(connection, statement, parameters)

        try:
            return await self._lend(work)
        except (PoolTimeout, TooManyRequests, QueryCanceled):
            raise
        except psycopg.OperationalError:
            await self._pool.check()  # where one is broken, the others are: a server was restarted
            return await self._lend(work)

    async def _lend(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        async with self._pool.connection() as connection:
            return await work(connection)

    async def _within(self, doing: Awaitable[T]) -> T:
        # Cancelling a statement asks the server to let go of it: with one that hangs, that takes seconds of its own.
        task = asyncio.ensure_future(doing)
        done, _ = await asyncio.wait((task,), timeout=DEADLINE)
        if not done:
            task.cancel()
            task.add_done_callback(_forget)
            raise self._down("timeout")
        try:
            result = task.result()
        except TooManyRequests:
            raise Overloaded("too many requests wait for PostgreSQL") from None
        except (psycopg.OperationalError, OSError, TimeoutError) as error:
            raise self._down(describe(error)) from None
        except (UndefinedTable, UndefinedColumn):
            raise SchemaBehind("the database lacks a migration: run `understudy db upgrade`") from None
        except RaiseException:  # a trigger's, the only one that raises
            raise WasForgotten("somebody who was forgotten") from None
        if self._trouble:
            log.info("music_available")
            self._trouble = ""
        return result

    def _down(self, reason: str) -> DatabaseDown:
        if not self._trouble:
            log.warning("music_unavailable", reason=reason)
        self._trouble = reason
        return DatabaseDown("PostgreSQL cannot be reached")

    async def _admit(self, connection: Connection) -> None:
        async with asyncio.timeout(DEADLINE):
            await self._check(connection)


async def fetch(connection: Connection, statement: str, parameters: Any = None) -> list[Row]:
    """Run one statement and return its rows, none where it gives none; values travel in binary."""
    cursor = await connection.execute(statement.encode(), parameters, binary=True)
    return await cursor.fetchall() if cursor.description else []


def one(rows: Sequence[Row]) -> Row:
    """Return the only row of a statement that always gives one."""
    (row,) = rows
    return row


def _forget(task: asyncio.Future[Any]) -> None:
    """Take note of how an abandoned question ended: nobody else will."""
    if not task.cancelled():
        task.exception()
