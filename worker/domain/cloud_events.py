"""Says what an event of Auth0's event streams means for the copy: a snapshot of one user, news of one, or nothing.

Unlike a log record it carries the profile as it was at `updated_at`. Types and payloads: https://auth0.com/docs/events
"""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from worker.domain.news import EARLIEST, LATEST, News, Unreadable, changed, gone, inside, news_date, user_id
from worker.domain.users import Profile, profile_time


class Heard(NamedTuple):
    """What follows from one event: one of its fields is set, or `counted` alone."""

    counted: str  # the counter that it adds to
    snapshot: Profile | None = None
    news: News | None = None
    bad: str | None = None  # to be parked, and why

    def __repr__(self) -> str:
        return f"<heard {self.counted}>"  # the rest is personal


def hear(kind: str, time: object, purpose: object, data: object, latest: datetime = LATEST) -> Heard:
    """Return what follows from an event: its `type`, `time`, `a0purpose` and `data` as they came. Never raises.

    A deletion is believed for its id alone: some carried nothing else. A payload without `updated_at` is news (P2), and so is one
    that is dated after `latest`: as a snapshot it would not be outdone before then.
    """
    if purpose == "test":
        return Heard("events_test")
    if kind not in ("user.created", "user.updated", "user.deleted"):
        return Heard("events_other")
    said = inside(data, "object")
    try:
        subject = user_id(inside(said, "user_id"))
    except Unreadable as error:
        return Heard("events_user", bad=str(error))
    if subject is None or not isinstance(said, Mapping):
        return Heard("events_user", bad="a user's event without the user's id")
    updated_at = profile_time(said.get("updated_at"))
    if kind != "user.deleted" and updated_at is not None and EARLIEST <= updated_at <= latest:
        return Heard("events_user", snapshot=said)
    date = news_date(said.get("deleted_at"), latest) or news_date(time, latest)
    return Heard("events_user", news=gone(subject, date) if kind == "user.deleted" else changed(subject, date))
