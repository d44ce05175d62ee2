"""Where each pull stands: one process at a time, and the place moves in the transaction that stores what was read."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec
import zstandard
from sqlalchemy import Connection, text

from worker.domain.feeds import Checkpoint

# Longer than one request takes at most; each page begins it anew. A pull that says nothing for this long has died.
LEASE = timedelta(seconds=120)

_HOLD = text("""
INSERT INTO feeds AS held (name, stands_for, tried_at, leased_until)
VALUES (:name, now() - :back, clock_timestamp(), now() + :lease)
ON CONFLICT (name) DO UPDATE SET tried_at = clock_timestamp(), leased_until = excluded.leased_until
WHERE held.leased_until IS NULL OR held.leased_until < now()
RETURNING name, position, stands_for, history, tried_at
""")

_KEEP_PLACE = text("""
INSERT INTO feeds (name, stands_for) VALUES (:name, now() - :back) ON CONFLICT (name) DO NOTHING
""")

_MOVE = text("""
UPDATE feeds SET position = :position, history = CAST(:history AS jsonb), stands_for = :stands_for,
  moved_at = now(), trouble = NULL, leased_until = now() + :lease
WHERE name = :name AND tried_at = :tried_at
""")

_RELEASE = text("""
UPDATE feeds SET leased_until = NULL, trouble = coalesce(:trouble, trouble) WHERE name = :name AND tried_at = :tried_at
""")

_PUT = text("INSERT INTO inbox (source, encoding, size, body) VALUES (:source, 'zstd', :size, :body)")


@dataclass(slots=True)
class Place:
    """Where a pull stands, under our lease. `position` None: nothing to go on from, begin at `stands_for`.

    `history` of the log: the record to begin behind when the end is reached, if one is known, and the last that was read
    before any young one. Where there is no position: when reading by date began, and the date it has reached, once for
    each page that ended at it.
    """

    name: str
    position: str | None
    stands_for: datetime
    history: list[Checkpoint]
    tried_at: datetime


def hold(connection: Connection, name: str, *, back: timedelta) -> Place | None:
    """Take the lease of a pull; None while somebody else has it. One that was never begun begins `back` ago. The caller commits."""
    found = connection.execute(_HOLD, {"name": name, "back": back, "lease": LEASE}).first()
    if found is None:
        return None
    history = [msgspec.convert(one, Checkpoint) for one in found.history]
    return Place(found.name, found.position, found.stands_for, history, found.tried_at)


def keep_place(connection: Connection, name: str, *, back: timedelta) -> None:
    """Settle that a pull which was never begun will begin `back` before now."""
    connection.execute(_KEEP_PLACE, {"name": name, "back": back})


def move(connection: Connection, place: Place) -> bool:
    """Keep where the pull stands now; False, and nothing is kept, where the lease was lost meanwhile."""
    moved = connection.execute(
        _MOVE,
        {
            "name": place.name,
            "position": place.position,
            "history": msgspec.json.encode(place.history).decode(),
            "stands_for": place.stands_for,
            "tried_at": place.tried_at,
            "lease": LEASE,
        },
    )
    return moved.rowcount == 1


def release(connection: Connection, place: Place, trouble: str | None = None) -> None:
    """Let others pull again, and note why this one failed."""
    connection.execute(_RELEASE, {"name": place.name, "tried_at": place.tried_at, "trouble": trouble})


def put(connection: Connection, source: str, bodies: Sequence[bytes]) -> None:
    """Store what was pulled in the inbox, beside what was delivered."""
    compressor = zstandard.ZstdCompressor(level=1)
    rows = [{"source": source, "size": len(body), "body": compressor.compress(body)} for body in bodies]
    if rows:
        connection.execute(_PUT, rows)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a pull is: seconds since its last success and its last beginning, and the age of what it stands for."""

    name: str
    age: float
    moved: float
    tried: float
    trouble: str | None


def standings(connection: Connection) -> list[Standing]:
    """Return how each pull that was ever begun is."""
    found = connection.execute(
        text("""
        SELECT name, extract(epoch FROM now() - stands_for)::float8, extract(epoch FROM now() - moved_at)::float8,
          extract(epoch FROM now() - tried_at)::float8, trouble
        FROM feeds ORDER BY name
        """)
    )
    return [Standing(*row) for row in found]
