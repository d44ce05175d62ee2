"""Opens PostgreSQL: one engine per process, made on first use (after the fork), surviving a failover."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import OperationalError

from worker.errors import DatabaseDown
from worker.settings import Settings


def make_engine(settings: Settings, *, pool_size: int, statement_timeout: timedelta = timedelta(seconds=60)) -> Engine:
    """Return an engine whose pool holds at most `pool_size` connections and tests each before it lends it.

    `hide_parameters` keeps values out of SQLAlchemy's messages; PostgreSQL's own DETAIL is cut in `worker.logs`.
    """
    return create_engine(
        settings.database_url.get_secret_value(),
        pool_size=pool_size,
        max_overflow=0,
        pool_pre_ping=True,
        pool_recycle=1800,
        pool_timeout=10,
        hide_parameters=True,
        connect_args={
            "connect_timeout": 5,
            "application_name": "understudy",
            "options": f"-c statement_timeout={int(statement_timeout.total_seconds() * 1000)} -c timezone=UTC",
            "keepalives_idle": 30,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 15000,
        },
    )


@contextmanager
def reaching_postgresql() -> Iterator[None]:
    """Say DatabaseDown, with what to look at, where PostgreSQL cannot be reached."""
    try:
        yield
    except OperationalError:
        raise DatabaseDown("PostgreSQL cannot be reached at DATABASE_URL: is it running, is the URL right?") from None


def without_waiting(connection: Connection) -> None:
    """Let this transaction commit without waiting for the disk: a crash of PostgreSQL undoes what was written and "done" alike, and drain does both again."""
    connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
