"""What events say: snapshots applied to the rows they improve, deletions and doubts as news (P2, P6, P7, P11, P12)."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Final, TypeVar

from sqlalchemy import Connection, Engine

from worker.auth0.cloud_events import CloudEvent, Decoded, decode_events
from worker.domain.cloud_events import hear
from worker.domain.events import news_date
from worker.domain.snapshots import on_event
from worker.domain.users import Profile, Tolerances, Verdict, Write
from worker.store import forgotten, rhythm, users
from worker.store.session import without_waiting
from worker.store.users import Held, UserNews
from worker.sync.answers import suspect
from worker.sync.drain import HORIZON, Bad, Delivery, Finish, Writer
from worker.sync.learn import fresh

# What is pulled has a source of its own: an event stream that has died must not seem to deliver.
PULLED: Final = "pulled_events"


@dataclass(slots=True)
class Told:
    """What a batch of events says, merged by user."""

    snapshots: dict[str, list[Profile]] = field(default_factory=dict)
    news: dict[str, UserNews] = field(default_factory=dict)
    counted: Counter[str] = field(default_factory=Counter)
    bad: list[tuple[int, Bad]] = field(default_factory=list)
    dates: list[datetime] = field(default_factory=list)  # of users' events, by Auth0's clock

    def learn(self, inbox_id: int, event: CloudEvent, latest: datetime) -> None:
        """Merge what one event says; nothing depends on the order. No date after `latest` is believed."""
        heard = hear(event.type, event.time, event.a0purpose, event.data, latest)
        self.counted[heard.counted] += 1
        if heard.counted == "events_user" and (date := news_date(event.time, latest)) is not None:
            self.dates.append(date)
        if heard.snapshot is not None:
            self.snapshots.setdefault(heard.snapshot["user_id"], []).append(heard.snapshot)
        elif heard.news is not None:
            self.news.setdefault(heard.news.user_id, UserNews(heard.news.user_id)).hear(heard.news)
        elif heard.bad is not None:
            self.bad.append((inbox_id, (event.position, heard.bad, event.raw)))


@dataclass(frozen=True, slots=True)
class EventStream:
    """The source "events": what Auth0's event streams delivered; and PULLED: what was pulled of the same events."""

    tolerances: Tolerances
    name: str = "events"
    rings: str = "refresh"
    hurried: bool = True

    def decode(self, content: bytes) -> Decoded:
        """Return the events of a delivery and the bad ones."""
        return decode_events(content)

    def origin(self, record: CloudEvent) -> tuple[int, bytes]:
        """Return an event's place in its delivery, and its bytes as they came."""
        return record.position, record.raw

    def prepare(self, deliveries: Sequence[Delivery[CloudEvent]], now: datetime) -> Writer:
        """Merge what the events say; return what writes profiles and marks."""
        told, latest = Told(), now + HORIZON
        for delivery in deliveries:
            for event in delivery.records:
                told.learn(delivery.claimed.id, event, latest)
        return partial(self._write, told, latest)

    def _write(self, told: Told, latest: datetime, engine: Engine, finish: Finish) -> Mapping[str, int]:
        """Write profiles and marks.

        News goes first, and so do the ids that a snapshot gains or loses (P7), each in a transaction of its own: a crash
        in between costs a read, no snapshot wins over a deletion of its own batch, and no lock is taken out of order.
        """
        if told.news:
            with engine.begin() as connection:
                without_waiting(connection)
                users.mark(connection, told.news.values())

        def rule(held: Held, snapshots: Sequence[Profile]) -> tuple[Verdict, Profile]:
            return on_event(held.row, held.mark, snapshots, self.tolerances, latest)

        def end(connection: Connection) -> None:
            finish(connection, {**told.counted, **fresh(self.name, told.dates)}, told.bad)
            if told.dates:
                rhythm.date(connection, self.name, max(told.dates))

        written = improve(engine, told.snapshots, rule, end)
        return {"events": told.counted.total(), "users": len(told.snapshots), "written": written, "bad": len(told.bad)}


T = TypeVar("T")


def improve(
    engine: Engine,
    told: Mapping[str, T],
    rule: Callable[[Held, T], tuple[Verdict, Profile]],
    finish: Callable[[Connection], None],
) -> int:
    """Write what `rule` makes of what was told of each user; return how many profiles changed.

    `finish` is called in the transaction that writes them. Ids that a snapshot gains or loses are marked before (P7).
    Nothing is made of what was told of somebody kept out (P14).
    """
    marked: frozenset[str] = frozenset()
    while True:
        with engine.begin() as connection:
            without_waiting(connection)
            if out := forgotten.kept_out(connection, told):
                told = {user_id: said for user_id, said in told.items() if user_id not in out}
            held = users.create_and_lock(connection, sorted(told, key=str.encode))
            verdicts = {user_id: rule(held[user_id], said) for user_id, said in told.items()}
            others = frozenset[str]().union(*(verdict.ask_others for verdict, _ in verdicts.values())) - marked
            if not others:
                written = _carry_out(connection, held, verdicts)
                finish(connection)
                return written
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
    # What a mark learned beside the profile stays when it goes (P3).
    settled = [
        user_id for user_id, (verdict, _) in verdicts.items() if verdict.clear and verdict.write is Write.NOTHING
    ]
    users.confirm(connection, settled, answered=False)
    asking = [user_id for user_id, (verdict, _) in verdicts.items() if verdict.ask]
    users.mark(connection, [UserNews(user_id, strong=True) for user_id in asking])
    served = {
        user_id: mark.number
        for user_id, (verdict, _) in verdicts.items()
        if verdict.clear and (mark := held[user_id].mark) is not None
    }
    users.clear(connection, served)
    suspect(connection, better)
    return len(better)
