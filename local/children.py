"""Starts child processes and temporary folders that cannot outlive us."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from local import watcher
from local.privileges import Account, temporary_folder
from local.watcher import StopPlan

# The child waits for one line before it becomes the program. It comes after the watcher was told of the child; if we
# die before that, the child reads the end of the pipe and leaves. So no moment exists in which it could be lost.
_GATE = 'read -r go && exec "$@"'


class Children:
    """Starts children and tells the watcher (`local.watcher`) of them. Leaving the context ends all that is left."""

    def __init__(self) -> None:
        reader, self._pipe = os.pipe()
        self._writing = threading.Lock()
        self._started: dict[int, subprocess.Popen[bytes]] = {}
        try:
            self._watcher = subprocess.Popen(
                [sys.executable, "-I", "-S", watcher.__file__],
                stdin=reader,
                stdout=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
        finally:
            os.close(reader)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End what is left and return when it is gone. A second call does nothing."""
        with self._writing:
            pipe, self._pipe = self._pipe, -1
        if pipe >= 0:
            os.close(pipe)
            self._watcher.wait()
            for process in self._started.values():
                process.wait()

    def start(
        self,
        argv: Sequence[str | Path],
        *,
        stop: StopPlan,
        account: Account | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdin: bytes = b"",
        stdout: int | IO[bytes] = subprocess.DEVNULL,
        stderr: int | IO[bytes] = subprocess.STDOUT,
    ) -> subprocess.Popen[bytes]:
        """Start a program as the leader of a session of its own, under `account` if one is given.

        `stdin` is small (it fits a pipe). After the process was waited for, call `forget`.
        """
        arguments = [str(argument) for argument in argv]
        if shutil.which(arguments[0]) is None:
            raise FileNotFoundError(f"no program {arguments[0]}")
        process = subprocess.Popen(
            ["/bin/sh", "-c", _GATE, "sh", *arguments],
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=stderr,
            env=env,
            cwd=cwd,
            start_new_session=True,
            user=None if account is None else account.uid,
            group=None if account is None else account.gid,
            extra_groups=None if account is None else [],
        )
        self._started[process.pid] = process
        self._tell(f"watch {process.pid} {watcher.write_plan(stop)}")
        with contextlib.suppress(BrokenPipeError):
            _open_gate(process, stdin)
        return process

    def forget(self, process: subprocess.Popen[bytes]) -> None:
        """Tell the watcher that the process has ended and was waited for."""
        self._started.pop(process.pid, None)
        self._tell(f"forget {process.pid}")

    @contextlib.contextmanager
    def folder(self, account: Account | None = None) -> Iterator[Path]:
        """Make a short-pathed temporary folder which `account` can pass through; gone at the end, whatever happens."""
        path = temporary_folder(account)
        self._tell(f"folder {path}")
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)
            self._tell(f"keep {path}")

    def _tell(self, line: str) -> None:
        with self._writing:
            if self._pipe >= 0:
                os.write(self._pipe, line.encode() + b"\n")


def _open_gate(process: subprocess.Popen[bytes], rest: bytes) -> None:
    if process.stdin is not None:
        with process.stdin as gate:
            gate.write(b"go\n" + rest)
