"""Where a pull goes on: checkpoints of the tenant's log, and how far back the next reading begins (P23)."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

# Checkpoints are kept this densely: a twentieth of the overlap, so that no history is longer than some twenty of them.
_SHARE = 20


class Checkpoint(NamedTuple):
    """A log_id, and the newest date among the records up to it (Auth0's clock)."""

    log_id: str
    at: datetime


def remember(history: Sequence[Checkpoint], new: Checkpoint, overlap: timedelta) -> list[Checkpoint]:
    """Add a checkpoint, the newest last; drop those that no overlap reaches any more, but for the last of them."""
    kept = [*history]
    if not kept or new.at - kept[-1].at >= overlap / _SHARE:
        kept.append(new)
    while len(kept) > 1 and kept[1].at <= new.at - overlap:
        del kept[0]
    return kept


def begin_again_from(history: Sequence[Checkpoint], now: datetime, overlap: timedelta) -> str | None:
    """Return the newest checkpoint that is older than the overlap, else the oldest there is; None without any.

    Auth0 orders its log by ids, and writes records late: what was read to its end may since have grown in its middle.
    `now` is Auth0's clock too.
    """
    old = [one for one in history if one.at <= now - overlap]
    chosen = old[-1] if old else next(iter(history), None)
    return None if chosen is None else chosen.log_id


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
