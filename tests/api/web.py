"""A running web process: how tests start it, speak to it and see what it stored."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sysconfig
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

import httpx
import psycopg
import redis
import zstandard

from local.children import Children
from local.processes import Process, Processes
from local.product import CHECKOUT, WEBHOOK, inherited, procfile
from local.server import free_port

DOMAIN = "music.eu.auth0.com"
# Whatever holds one of these must never be printed: no test's secrets or people are in anybody's output.
SECRET_MARKER, PERSON_MARKER = "Zx9MarkerOfASecret", "marker.of.a.person"
TOKEN = f"{SECRET_MARKER}-current"
NEXT_TOKEN = f"Bearer {SECRET_MARKER}-next"
PATIENCE = 20.0  # seconds; generous: others may be at work on this machine

Headers = Iterable[tuple[bytes, bytes]]
T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """A row of `inbox`; `body` as it was before compression, None where none was kept."""

    source: str
    state: str
    size: int
    error: str | None
    encoding: str
    body: bytes | None = field(repr=False)


@dataclass
class Web:
    """A web process that listens at `url` and stores into `database_url`."""

    url: str
    environ: dict[str, str] = field(repr=False)
    process: Process
    said: list[str]
    client: httpx.Client = field(repr=False)

    @property
    def database_url(self) -> str:
        return self.environ["DATABASE_URL"]

    @property
    def output(self) -> str:
        return "\n".join(self.said)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    # Sending

    def deliver(
        self, body: bytes | Iterable[bytes] = b"", token: str | bytes | None = TOKEN, **headers: str
    ) -> httpx.Response:
        """POST a delivery as Auth0 does; `content_encoding="gzip"` and the like become headers."""
        given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        if token is not None:
            given.append((b"authorization", token.encode() if isinstance(token, str) else token))
        return self.post(body, given)

    def post(self, body: bytes | Iterable[bytes], headers: Headers) -> httpx.Response:
        return self.client.post(WEBHOOK, content=body, headers=list(headers))

    def get(self, path: str) -> httpx.Response:
        return self.client.get(path)

    def begin(self, length: int, token: str = TOKEN, *more: str) -> Wire:
        """Open a connection and send the head of a delivery of `length` bytes."""
        wire = Wire(self.port)
        head = [f"POST {WEBHOOK} HTTP/1.1", "host: localhost", f"authorization: {token}", f"content-length: {length}"]
        wire.send("\r\n".join([*head, *more, "", ""]).encode())
        return wire

    # Looking

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def rows(self) -> list[Row]:
        """Return what is in `inbox`, oldest first."""
        found = self.sql("SELECT source, state, size, error, encoding, body FROM inbox ORDER BY id")
        return [
            Row(source, state, size, error, encoding, _unpacked(encoding, body))
            for source, state, size, error, encoding, body in found
        ]

    def counter(self, name: str) -> int:
        found = self.sql("SELECT value FROM counters WHERE name = %s", name)
        return int(found[0][0]) if found else 0

    def messages(self) -> list[str]:
        """Return the Celery messages that wait in Redis."""
        with redis.Redis.from_url(self.environ["REDIS_URL"], decode_responses=True) as client:
            waiting: Any = client.lrange("understudy", 0, -1)
            return list(waiting)

    def empty(self) -> None:
        """Forget what earlier tests stored."""
        self.sql("TRUNCATE inbox")

    def terminate(self) -> None:
        """Send SIGTERM, as every platform does before it restarts a process."""
        self.process.signal(signal.SIGTERM)

    def ended(self) -> int:
        """Wait until it has ended and return its status."""
        eventually(lambda: not self.process.runs, "the process to end")
        assert self.process.status is not None
        return self.process.status


class Wire:
    """A connection on which a test says and hears exactly what it wants."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.heard = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def send(self, content: bytes) -> None:
        self._socket.sendall(content)

    def hear(self, until: bytes = b"\r\n\r\n") -> bytes:
        """Return all that came so far, when `until` is in it or the other side has closed."""
        while until not in self.heard and (more := self._more()):
            self.heard += more
        return self.heard

    def hear_out(self) -> bytes:
        """Return all that came when the other side has closed."""
        while more := self._more():
            self.heard += more
        return self.heard

    def _more(self) -> bytes:
        try:
            return self._socket.recv(65536)
        except ConnectionResetError:
            return b""


def environment(database_url: str, redis_url: str, **settings: str) -> dict[str, str]:
    """Return what configures a web process, and nothing of ours beside it."""
    return inherited(os.environ) | {
        "PATH": os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]]),
        "PYTHONUNBUFFERED": "1",
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "AUTH0_DOMAIN": DOMAIN,
        "LOG_STREAM_TOKENS": f"{TOKEN},{NEXT_TOKEN}",
        **settings,
    }


@contextmanager
def running(children: Children, environ: Mapping[str, str]) -> Iterator[Web]:
    """Run a web process as the Procfile does, from when it listens; nothing it says in its life may tell of anybody."""
    said: list[str] = []
    with Processes(children, cwd=CHECKOUT, environ={}, say=lambda _name, line: said.append(line)) as processes:
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        environ = {**environ, "PORT": str(port)}
        process = processes.start("web", procfile()["web"], env=environ, healthy=lambda: _is_alive(url))
        # A connection for each request: none that is kept alive is lost to a process that ends.
        limits = httpx.Limits(max_keepalive_connections=0)
        with httpx.Client(base_url=url, timeout=PATIENCE, limits=limits, trust_env=False) as client:
            yield Web(url, environ, process, said, client)
    output = "\n".join(said)
    for marker in (
        SECRET_MARKER,
        PERSON_MARKER,
        PERSON_MARKER.encode().hex(),
        "Traceback",
    ):  # PostgreSQL shows bytes in hex
        assert marker not in output


def run_to_its_end(environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Start a web process that is expected to refuse, and return how it ended and what it said."""
    return subprocess.run(
        procfile()["web"],
        cwd=CHECKOUT,
        env={**environ, "PORT": str(free_port())},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def eventually(look: Callable[[], T], what: str) -> T:
    """Return what `look` returns once it is true."""
    deadline = time.monotonic() + PATIENCE
    while not (found := look()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)
    return found


def at_once(number: int, act: Callable[[int], T]) -> list[T]:
    """Call `act` in so many threads that start together; return what they returned, in order."""
    results: dict[int, T] = {}
    gate = threading.Barrier(number)

    def run(which: int) -> None:
        gate.wait()
        results[which] = act(which)

    threads = [threading.Thread(target=run, args=(which,)) for which in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [results[which] for which in range(number)]


def _is_alive(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=5, trust_env=False).is_success
    except httpx.TransportError:
        return False


def _unpacked(encoding: str, body: bytes | None) -> bytes | None:
    return zstandard.ZstdDecompressor().decompress(body) if encoding == "zstd" and body is not None else body
