"""Replay: what was parked has another try, after a release or a setting that mends the cause."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Engine

from worker.store import parked, users
from worker.store.parked import Waiting
from worker.store.users import UserNews
from worker.sync import lines

# In one transaction: bodies of a few megabytes each, at worst.
BATCH = 500


@dataclass(slots=True)
class Replayed:
    """What became of it: how many are pending again, users to be asked for, still bad, and not kept at all."""

    pending: int = 0
    asked: int = 0
    still_bad: int = 0
    not_kept: int = 0


def replay(engine: Engine, ones: Sequence[Waiting]) -> Replayed:
    """Give what is parked back to where it came from; what is still bad is, or will be, parked again with its new reason.

    What somebody else replayed or dropped meanwhile is left alone.
    """
    done = Replayed(not_kept=sum(not one.kept for one in ones))
    for start in range(0, len(ones), BATCH):
        some = ones[start : start + BATCH]
        with engine.begin() as connection:
            done.pending += parked.give_back(connection, some)
        _replay_lines(engine, some, done)
    return done


def _replay_lines(engine: Engine, ones: Sequence[Waiting], done: Replayed) -> None:
    """Ask the tenant about the users of an export's lines: the lines themselves are as old as their export."""
    with engine.begin() as connection:
        readable: dict[str, UserNews] = {}
        served: list[int] = []
        for record_id, line in parked.lines(connection, ones):
            told = lines.read([line])
            for reason, _ in told.bad:
                parked.explain(connection, record_id, reason)
                done.still_bad += 1
            if told:
                readable |= {user_id: UserNews(user_id, strong=True) for user_id in told.ids()}
                served.append(record_id)
        users.mark(connection, readable.values())
        parked.drop_records(connection, served)
        done.asked += len(readable)
