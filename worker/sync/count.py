"""What plays add up to: each kept once, counted into its playlist, its owner marked for a push (P25)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from sqlalchemy import Connection, Engine

from worker.domain import plays as rules
from worker.queue import plays as wire
from worker.store import forgotten, plays, pushes
from worker.store.session import without_waiting
from worker.sync.drain import Bad, Delivery, Finish, Writer

Line = tuple[int, wire.Play]


@dataclass(frozen=True, slots=True)
class Plays:
    """The source "plays": `cap` of one listener's plays of one playlist count a day."""

    cap: int
    name: str = wire.SOURCE
    rings: str = "push"
    hurried: bool = False

    def decode(self, content: bytes) -> tuple[Sequence[Line], Sequence[Bad]]:
        """Return the plays of a body, each with its line's number, and the lines that are none."""
        return wire.decode(content)

    def origin(self, record: Line) -> tuple[int, bytes]:
        """Return a play's line number, and the line."""
        position, play = record
        return position, wire.encode(play)

    def prepare(
        self,
        deliveries: Sequence[Delivery[Line]],
        now: datetime,  # noqa: ARG002 a play counts for the day it arrived, not for today
    ) -> Writer:
        """Return what counts them, in one transaction; a play whose playlist is gone is counted as dropped."""
        arrived = [
            rules.Play(play.playlist_id, play.listener, play.play_id, play.owner, delivery.claimed.received_at)
            for delivery in deliveries
            for _, play in delivery.records
        ]
        return partial(self._write, len(arrived), rules.once(arrived))

    def _write(self, arrived: int, batch: Sequence[rules.Play], engine: Engine, finish: Finish) -> Mapping[str, int]:
        with engine.begin() as connection:
            without_waiting(connection)
            counted = self._count(connection, batch)
            pushes.mark(connection, {play.owner for play in batch if play.playlist_id in counted.by_playlist})
            total = sum(counted.by_playlist.values())
            finish(connection, {"plays_counted": total, "plays_dropped": counted.dropped}, [])
        return {"plays": arrived, "counted": total, "dropped": counted.dropped}

    def _count(self, connection: Connection, batch: Sequence[rules.Play]) -> plays.Counted:
        """Count; of somebody forgotten since, as nobody's plays (P14)."""
        out = forgotten.among(connection, {play.listener for play in batch})
        if not out:
            return plays.count(connection, batch, self.cap)
        there = plays.lock(connection, {play.playlist_id for play in batch})
        theirs = [play for play in batch if play.listener in out]
        known = plays.made_anonymous(connection, theirs)
        fresh = [play for play in batch if play.listener not in out or (play.playlist_id, play.play_id) not in known]
        counted = plays.count(connection, fresh, self.cap)
        plays.make_anonymous(connection, out, there)
        plays.forget_days(connection, out)
        return counted


def clean_plays(engine: Engine, *, go_on: Callable[[], bool]) -> None:
    """Delete the plays of playlists that are gone, until none is left or `go_on` says stop."""
    last: int | None = 0
    while last is not None and go_on():
        with engine.begin() as connection:
            last, gone = plays.gone(connection, last)
        deleted = bool(gone)
        while deleted and go_on():
            with engine.begin() as connection:
                deleted = plays.clean(connection, gone) > 0
