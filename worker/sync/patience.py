"""Waits, in a process that a person watches: for the budget, for an export to be complete, for what others are at to end."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, TypeVar

from worker.auth0.exports import Exports, Job, JobGone
from worker.auth0.pace import Budget, Group
from worker.errors import BrokerDown, Throttled

# Between looks at a job under way, in seconds; the last is repeated.
_LOOKS: Final = (0.5, 1.0, 2.0, 4.0, 8.0)

T = TypeVar("T")


def complete_job(
    exports: Exports,
    budget: Budget,
    position: dict[str, Any],
    note: Callable[[dict[str, Any]], None],
    preparing: Callable[[float], None],
) -> tuple[Job, dict[str, Any]]:
    """Return the job that `position` names, complete and with a fresh link; asks for one where there is none, or none any more.

    The position that comes with it names the job, and says how many of its lines were read; `note` is called to keep it.
    Raises NoExport where there is none to be had.
    """
    looks = iter(_LOOKS)
    while True:
        job_id: str | None = position.get("job")
        try:
            job = when_allowed(budget, "other", partial(exports.look, job_id) if job_id else exports.begin)
        except JobGone:
            position = {}
            continue
        position = {"job": job.id, "lines": position.get("lines", 0)}
        note(position)
        if job.done:
            return job, position
        preparing(job.percentage or 0.0)
        time.sleep(next(looks, _LOOKS[-1]))


def when_allowed(budget: Budget, group: Group, call: Callable[[], T]) -> T:
    """Call once the budget allows it: mass work is last, and never starves."""
    while True:
        grant = budget.take(group, "mass")
        if not grant.granted:
            time.sleep(max(grant.wait, 0.05))
            continue
        try:
            return call()
        except Throttled as throttled:
            time.sleep(throttled.retry_after or 1.0)


class Allowance:
    """Tokens for many calls of one group, taken a few at a time: mass work is last, and never starves. For one event loop."""

    def __init__(self, budget: Budget, group: Group, at_once: int) -> None:
        self._budget, self._group, self._at_once = budget, group, at_once
        self._left = 0

    async def call(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call once the budget allows it."""
        while True:
            while not self._left:
                grant = self._budget.take(self._group, "mass", self._at_once)
                if grant.granted:
                    self._left += grant.granted
                else:
                    await asyncio.sleep(max(grant.wait, 0.05))
            self._left -= 1
            try:
                return await call()
            except Throttled as throttled:
                self._left = 0  # a pause has begun, and what was granted before it counts for nothing
                await asyncio.sleep(throttled.retry_after or 1.0)

    def close(self) -> None:
        """Give back what was not spent."""
        left, self._left = self._left, 0
        if left:
            with contextlib.suppress(BrokerDown):
                self._budget.give_back(self._group, "mass", left)


def before_long(budget: Budget, group: Group, call: Callable[[], T], patience: float) -> T:
    """Call once the budget allows it, ahead of everything; raises Throttled where it does not within `patience` seconds."""
    deadline = time.monotonic() + patience
    while True:
        grant = budget.take(group, "now")
        if grant.granted:
            try:
                return call()
            except Throttled as throttled:
                wait = throttled.retry_after or 1.0
        else:
            wait = max(grant.wait, 0.05)
        if time.monotonic() + wait > deadline:
            raise Throttled(f"the request budget did not allow a read within {patience:.0f} s: see `understudy status`")
        time.sleep(wait)
