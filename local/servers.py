"""The database and the Redis to work with: the ones the environment names, or embedded ones that vanish afterwards."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from local.children import Children
from local.postgres_server import EmbeddedPostgres, Postgres, embedded_postgres
from local.redis_server import EmbeddedRedis, Redis, embedded_redis
from local.server import EmbeddedServer, ServerError

__all__ = [
    "EmbeddedPostgres",
    "EmbeddedRedis",
    "Postgres",
    "Redis",
    "ServerError",
    "Servers",
    "embedded_postgres",
    "embedded_redis",
    "servers_from_environment",
]


@dataclass(frozen=True)
class Servers:
    """What to work with; an `Embedded…` one can be stopped and started too."""

    postgres: Postgres
    redis: Redis

    def check(self) -> None:
        """Raise ServerError if an embedded one has ended though nobody stopped it."""
        for server in (self.postgres, self.redis):
            if isinstance(server, EmbeddedServer):
                server.check()


@contextlib.contextmanager
def servers_from_environment(
    environ: Mapping[str, str], *, children: Children, keep: Path | None = None, fsync: bool = True
) -> Iterator[Servers]:
    """`DATABASE_URL` and `REDIS_URL` win; whichever is not set is started, and stopped at the end.

    `keep` is a folder in which the embedded PostgreSQL's data, and both servers' ports and passwords, outlive us.
    """
    with contextlib.ExitStack() as stack:
        if keep is not None:
            stack.enter_context(_claimed(keep))
        database_url, redis_url = environ.get("DATABASE_URL"), environ.get("REDIS_URL")
        yield Servers(
            Postgres(database_url)
            if database_url
            else stack.enter_context(embedded_postgres(children=children, keep=keep, fsync=fsync)),
            Redis(redis_url) if redis_url else stack.enter_context(embedded_redis(children=children, keep=keep)),
        )


@contextlib.contextmanager
def _claimed(keep: Path) -> Iterator[None]:
    """Make the folder, and see to it that one process at a time uses it."""
    if not keep.exists():
        keep.mkdir(parents=True)
        keep.chmod(0o711)  # PostgreSQL's account, where it is not ours, must pass through
    with (keep / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ServerError(
                f"the servers of {keep} are in use: `understudy dev` or `services` is running already"
            ) from None
        yield
