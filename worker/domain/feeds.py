"""Where a pull goes on: checkpoints of the tenant's log, and which of them nothing can come to stand before any more (P23)."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import takewhile
from typing import NamedTuple


class Checkpoint(NamedTuple):
    """A record of the log to go on from: its log_id, and its date (Auth0's clock)."""

    log_id: str
    at: datetime


class Entry(NamedTuple):
    """A record of the log as it stands there; `date` None where it says none that can be right."""

    log_id: str
    date: datetime | None


def settle(history: Sequence[Checkpoint], page: Sequence[Entry], until: datetime) -> list[Checkpoint]:
    """Return what `history` becomes by a page that begins behind its last: first the newest record to begin behind again.

    Auth0 orders its log by ids, not by dates, and writes records late: what was read may still grow in its middle. It does
    not grow before a record that is older than the latest can be (dated `until` or earlier), unless a younger one stands
    before that. While none does, the last record of the page is the last of the history: what stands behind it may settle
    too. Records without a date settle nothing, and hold nothing up.
    """
    old = list(takewhile(lambda one: one.date is None or one.date <= until, page))
    dated = [Checkpoint(one.log_id, one.date) for one in old if one.date is not None]
    newest = dated[-1] if dated else history[0]
    if not page or len(old) < len(page) or page[-1].log_id == newest.log_id:
        return [newest]
    return [newest, Checkpoint(page[-1].log_id, newest.at)]


def log_retention(plan: str) -> timedelta:
    """Return for how long a plan keeps the tenant's log. Source: auth0.com/docs, "Log Data Retention"."""
    return timedelta(days={"free": 1, "essentials": 5, "professional": 10}.get(plan, 30))


def event_connections(plan: str) -> int:
    """Return how many connections for events a plan allows, event streams and readers together.

    Source: auth0.com/docs, "Consume Events with the Events API".
    """
    return {"free": 1, "essentials": 4, "professional": 4}.get(plan, 8)


def falls_behind(age: float, kept: timedelta) -> bool:
    """Whether what a pull stands for is so old (seconds) that it may be forgotten unread before anybody acts: a tenth of the time."""
    return age > kept.total_seconds() / 10
