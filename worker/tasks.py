"""The Celery tasks: each unpacks nothing, runs one loop for a slice, and rings again where more is waiting."""

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial

from celery import Celery
from redis.exceptions import RedisError
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from worker.bootstrap import BEAT, RECONCILE_SLICE, SLICE, SWEEP_SLICE, parts, this_worker
from worker.errors import Error, Permanent, Transient
from worker.logs import describe, get_logger
from worker.store import heard, inbox, notes, page_sessions, plays, pushed, runs
from worker.sync.count import clean_plays
from worker.sync.drain import take_turns
from worker.sync.sweep import sweep as sweep_users

log = get_logger(__name__)


def register(app: Celery) -> None:
    """Register every task with the app."""
    for task in (drain, refresh, push, sweep, reconcile, catch_up, listen, heal, clean, heartbeat):
        app.task(name=f"worker.tasks.{task.__name__}")(_guarded(task))


def drain() -> None:
    """Drain the inbox for a slice; ring for who has work by that, and again for itself where more is pending."""
    parts().doorbell.answered("drain")
    go_on = _slice()
    take_turns(parts().engine, parts().sources, go_on=go_on, ring=parts().doorbell.ring)
    if not go_on():
        parts().doorbell.ring("drain")


def refresh() -> None:
    """Read users that have news for a slice; ring again when the budget allows more."""
    parts().doorbell.answered("refresh")
    loop = parts().refresh()
    again = loop.run(go_on=_slice())
    if again is not None:
        parts().doorbell.ring("refresh", countdown=again or None)
    if loop.suspected:
        parts().doorbell.ring("push")


def push() -> None:
    """Push what was earned or wished for a slice; ring again when more is due or the budget allows more."""
    parts().doorbell.answered("push")
    again = parts().push().run(go_on=_slice())
    if again is not None:
        parts().doorbell.ring("push", countdown=again or None)


def sweep() -> None:
    """Look for what must be pushed though nobody asked for it; ring for push where there is some."""
    if sweep_users(parts().engine, parts().planner, go_on=_slice(SWEEP_SLICE)):
        parts().doorbell.ring("push")


def reconcile() -> None:
    """Do a slice of a reconcile, if one is due; ring again where it goes on."""
    parts().doorbell.answered("reconcile")
    again = parts().reconcile().run(go_on=_slice(RECONCILE_SLICE))
    if again is not None:
        parts().doorbell.ring("reconcile", countdown=again or None)
    parts().doorbell.ring("refresh")


def catch_up() -> None:
    """Pull a slice of the tenant's log, where that is on; ring for drain, and again for itself where there is more."""
    parts().doorbell.answered("catch_up")
    loop = parts().catch_up()
    if loop is None:
        return
    again = loop.run(go_on=_slice())
    if loop.pages_read:
        parts().doorbell.ring("drain")
    if again is not None:
        parts().doorbell.ring("catch_up", countdown=again or None)


def listen() -> None:
    """Pull the tenant's events for a slice, where that is on; ring for drain, and again for itself where there is more.

    Where it is off, look for some where their stream is silent for longer than usual.
    """
    parts().doorbell.answered("listen")
    loop = parts().listen()
    if loop is None:
        probe = parts().probe()
        if probe is not None:
            probe.run(go_on=_slice())
        return
    again = loop.run(go_on=_slice())
    if loop.events_read:
        parts().doorbell.ring("drain")
    if again is not None:
        parts().doorbell.ring("listen", countdown=again or None)


def heal() -> None:
    """Look after the tenant's streams to us, where that is on."""
    loop = parts().heal()
    if loop is not None:
        loop.run(go_on=_slice())


def clean() -> None:
    """Delete what has outlived its use, each kind for a slice at most."""
    with parts().engine.begin() as connection:
        notes.forget_quiet_processes(connection)
    _repeat(partial(inbox.clean, retention=parts().settings.inbox_retention))
    _repeat(plays.clean_days)
    _repeat(partial(pushed.clean, retention=parts().settings.inbox_retention))
    _repeat(page_sessions.clean)
    chosen = parts().settings
    _repeat(partial(heard.clean, pulling=chosen.pulls_log, overlap=chosen.pull_overlap))
    _repeat(partial(runs.clean, keep=chosen.run_retention))
    clean_plays(parts().engine, go_on=_slice())


def heartbeat() -> None:
    """Note that beat rang and that a worker answered."""
    with parts().engine.begin() as connection:
        notes.seen(connection, BEAT)
        notes.seen(connection, this_worker())


def _repeat(clean_some: Callable[[Connection], int]) -> None:
    """Delete by bounded batches until nothing is left, or for a slice."""
    go_on = _slice()
    deleted = 1
    while deleted and go_on():
        with parts().engine.begin() as connection:
            deleted = clean_some(connection)


def _slice(length: timedelta = SLICE) -> Callable[[], bool]:
    """Return a function that says whether a slice of time, from now, is still running."""
    end = time.monotonic() + length.total_seconds()
    return lambda: time.monotonic() < end


def _guarded(task: Callable[[], None]) -> Callable[[], None]:
    """Turn what a loop raises into one log line: nothing is retried here, beat rings again anyway."""

    def run() -> None:
        began = time.monotonic()
        try:
            task()
            parts().durations.took(parts().engine, task.__name__, time.monotonic() - began)
        except Transient as error:
            log.warning("waits", task=task.__name__, reason=str(error))
        except Permanent as error:
            log.error("cannot go on", task=task.__name__, reason=str(error))
        except (OperationalError, RedisError) as error:
            log.warning("waits", task=task.__name__, reason=describe(error))
        except Exception as error:  # Celery would log its text, which may quote an id or a whole row
            log.error("failed", task=task.__name__, exc_info=error)
        else:
            return
        with suppress(Error, OperationalError):  # PostgreSQL may be what is away
            parts().durations.failed(parts().engine, task.__name__)

    run.__doc__ = task.__doc__
    return run
