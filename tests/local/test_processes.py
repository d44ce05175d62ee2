"""Supervised processes: their output, their deaths, and that none stays behind, whatever happens to the parent."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from local.children import Children
from local.processes import NotHealthy, ProcessDied, Processes

CHECKOUT = Path(__file__).resolve().parents[2]

# Ignores SIGTERM and has a child that does so too: only SIGKILL to the group ends both.
STUBBORN = r"""
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.fork()
os.write(1, b"pid %d\n" % os.getpid())
time.sleep(600)
"""

PARENT = """
import signal, sys
from pathlib import Path
from local.children import Children
from local.processes import Processes, ending_on_signals
from local.servers import embedded_postgres, embedded_redis

def say(name, line):
    print(line, flush=True)

with ending_on_signals(), Children() as children:
    with embedded_postgres(children=children, fsync=False) as postgres, embedded_redis(children=children) as redis:
        print("pid", postgres.pid, flush=True)
        print("pid", redis.pid, flush=True)
        print("folder", postgres.data.parent, flush=True)
        with Processes(children, cwd=Path.cwd(), say=say) as processes:
            processes.start("stubborn", [sys.executable, "-c", sys.argv[1]], stop=((signal.SIGTERM, 0.5),))
            processes.watch()
"""


def python(source: str) -> list[str]:
    return [sys.executable, "-c", source]


def eventually(true: Callable[[], bool], deadline: float = 60) -> None:
    end = time.monotonic() + deadline
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def is_gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def test_output_carries_the_name_of_its_process(processes: Processes, said: list[tuple[str, str]]) -> None:
    processes.run("one", python("import sys; print('out'); print('err', file=sys.stderr)"))
    assert sorted(said) == [("one", "err"), ("one", "out")]


def test_an_announcement_is_kept_from_the_log(processes: Processes, said: list[tuple[str, str]]) -> None:
    source = "import time; print('a secret', flush=True); print('a line', flush=True); time.sleep(600)"
    process = processes.start("one", python(source), announces=True)
    assert process.announcement == "a secret"
    eventually(lambda: said == [("one", "a line")])


def test_a_death_is_told_with_the_last_words(processes: Processes) -> None:
    processes.start("doomed", python("import time; time.sleep(600)")).kill()
    processes.check()  # it was stopped on purpose
    processes.start("clumsy", python("print('I fell', flush=True); raise SystemExit(3)"))
    with pytest.raises(ProcessDied, match=r"clumsy ended with status 3(.|\n)*I fell"):
        processes.wait_until(lambda: False, "ever", time.monotonic() + 60)


def test_who_has_not_started_yet_has_not_died(processes: Processes) -> None:
    process = processes.start("one", python("import time; time.sleep(600)"))
    process.stop()
    assert not process.died
    started, looked = threading.Event(), []

    def look() -> None:
        while not started.is_set():
            looked.append(process.died)

    looking = threading.Thread(target=look)
    looking.start()
    process.start()
    started.set()
    looking.join()
    assert looked
    assert not any(looked)


def test_who_dies_before_being_healthy_is_not_waited_for(processes: Processes) -> None:
    with pytest.raises(ProcessDied, match="SIGKILL"):
        processes.start("doomed", python("import os; os.kill(os.getpid(), 9)"), healthy=lambda: False)


def test_waiting_for_health_has_an_end(processes: Processes) -> None:
    with pytest.raises(NotHealthy, match="idle to be healthy"):
        processes.start("idle", python("import time; time.sleep(600)"), healthy=lambda: False, patience=0.2)


def test_a_failed_run_is_an_error(processes: Processes) -> None:
    with pytest.raises(ProcessDied, match="status 1"):
        processes.run("migrations", python("raise SystemExit('no')"))


def test_a_run_without_end_is_told_as_that(processes: Processes) -> None:
    with pytest.raises(NotHealthy, match=r"migrations did not end within 0\.5 s"):
        processes.run("migrations", python("import time; time.sleep(600)"), patience=0.5)


def test_a_restarted_process_is_the_same_anew(processes: Processes, said: list[tuple[str, str]]) -> None:
    process = processes.start("one", python("import time; print('started', flush=True); time.sleep(600)"))
    first = process.pid
    eventually(lambda: len(said) == 1)
    process.restart()
    eventually(lambda: len(said) == 2)
    assert process.pid != first
    assert is_gone(first)


def test_children_of_children_are_killed_when_its_time_is_over(
    processes: Processes, said: list[tuple[str, str]]
) -> None:
    process = processes.start("stubborn", python(STUBBORN), stop=((signal.SIGTERM, 0.2),))
    eventually(lambda: len(said) == 2)
    process.stop()
    pids = [int(line.split()[1]) for _, line in said]
    eventually(lambda: all(is_gone(pid) for pid in pids))


def test_what_a_dead_leader_leaves_is_killed_when_its_death_is_noticed(
    processes: Processes, said: list[tuple[str, str]]
) -> None:
    process = processes.start("stubborn", python(STUBBORN))
    eventually(lambda: len(said) == 2)
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(ProcessDied):
        processes.wait_until(lambda: False, "ever", time.monotonic() + 60)
    eventually(lambda: all(is_gone(int(line.split()[1])) for _, line in said))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_nothing_stays_behind_a_parent_that_ends(number: signal.Signals) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, STUBBORN],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert parent.stdout is not None
    with parent, parent.stdout as output:
        lines = [output.readline() for _ in range(5)]
        descendants = psutil.Process(parent.pid).children(recursive=True)
        parent.send_signal(number)
        pids = [int(line.split()[1]) for line in lines if line.startswith("pid")]
        folder = Path(re.sub("^folder ", "", next(line for line in lines if line.startswith("folder"))).strip())
        assert len(pids) == 4
        assert len(descendants) >= 5  # the backends of PostgreSQL and the watcher among them
        eventually(lambda: all(is_gone(pid) for pid in [*pids, *(process.pid for process in descendants)]))
        eventually(lambda: not folder.exists())
    assert parent.returncode != 0


def test_folders_end_with_their_context(children: Children) -> None:
    with children.folder() as folder:
        (folder / "file").write_text("content")
    assert not folder.exists()
