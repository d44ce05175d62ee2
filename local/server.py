"""What the embedded servers share: a process on a port of 127.0.0.1 that can be started, stopped, killed, paused."""

from __future__ import annotations

import abc
import contextlib
import json
import random
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from local import watcher
from local.children import Children
from local.watcher import StopPlan

_START_DEADLINE = 60  # seconds; a start takes one, recovery after a crash may take longer
# Below the ports the kernel gives to outgoing connections (32768 on Linux, 49152 on macOS): a client that retries a
# port of that range while the server is down can connect to itself, and then nobody else can listen there.
_PORTS = range(20000, 32768)


class ServerError(Exception):
    """An embedded server cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class Endpoint:
    """Where a server listens on 127.0.0.1, and the password that keeps this machine's other users out."""

    port: int
    password: str

    @classmethod
    def new(cls) -> Endpoint:
        return cls(free_port(), secrets.token_urlsafe(24))

    @classmethod
    def kept(cls, file: Path) -> Endpoint:
        """Read the endpoint an earlier run wrote, so that URLs stay the same; make one if there is none."""
        if file.exists():
            known = json.loads(file.read_text())
            port = int(known["port"])
            return cls(port if is_free(port) else free_port(), str(known["password"]))
        endpoint = cls.new()
        file.touch(mode=0o600, exist_ok=False)
        file.write_text(json.dumps({"port": endpoint.port, "password": endpoint.password}))
        return endpoint

    def __repr__(self) -> str:
        return f"Endpoint(port={self.port})"


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    for port in random.sample(_PORTS, 100):
        if is_free(port):
            return port
    raise ServerError(f"no free port between {_PORTS.start} and {_PORTS.stop} on 127.0.0.1")


class EmbeddedServer(abc.ABC):
    """A server process; it keeps its port and password from one start to the next."""

    name: ClassVar[str]
    stop_plan: ClassVar[StopPlan]
    crash: ClassVar[signal.Signals]

    def __init__(self, children: Children, endpoint: Endpoint, log: Path) -> None:
        self.port = endpoint.port
        self.log = log
        self._password = endpoint.password
        self._children = children
        self._process: subprocess.Popen[bytes] | None = None

    @abc.abstractmethod
    def _launch(self, log: int) -> subprocess.Popen[bytes]: ...

    @abc.abstractmethod
    def _answers(self) -> bool: ...

    @property
    def pid(self) -> int | None:
        """The server's process while it runs."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start, and return when it answers. A running server is left alone.

        Raises:
            ServerError: it ended, or did not answer in a minute; with the last lines of its log.
        """
        if self._process is not None:
            return
        with self.log.open("ab") as log:
            self._process = self._launch(log.fileno())
        deadline = time.monotonic() + _START_DEADLINE
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise ServerError(f"the embedded {self.name} did not start. Its log ends:\n{self._log_tail()}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop as an operator would: what was committed is on disk. A stopped server is left alone."""
        self._end(self.stop_plan)

    def kill(self) -> None:
        """Stop as a crash would."""
        self._end([(self.crash, 10)])

    def restart(self) -> None:
        """`stop` and `start`, on the same port."""
        self.stop()
        self.start()

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Keep the server away inside the context; it is back after it."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def check(self) -> None:
        """Raise ServerError if it has ended though nobody stopped it."""
        if self._process is not None and self._process.poll() is not None:
            self.stop()
            raise ServerError(f"the embedded {self.name} has ended by itself. Its log ends:\n{self._log_tail()}")

    def _end(self, plan: StopPlan) -> None:
        process, self._process = self._process, None
        if process is not None:
            watcher.end(process.pid, plan, gone=lambda: process.poll() is not None)
            process.wait()
            self._children.forget(process)

    def _log_tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
