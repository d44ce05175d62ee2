"""Applies the deliveries of an event stream: snapshots to the rows they improve, deletions and doubts as news (P2, P6, P7, P11, P12)."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, Engine

from worker.auth0.cloud_events import Events
from worker.auth0.wire import BadRecord
from worker.domain.cloud_events import hear
from worker.domain.snapshots import on_event
from worker.domain.users import Profile, Tolerances, Verdict, Write
from worker.store import users
from worker.store.users import Held, UserNews


@dataclass(slots=True)
class Told:
    """What a batch of events says, merged by user."""

    snapshots: dict[str, list[Profile]] = field(default_factory=dict)
    news: dict[str, UserNews] = field(default_factory=dict)
    counted: Counter[str] = field(default_factory=Counter)
    parked: list[tuple[int, BadRecord]] = field(default_factory=list)

    def learn(self, inbox_id: int, delivery: Events, latest: datetime) -> None:
        """Merge all that a delivery says; nothing depends on the order. No date after `latest` is believed."""
        self.parked += [(inbox_id, one) for one in delivery.bad]
        for position, event, raw in delivery.events:
            heard = hear(event.type, event.time, event.a0purpose, event.data, latest)
            self.counted[heard.counted] += 1
            if heard.snapshot is not None:
                self.snapshots.setdefault(heard.snapshot["user_id"], []).append(heard.snapshot)
            elif heard.news is not None:
                held = self.news.setdefault(heard.news.user_id, UserNews(heard.news.user_id))
                held.hear(heard.news)
            elif heard.bad is not None:
                self.parked.append((inbox_id, BadRecord(position, heard.bad, raw)))


def write(engine: Engine, told: Told, tolerances: Tolerances, finish: Callable[[Connection], None]) -> int:
    """Write what a batch says; return how many profiles changed. `finish` is called in the transaction that ends the batch.

    News goes first, and so do the ids that a snapshot gains or loses (P7), each in a transaction of its own: a crash in
    between costs a read, no snapshot wins over a deletion of its own batch, and no lock is taken out of order.
    """
    if told.news:
        with engine.begin() as connection:
            users.mark(connection, told.news.values())
    marked: frozenset[str] = frozenset()
    while True:
        with engine.begin() as connection:
            held = users.create_and_lock(connection, sorted(told.snapshots, key=str.encode))
            verdicts = {
                user_id: on_event(held[user_id].row, held[user_id].mark, snapshots, tolerances)
                for user_id, snapshots in told.snapshots.items()
            }
            others = frozenset[str]().union(*(verdict.ask_others for verdict, _ in verdicts.values())) - marked
            if not others:
                changed = _carry_out(connection, held, verdicts)
                finish(connection)
                return changed
        gone = frozenset[str]().union(*(verdict.expected_gone for verdict, _ in verdicts.values()))
        with engine.begin() as connection:
            users.mark(connection, [UserNews(one, strong=True, deletion_announced=one in gone) for one in others])
        marked |= others


def _carry_out(
    connection: Connection, held: Mapping[str, Held], verdicts: Mapping[str, tuple[Verdict, Profile]]
) -> int:
    better = [
        (held[user_id].row, said) for user_id, (verdict, said) in verdicts.items() if verdict.write is Write.SNAPSHOT
    ]
    users.write_snapshots(connection, better)
    asking = [user_id for user_id, (verdict, _) in verdicts.items() if verdict.ask]
    users.mark(connection, [UserNews(user_id, strong=True) for user_id in asking])
    users.clear(
        connection,
        {
            user_id: mark.number
            for user_id, (verdict, _) in verdicts.items()
            if verdict.clear and (mark := held[user_id].mark) is not None
        },
    )
    return len(better)
