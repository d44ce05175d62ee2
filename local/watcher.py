"""Ends what a dead parent left running: a tiny process that outlives it by seconds.

It reads lines from a pipe whose write end only the parent has. However the parent ends (return, Ctrl-C, SIGKILL), the
pipe closes, and the watcher stops every process it was told of, last started first, then removes the folders it was
told of. It runs in a session of its own, so neither a terminal's Ctrl-C nor a signal to the parent's process group
reaches it. PR_SET_PDEATHSIG would not do: it fires when the *thread* that started the child ends.

The lines: ``watch PID SIGNAL:SECONDS,…`` · ``forget PID`` · ``folder PATH`` · ``keep PATH``. Standard library only:
it is started by its path, isolated, so that nothing of the environment decides what runs here.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

StopPlan = Sequence[tuple[signal.Signals, float]]
"""What to send to a process, and how many seconds each may take; SIGKILL to its whole group follows the last."""

_POLL = 0.02  # seconds


def end(pid: int, plan: StopPlan, gone: Callable[[], bool]) -> None:
    """Stop the process by `plan`, then kill what is left of its group, whose leader it is.

    The first signals go to the leader alone: it knows how to end its children (Celery's pool, PostgreSQL's backends).
    """
    for number, patience in plan:
        if gone():
            break
        _send(os.kill, pid, number)
        deadline = time.monotonic() + patience
        while not gone() and time.monotonic() < deadline:
            time.sleep(_POLL)
    _send(os.killpg, pid, signal.SIGKILL)


def _send(how: Callable[[int, int], None], pid: int, number: signal.Signals) -> None:
    # PermissionError is macOS's answer for a group that holds nothing but zombies.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        how(pid, number)


def _born(pid: int) -> str | None:
    """Tell apart two processes that had the same pid (Linux: the start time); None for a process that is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
    else:
        return None if fields[0] in "ZX" else fields[19]
    try:  # no /proc: macOS
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    return "alive"


class _Charges:
    """What the parent asked for, in its order."""

    def __init__(self) -> None:
        self.processes: dict[int, tuple[str | None, StopPlan]] = {}
        self.folders: dict[str, None] = {}

    def read(self, line: str) -> None:
        what, _, rest = line.rstrip("\n").partition(" ")
        if what == "watch":
            pid, _, plan = rest.partition(" ")
            self.processes[int(pid)] = (_born(int(pid)), read_plan(plan))
        elif what == "forget":
            self.processes.pop(int(rest), None)
        elif what == "folder":
            self.folders[rest] = None
        elif what == "keep":
            self.folders.pop(rest, None)

    def discharge(self) -> None:
        for pid, (born, plan) in reversed(self.processes.items()):
            if born is not None and _born(pid) in (born, None):
                end(pid, plan, gone=lambda pid=pid, born=born: _born(pid) != born)  # type: ignore[misc]
        for folder in self.folders:
            shutil.rmtree(folder, ignore_errors=True)


def write_plan(plan: StopPlan) -> str:
    """`read_plan`'s opposite: one word for the pipe."""
    return ",".join(f"{number.name}:{patience}" for number, patience in plan)


def read_plan(word: str) -> StopPlan:
    steps = (step.partition(":") for step in word.split(",") if step)
    return [(signal.Signals[name], float(patience)) for name, _, patience in steps]


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    charges = _Charges()
    for line in sys.stdin:
        charges.read(line)
    charges.discharge()


if __name__ == "__main__":
    main()
