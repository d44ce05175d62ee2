"""A stand-in for the route and for the worker: it puts plays into the inbox and has them counted."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, text

from worker.queue.plays import Play, encode
from worker.store import inbox
from worker.sync import drain as loop
from worker.sync.count import Plays

NOON = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
OWNER = "auth0|ada"


def play(number: int = 1, listener: str = "auth0|bob", playlist_id: int = 1, owner: str = OWNER) -> Play:
    """Return a play; the same number is the same `play_id`."""
    return Play(listener, owner, playlist_id, UUID(int=number))


class Radio:
    """Plays, as they come and are counted: at most `cap` a listener, playlist and day."""

    def __init__(self, engine: Engine, cap: int = 10) -> None:
        self.engine = engine
        self.source = Plays(cap)

    def makes_playlists(self, *owners: str) -> None:
        """Make playlists 1, 2, … of these owners."""
        with self.engine.begin() as connection:
            for owner in owners:
                connection.execute(text("INSERT INTO playlists (user_id, name) VALUES (:owner, 'p')"), {"owner": owner})

    def hears(self, *plays: Play, at: datetime = NOON) -> int:
        """Store plays that arrived together, in one body."""
        return self.hears_bytes(b"\n".join(encode(one) for one in plays), at=at)

    def hears_bytes(self, body: bytes, at: datetime = NOON) -> int:
        statement = "INSERT INTO inbox (source, received_at, encoding, size, body) VALUES ('plays', :at, 'identity', :size, :body) RETURNING id"
        with self.engine.begin() as connection:
            return int(connection.execute(text(statement), {"at": at, "size": len(body), "body": body}).scalar_one())

    def counts(self) -> int:
        """Count what waits, as the worker does; return how many bodies that were."""
        return loop.drain(self.engine, self.source, go_on=lambda: True)

    def claims(self, rows: int, *, lease: timedelta = loop.LEASE) -> list[inbox.Claimed]:
        with self.engine.begin() as connection:
            return inbox.claim(connection, "plays", rows=rows, size=10**7, lease=lease)

    def ends(self, claimed: Sequence[inbox.Claimed]) -> None:
        """Count a claim."""
        if claimed:
            loop._drain_batch(self.engine, self.source, claimed)

    def ask(self, sql: str) -> list[Any]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(sql))]

    def sums(self) -> dict[int, int]:
        """Return the playlists' plays, by id."""
        return dict(self.ask("SELECT playlist_id, plays FROM playlists"))
