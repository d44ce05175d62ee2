"""What memory the worker takes at its peak while a heap of deliveries waits: the PSS of its process tree."""

import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import psycopg

from bench.bodies import deliveries, new_ids
from bench.drain import Packed, ring
from bench.figures import Results, alternate, ratio
from bench.stage import Stage, fill_inbox, pack

_MANY, _FEW = 100_000, 1_000
_ROUNDS = 2
_PATIENCE = 180.0
# Refresh has its turn after a drain: what it loads belongs to both.
_AFTERWARDS = 3.0
_PENDING = "SELECT EXISTS (SELECT FROM inbox WHERE state = 'pending')"


def memory(stage: Stage, results: Results) -> None:
    """Measure `memory_100k_vs_1k`: 100,000 deliveries of one event each, all waiting at once or a thousand at a time, a fresh worker for each."""
    with stage.database() as url, psycopg.connect(url, autocommit=True) as connection:
        bodies = pack(deliveries(new_ids(_MANY), size=1))
        numbers = alternate(
            _ROUNDS,
            many=lambda: _peak(stage, url, connection, [bodies]),
            few=lambda: _peak(
                stage, url, connection, [bodies[start : start + _FEW] for start in range(0, _MANY, _FEW)]
            ),
        )
    results.figures["memory_100k_vs_1k"] = ratio(numbers["many"], numbers["few"])
    for name, peaks in numbers.items():
        results.note(f"worker's peak memory, {name} waiting", ", ".join(f"{peak / 2**20:.0f} MB" for peak in peaks))


def _peak(stage: Stage, url: str, connection: psycopg.Connection, heaps: Sequence[Packed]) -> float:
    """Return the most that a worker held while it drained heap after heap."""
    connection.execute("TRUNCATE inbox, news, users")
    with stage.worker(stage.environ(url)) as worker:
        peak, deadline = 0.0, time.monotonic() + _PATIENCE
        for heap in heaps:
            fill_inbox(connection, heap)
            ring(stage)
            while connection.execute(_PENDING).fetchone() == (True,):
                stage.processes.check()
                if time.monotonic() > deadline:
                    raise SystemExit("bench: the inbox was not drained")
                peak = max(peak, tree_pss(worker.pid))
                time.sleep(0.02)
        end = time.monotonic() + _AFTERWARDS
        while time.monotonic() < end:
            peak = max(peak, tree_pss(worker.pid))
            time.sleep(0.02)
        return peak


def tree_pss(pid: int) -> float:
    """Return the bytes a process and its descendants hold, shared pages counted in proportion."""
    try:
        tree = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.NoSuchProcess:
        return 0.0
    return float(sum(_pss(one) for one in tree))


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
