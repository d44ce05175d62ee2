"""Runs a set of processes: starts them in order, shows what they say, notices a death, stops them in reverse order."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, NoReturn, Self

from local import watcher
from local.children import Children
from local.privileges import Account
from local.watcher import StopPlan

Say = Callable[[str, str], None]
"""Takes a process's name and one line of its output. Called from several threads."""

_POLL = 0.05  # seconds
_DEADLY = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)


class ProcessDied(Exception):
    """A process that should run has ended; the message names it, its status and the last it said."""

    def __init__(self, process: Process) -> None:
        status = process.status
        how = (
            f"was ended by {signal.Signals(-status).name}"
            if status is not None and status < 0
            else f"ended with status {status}"
        )
        super().__init__("\n".join([f"{process.name} {how}. The last it said:", *process.tail]))


class NotHealthy(Exception):
    """A process runs and did not become healthy in time."""


class Process:
    """One child, by its name. `restart` starts it again exactly as it was."""

    def __init__(
        self,
        name: str,
        launch: Callable[[], subprocess.Popen[bytes]],
        forget: Callable[[subprocess.Popen[bytes]], None],
        *,
        plan: StopPlan,
        say: Say,
        announces: bool,
    ) -> None:
        self.name = name
        self.status: int | None = None
        self.tail: deque[str] = deque(maxlen=30)
        self.announcement = ""
        self._launch, self._forget, self._plan, self._say = launch, forget, plan, say
        self._announces = announces
        self._announced = threading.Event()
        self._stopping = True  # until it was started, nobody is surprised that it does not run
        self._readers: list[threading.Thread] = []
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process's id, which is its group's too."""
        if self._process is None:
            raise ProcessDied(self)
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether it runs; once it does not, nothing of its group does, and `status` is what it ended with."""
        if self._process is None:
            return False
        if self._process.poll() is None:
            return True
        self._end([])
        return False

    @property
    def died(self) -> bool:
        """Whether it ended though nobody stopped it."""
        return not self.runs and not self._stopping

    def start(self) -> None:
        """Start it; nothing if it runs."""
        if self.runs:
            return
        self.status = None
        self._announced.clear()
        self._process = process = self._launch()
        self._stopping = False
        pipes = [(process.stdout, self._announces), (process.stderr, False)]
        self._readers = [
            threading.Thread(
                target=self._read,
                args=(pipe,),
                kwargs={"announces": announces},
                name=f"output of {self.name}",
                daemon=True,
            )
            for pipe, announces in pipes
            if pipe is not None
        ]
        for reader in self._readers:
            reader.start()

    def announced(self, deadline: float) -> str:
        """Wait for the first line of its standard output (which is not shown), up to `deadline` on the monotonic clock."""
        while not self._announced.wait(_POLL):
            if self.died:
                raise ProcessDied(self)
            if time.monotonic() > deadline:
                raise NotHealthy(f"{self.name} announced nothing")
        return self.announcement

    def stop(self) -> None:
        """Ask it to end by its stop plan; then kill it, and what it leaves of children."""
        self._stopping = True
        self._end(self._plan)

    def kill(self) -> None:
        """Send SIGKILL to it and its children at once."""
        self._stopping = True
        self._end([])

    def finish(self, patience: float) -> None:
        """Wait until it ends by itself.

        Raises:
            ProcessDied: it ended with another status than 0.
            NotHealthy: it had to be stopped.
        """
        deadline = time.monotonic() + patience
        while (late := self.runs) and time.monotonic() < deadline:
            time.sleep(_POLL)
        self._end(self._plan)
        if late:
            raise NotHealthy(f"{self.name} did not end within {patience:g} s: is this machine too busy?")
        if self.status != 0:
            raise ProcessDied(self)

    def restart(self) -> None:
        """`stop` and `start`."""
        self.stop()
        self.start()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process alone. A death that follows is nobody's surprise."""
        self._stopping = self._stopping or number in _DEADLY
        os.kill(self.pid, number)

    def _end(self, plan: StopPlan) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        watcher.end(process.pid, plan, gone=lambda: process.poll() is not None)
        self.status = process.wait()
        self._forget(process)
        for reader in self._readers:
            reader.join(timeout=5)

    def _read(self, pipe: IO[bytes], *, announces: bool) -> None:
        with pipe:
            for raw in pipe:
                line = raw.decode(errors="replace").rstrip()
                if announces:
                    announces, self.announcement = False, line
                    self._announced.set()
                else:
                    self.tail.append(line)
                    self._say(self.name, line)


class Processes:
    """The set. Leaving the context stops all of it, last started first."""

    def __init__(
        self,
        children: Children,
        *,
        cwd: Path,
        environ: Mapping[str, str] | None = None,
        account: Account | None = None,
        say: Say | None = None,
    ) -> None:
        self._children, self._cwd, self._account, self._say = children, cwd, account, say or _say_nothing
        self._environ = os.environ if environ is None else environ
        self._processes: list[Process] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in reversed(self._processes):
            process.stop()

    def start(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        healthy: Callable[[], bool] | None = None,
        patience: float = 60,
        stop: StopPlan = ((signal.SIGTERM, 10),),
        announces: bool = False,
    ) -> Process:
        """Start a process and wait until it is `healthy`, for `patience` seconds.

        `env` goes on top of the set's environment. With `announces` the first line on standard output is kept from the
        log (it may hold a secret) and waited for: `Process.announcement`.

        Raises:
            ProcessDied: it ended before it was healthy.
            NotHealthy: it runs, but did not become healthy in time.
        """
        environ = {**self._environ, **(env or {})}

        def launch() -> subprocess.Popen[bytes]:
            return self._children.start(
                argv,
                stop=stop,
                account=self._account,
                env=environ,
                cwd=self._cwd,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE if announces else subprocess.STDOUT,
            )

        process = Process(name, launch, self._children.forget, plan=stop, say=self._say, announces=announces)
        self._processes.append(process)
        process.start()
        deadline = time.monotonic() + patience
        if announces:
            process.announced(deadline)
        self.wait_until(healthy or (lambda: True), f"{name} to be healthy", deadline)
        return process

    def run(
        self, name: str, argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None, patience: float = 60
    ) -> None:
        """Run a program to its end.

        Raises:
            ProcessDied: it ended with another status than 0.
            NotHealthy: it had to be stopped.
        """
        process = self.start(name, argv, env=env)
        self._processes.remove(process)
        process.finish(patience)

    def wait_until(self, true: Callable[[], bool], what: str, deadline: float) -> None:
        """Wait up to `deadline` (monotonic clock) for something, as long as every process lives.

        Raises:
            ProcessDied: one does not.
            NotHealthy: it did not become true.
        """
        while not true():
            self.check()
            if time.monotonic() > deadline:
                raise NotHealthy(f"waited in vain for {what}")
            time.sleep(_POLL)

    def check(self) -> None:
        """Raise ProcessDied if one has ended though nobody stopped it."""
        for process in self._processes:
            if process.died:
                raise ProcessDied(process)

    def watch(self, others: Callable[[], None] = lambda: None) -> NoReturn:
        """Run until Ctrl-C, or until a death: `check`, and what `others` raises."""
        while True:
            self.check()
            others()
            time.sleep(0.3)


def _say_nothing(_name: str, _line: str) -> None:
    pass


@contextlib.contextmanager
def ending_on_signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into SystemExit, so that contexts are left as they are at Ctrl-C.

    Ctrl-C itself is made to work where a shell started us in the background, with SIGINT ignored.
    """

    def leave(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ending_with_parent() -> None:
    """End as by SIGTERM when the parent is gone: `make`, killed, would leave us running."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
