"""Death in the middle: who is killed, who is started again, and how a lease of the dead ends without a wait for it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Final

import psutil

from local.processes import Process
from tests.journeys.stage import SCRIPTS, Stage
from worker.store import feeds, runs
from worker.sync import drain, refresh

Kill = Callable[[Stage], None]

# Nobody may wait longer for the dead.
_LEASES: Final = {
    "inbox SET claimed_until = claimed_until": drain.LEASE,
    "news SET leased_until = leased_until": refresh.LEASE,
    "pushes SET leased_until = leased_until": refresh.LEASE,
    "feeds SET leased_until = leased_until": feeds.LEASE,
    "runs SET leased_until = leased_until": runs.LEASE,
}


def kill_children(stage: Stage) -> None:
    """Kill the processes that do the work and not their parent, which replaces them."""
    for child in psutil.Process(stage.product.worker.pid).children():
        child.kill()


def kill_everything(stage: Stage) -> None:
    """Kill worker, beat and web at once, as a machine that goes down does."""
    for process in (stage.product.worker, stage.product.beat, stage.product.web):
        process.kill()


def start_again(stage: Stage) -> None:
    """Start what the Procfile starts; beat rings for everything when it starts, as it would within minutes."""
    stage.product.web.start()
    stage.product.worker.start()
    stage.replace_beat()


def let_leases_end(stage: Stage) -> None:
    """Turn the clock on by as long as each lease lasts, and no longer: from then on nobody waits for the dead."""
    for lease, length in _LEASES.items():
        stage.execute(f"UPDATE {lease} - {_interval(length)}")


def begin(stage: Stage, *arguments: str) -> Process:
    """Start a command of ours; what it says is in the stage's output, under its first word."""
    return stage.processes.start(arguments[0], [SCRIPTS / "understudy", *arguments], env=stage.environ)


def hang_once(stage: Stage, method: str, path: str) -> None:
    """Let the tenant leave one call, the next of its kind, without an answer for a minute."""
    match = {"method": method, "path": path}
    stage.faults({"where": "api", "kind": "hang", "seconds": 60, "times": 1, "match": match})


def hangs(stage: Stage) -> bool:
    """Say whether somebody waits for the answer that `hang_once` holds back."""
    return all(fault["times"] == 0 for fault in stage.tenant.control("GET", "faults")["faults"])


def is_leased(stage: Stage, table: str, where: str) -> bool:
    """Say whether somebody is at it now, by his lease."""
    return stage.count(f"{table} WHERE leased_until > now() AND {where}") > 0


def _interval(length: timedelta) -> str:
    return f"interval '{length.total_seconds()} s'"
