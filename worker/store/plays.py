"""The plays in PostgreSQL: kept once, counted within the cap, their sums beside the playlists (P25).

Whoever counts holds the locks of all playlists of his batch, taken by ascending id before anything else: so two workers
never wait for each other in a circle, a playlist cannot be deleted meanwhile, and what the statement reads stays true
until it commits. `plays` and `play_days` are written under these locks alone.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import Connection, text

from worker.domain.plays import Play

_LOCK = """
SELECT playlist_id FROM playlists WHERE playlist_id = ANY (%(ids)b::bigint[]) ORDER BY playlist_id FOR NO KEY UPDATE
"""

# A statement of its own, after the locks: its snapshot sees what the last holder of each lock committed. Both look-ups
# are subqueries, not joins, so that they stay index look-ups under a plan made while the tables were small.
_COUNT = """
WITH fresh AS (
  SELECT batch.*, may_count AND
    row_number() OVER (PARTITION BY playlist_id, listener, day, may_count ORDER BY played_at, play_id)
    + coalesce((SELECT held.counted FROM play_days held
                WHERE (held.listener, held.playlist_id, held.day) = (batch.listener, batch.playlist_id, batch.day)), 0)
    <= %(cap)b::bigint AS counted
  FROM unnest(
    %(playlists)b::bigint[], %(listeners)b::text[], %(play_ids)b::uuid[],
    %(times)b::timestamptz[], %(days)b::date[], %(may_count)b::boolean[]
  ) AS batch (playlist_id, listener, play_id, played_at, day, may_count)
  WHERE (SELECT true FROM plays held
         WHERE (held.playlist_id, held.listener, held.play_id) = (batch.playlist_id, batch.listener, batch.play_id)) IS NULL
), kept AS (
  INSERT INTO plays (playlist_id, listener, play_id, played_at, counted)
  SELECT playlist_id, listener, play_id, played_at, counted FROM fresh
), today AS (
  INSERT INTO play_days AS held (listener, playlist_id, day, counted)
  SELECT listener, playlist_id, day, count(*) FROM fresh WHERE counted GROUP BY listener, playlist_id, day
  ON CONFLICT (listener, playlist_id, day) DO UPDATE SET counted = held.counted + excluded.counted
), sums AS (
  SELECT playlist_id, count(*) AS plays FROM fresh WHERE counted GROUP BY playlist_id
), summed AS (
  UPDATE playlists SET plays = playlists.plays + sums.plays FROM sums WHERE playlists.playlist_id = sums.playlist_id
)
SELECT playlist_id, plays FROM sums
"""


@dataclass(frozen=True, slots=True)
class Counted:
    """What became of a batch: how many plays were added to each playlist, and how many found theirs gone."""

    by_playlist: Mapping[int, int]
    dropped: int


def lock(connection: Connection, playlist_ids: Iterable[int]) -> set[int]:
    """Lock those of these playlists that are there, and return them."""
    return set(connection.exec_driver_sql(_LOCK, {"ids": list(playlist_ids)}).scalars())


def count(connection: Connection, plays: Sequence[Play], cap: int) -> Counted:
    """Keep the plays that are new, and count those of them that may count, at most `cap` a listener, playlist and day.

    Each play is there once (`domain.plays.once`).
    """
    there = lock(connection, {play.playlist_id for play in plays})
    kept = [play for play in plays if play.playlist_id in there]
    if not kept:
        return Counted({}, len(plays))
    counted = connection.exec_driver_sql(
        _COUNT,
        {
            "cap": cap,
            "playlists": [play.playlist_id for play in kept],
            "listeners": [play.listener for play in kept],
            "play_ids": [play.play_id for play in kept],
            "times": [play.received_at for play in kept],
            "days": [play.day for play in kept],
            "may_count": [play.may_count for play in kept],
        },
    )
    return Counted({row.playlist_id: row.plays for row in counted}, len(plays) - len(kept))


NOBODY: Final = ""
"""The listener of plays whose listener was forgotten (P14)."""

# An id that the same client-made number meets is another listener's: both plays stay.
_MAKE_ANONYMOUS = text("""
INSERT INTO plays (playlist_id, listener, play_id, played_at, counted)
SELECT playlist_id, '', CASE
    WHEN EXISTS (SELECT FROM plays held WHERE (held.playlist_id, held.listener, held.play_id) = (plays.playlist_id, '', plays.play_id))
    THEN gen_random_uuid() ELSE play_id END, played_at, counted
FROM plays WHERE listener = :listener AND playlist_id = ANY(CAST(:playlists AS bigint[]))
""")
_DELETE_OF = text("DELETE FROM plays WHERE listener = :listener AND playlist_id = ANY(CAST(:playlists AS bigint[]))")


def make_anonymous(connection: Connection, listeners: Collection[str], playlist_ids: Collection[int]) -> int:
    """Make these listeners' plays of these playlists nobody's, and return how many; the caller holds the playlists' locks."""
    made = 0
    for listener in sorted(listeners):
        asked = {"listener": listener, "playlists": list(playlist_ids)}
        made += connection.execute(_MAKE_ANONYMOUS, asked).rowcount
        connection.execute(_DELETE_OF, asked)
    return made


_NOBODYS = text("""
SELECT playlist_id, play_id FROM plays JOIN unnest(CAST(:playlists AS bigint[]), CAST(:play_ids AS uuid[])) AS batch (playlist_id, play_id)
  USING (playlist_id, play_id) WHERE listener = ''
""")


def made_anonymous(connection: Connection, plays: Sequence[Play]) -> set[tuple[int, UUID]]:
    """Return which of these were counted before their listener was forgotten; the caller holds the playlists' locks."""
    asked = {"playlists": [play.playlist_id for play in plays], "play_ids": [play.play_id for play in plays]}
    return {(playlist_id, play_id) for playlist_id, play_id in connection.execute(_NOBODYS, asked)}


_FORGET_DAYS = text("DELETE FROM play_days WHERE listener = ANY(CAST(:listeners AS text[]))")


def forget_days(connection: Connection, listeners: Collection[str]) -> None:
    """Delete what these listeners' plays are counted against."""
    connection.execute(_FORGET_DAYS, {"listeners": list(listeners)})


# Along the primary key, from one playlist to the next: a step for each playlist, however many plays it has.
_SLICE = text("""
WITH RECURSIVE played (playlist_id) AS (
  SELECT min(playlist_id) FROM plays WHERE playlist_id > :after
  UNION ALL
  SELECT (SELECT min(plays.playlist_id) FROM plays WHERE plays.playlist_id > played.playlist_id)
  FROM played WHERE played.playlist_id IS NOT NULL
), slice AS (
  SELECT playlist_id FROM played WHERE playlist_id IS NOT NULL LIMIT :playlists
)
SELECT max(playlist_id) AS last, array_agg(playlist_id) FILTER (
  WHERE NOT EXISTS (SELECT FROM playlists WHERE playlists.playlist_id = slice.playlist_id)) AS gone
FROM slice
""")

_DELETE = text("""
DELETE FROM plays WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM plays WHERE playlist_id = ANY (CAST(:gone AS bigint[])) LIMIT :rows FOR UPDATE SKIP LOCKED))
""")

# A play that still waits in the inbox counts against the day of its arrival, however long ago that is.
_DELETE_DAYS = text("""
DELETE FROM play_days WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM play_days
  WHERE day < (least(now(), (SELECT received_at FROM inbox WHERE state = 'pending' AND source = 'plays' ORDER BY id LIMIT 1))
               AT TIME ZONE 'UTC')::date - 1
  LIMIT :rows FOR UPDATE SKIP LOCKED))
""")


def gone(connection: Connection, after: int, *, playlists: int = 1000) -> tuple[int | None, list[int]]:
    """Look at the next playlists that have plays, by ascending id from `after` on: (the last one, those that are gone).

    The last one is None where there are no more.
    """
    row = connection.execute(_SLICE, {"after": after, "playlists": playlists}).one()
    return row.last, row.gone or []


def clean(connection: Connection, gone: Sequence[int], *, rows: int = 5000) -> int:
    """Delete plays of playlists that are gone, at most `rows`; return how many went."""
    return connection.execute(_DELETE, {"gone": list(gone), "rows": rows}).rowcount


def clean_days(connection: Connection, *, rows: int = 20_000) -> int:
    """Delete what nothing is counted against any longer, at most `rows` listeners' days; return how many went."""
    return connection.execute(_DELETE_DAYS, {"rows": rows}).rowcount
