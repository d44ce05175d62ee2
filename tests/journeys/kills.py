"""Death in the middle: who is killed, who is started again, and how a lease of the dead ends without a wait for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

import psutil
import psycopg

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


def hang_once(stage: Stage, method: str, path: str) -> None:
    """Let the tenant leave one call, the next of its kind, without an answer for a minute."""
    match = {"method": method, "path": path}
    stage.faults({"where": "api", "kind": "hang", "seconds": 60, "times": 1, "match": match})


def hangs(stage: Stage) -> bool:
    """Say whether somebody waits for the answer that `hang_once` holds back."""
    return all(fault["times"] == 0 for fault in stage.tenant.control("GET", "faults")["faults"])


@contextmanager
def killed(stage: Stage, *command: str) -> Iterator[None]:
    """Start a command of ours, and kill it where the context ends: it must not be over by then."""
    process = stage.processes.start(command[0], [SCRIPTS / "understudy", *command], env=stage.environ)
    yield
    stage.processes.check()
    process.kill()


@contextmanager
def held_before(stage: Stage, table: str, when: str, doing: str = "INSERT OR UPDATE") -> Iterator[Callable[[], bool]]:
    """Hold up whoever is about to write such a row (`NEW.state = 'complete'`); yield what says whether somebody is."""
    trigger = (
        "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN coalesce(NEW, OLD); END $$; "
        f"CREATE TRIGGER hold BEFORE {doing} ON {table} FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION hold()"
    )
    waiting = "pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'"
    with psycopg.connect(stage.database_url, autocommit=True) as lock:
        lock.execute("SELECT pg_advisory_lock(1)")
        stage.execute(trigger)
        yield lambda: stage.count(waiting) > 0
    stage.execute(f"DROP TRIGGER hold ON {table}; DROP FUNCTION hold()")


def is_leased(stage: Stage, table: str, where: str) -> bool:
    """Say whether somebody is at it now, by his lease."""
    return stage.count(f"{table} WHERE leased_until > now() AND {where}") > 0


def _interval(length: timedelta) -> str:
    return f"interval '{length.total_seconds()} s'"
