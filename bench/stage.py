"""Sets the stage of every figure: PostgreSQL (fsync on) and Redis, databases of the product's schema, our processes and others'."""

import os
import socket
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import psycopg
import zstandard

from local.children import Children
from local.processes import Process, Processes
from local.product import CHECKOUT, procfile, product_processes
from local.server import free_port
from local.servers import EmbeddedPostgres, Servers, servers_from_environment

TOKEN = "bench-token-of-a-log-stream"
LOG = CHECKOUT / "build" / "bench.log"

# Nobody listens there: figures that are not about the tenant have none.
NO_TENANT = {
    "AUTH0_DOMAIN": "127.0.0.1:9",
    "AUTH0_M2M_CLIENT_ID": "bench",
    "AUTH0_M2M_CLIENT_SECRET": "bench",
    "LOG_STREAM_TOKENS": TOKEN,
    "LOG_FORMAT": "console",
    "LOG_LEVEL": "info",
}

_numbers = count()


@dataclass(frozen=True)
class Stage:
    """The servers, what starts processes, and a folder they may write to."""

    servers: Servers
    processes: Processes
    folder: Path

    def environ(self, database_url: str, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return what our processes and the recipe's need to know."""
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return {
            **NO_TENANT,
            "DATABASE_URL": database_url,
            "REDIS_URL": self.servers.redis.url,
            "PATH": path,
            **(more or {}),
        }

    @contextmanager
    def database(self, more: Mapping[str, str] | None = None) -> Iterator[str]:
        """Yield the URL of a database with our schema, gone afterwards; Redis is emptied."""
        self.servers.redis.flush()
        name = f"understudy_bench_{os.getpid()}_{next(_numbers)}"
        url = self.servers.postgres.create_database(name)
        try:
            self.processes.run("migrations", procfile()["release"], env=self.environ(url, more))
            yield url
        finally:
            self.servers.postgres.drop_database(name)

    @contextmanager
    def process(
        self, name: str, command: Sequence[str], environ: Mapping[str, str], port: int = 0
    ) -> Iterator[Process]:
        """Run a process; with `port`, wait until it listens there."""
        process = self.processes.start(name, command, env=environ, healthy=(lambda: _listens(port)) if port else None)
        try:
            yield process
        finally:
            process.kill()  # nothing is lost that anybody needs; an idle worker would take its time

    def ask(self, name: str, module: str, *arguments: str, environ: Mapping[str, str], patience: float = 120) -> str:
        """Run `python -m MODULE …` to its end and return what it wrote into the file named by its last argument."""
        answer = self.folder / f"answer-{next(_numbers)}"
        command = [sys.executable, "-m", module, *arguments, str(answer)]
        self.processes.run(name, command, env=environ, patience=patience)
        return answer.read_text()

    @contextmanager
    def web(self, environ: Mapping[str, str], app: str = "api.asgi:app", name: str = "web") -> Iterator[int]:
        """Serve an ASGI application as the Procfile serves ours; yield its port."""
        port = free_port()
        *shell, line = procfile()["web"]
        command = [*shell, line.replace("api.asgi:app", app)]
        with self.process(name, command, {**environ, "PORT": str(port)}, port):
            yield port

    @contextmanager
    def worker(self, environ: Mapping[str, str], children: int = 1) -> Iterator[Process]:
        """Run our worker as the Procfile does, with so many child processes."""
        environ = {**environ, "WORKER_CONCURRENCY": str(children)}
        with self.process("worker", procfile()["worker"], environ) as process:
            yield process


@contextmanager
def stage() -> Iterator[Stage]:
    """Yield the stage; whatever our processes say goes to build/bench.log."""
    LOG.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        log = stack.enter_context(LOG.open("w"))
        children = stack.enter_context(Children())
        servers = stack.enter_context(servers_from_environment(os.environ, children=children))
        if isinstance(servers.postgres, EmbeddedPostgres):
            _give_it_room(servers.postgres)

        def say(name: str, line: str) -> None:
            log.write(f"{name:>10} | {line}\n")
            log.flush()

        processes, folder = stack.enter_context(product_processes(children, say))
        yield Stage(servers, processes, folder)


def _give_it_room(postgres: EmbeddedPostgres) -> None:
    """Let PostgreSQL have the memory a server of its size would: the same for every peer. fsync stays as it is: on."""
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        for name, value in {"shared_buffers": "512MB", "max_wal_size": "4GB", "checkpoint_timeout": "15min"}.items():
            connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
        fsync = connection.execute("SHOW fsync").fetchone()
    if fsync != ("on",):
        raise SystemExit("bench: fsync is off; the figures would not be what a server does")
    postgres.stop()
    postgres.start()


def fill_inbox(connection: psycopg.Connection, bodies: Iterable[tuple[bytes, int]]) -> int:
    """Put packed bodies (`pack`) into the inbox, as the web process stores them; return how many."""
    filled = 0
    with connection.cursor().copy("COPY inbox (source, encoding, size, body) FROM STDIN (FORMAT binary)") as copy:
        copy.set_types(["text", "text", "int4", "bytea"])
        for body, size in bodies:
            copy.write_row(("logs", "zstd", size, body))
            filled += 1
    return filled


def pack(bodies: Iterable[bytes]) -> list[tuple[bytes, int]]:
    """Compress bodies as the web process does: (compressed, original size)."""
    compress = zstandard.ZstdCompressor(level=1).compress
    return [(compress(body), len(body)) for body in bodies]


def _listens(port: int) -> bool:

    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0
