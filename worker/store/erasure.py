"""Erases a person from the tables (P14): whose ids are one person's, what must have ended first, and every table that names somebody.

Locks `users`, `news`, then the hashes in `forgotten`, then what else there is, as the other writers do; songs and playlists in a
transaction of their own, before `pushes`, as those who count plays do.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from sqlalchemy import Connection, text

from worker.store import people
from worker.store.plays import make_anonymous

# Whose ids are one person's

_ALIASES = text("SELECT alias_id FROM aliases WHERE user_id = :primary")
_LIVES = text(
    "SELECT FROM users WHERE user_id = :id AND deleted_at IS NULL AND (synced_at IS NOT NULL OR linked_ids IS NOT NULL)"
)
# What tombstones remember of links, but for who is somebody else's by now, or stands alone.
_KIN = text("""
SELECT kin.id FROM (
  SELECT user_id AS id FROM users WHERE deleted_at IS NOT NULL AND former_ids && CAST(:ids AS text[])
  UNION SELECT unnest(former_ids) FROM users WHERE deleted_at IS NOT NULL AND user_id = ANY(CAST(:ids AS text[]))
) AS kin
WHERE NOT EXISTS (SELECT FROM users live WHERE live.user_id = kin.id AND live.deleted_at IS NULL AND live.synced_at IS NOT NULL)
  AND NOT EXISTS (SELECT FROM users holder WHERE holder.linked_ids @> ARRAY[kin.id] AND holder.deleted_at IS NULL)
""")


def person(connection: Connection, user_id: str) -> list[str]:
    """Return all ids of the person whom an id stands for, sorted: the primary's and its secondaries' (P13), as the last profile said."""
    primary = people.primary(connection, user_id)
    if primary is not None and connection.execute(_LIVES, {"id": primary}).first() is not None:
        return sorted({primary, *connection.execute(_ALIASES, {"primary": primary}).scalars()}, key=str.encode)
    ids: set[str] = {user_id}
    while more := set(connection.execute(_KIN, {"ids": list(ids)}).scalars()) - ids:
        ids |= more
    return sorted(ids, key=str.encode)


_ADDRESSES = text("""
SELECT address FROM users, unnest(ARRAY[email, phone_number]) AS address
WHERE user_id = ANY(CAST(:ids AS text[])) AND address IS NOT NULL
""")


def addresses(connection: Connection, ids: Collection[str]) -> set[str]:
    """Return the e-mail addresses and phone numbers that the copy has of these ids."""
    return set(connection.execute(_ADDRESSES, {"ids": list(ids)}).scalars())


# What must have ended

_TRANSACTIONS = text("""
SELECT locks.virtualtransaction
FROM pg_locks AS locks JOIN pg_stat_activity AS activity USING (pid)
WHERE locks.locktype = 'virtualxid' AND locks.granted AND locks.pid <> pg_backend_pid()
  AND activity.datname = current_database() AND coalesce(activity.backend_type, 'client backend') = 'client backend'
""")

_LEASES = text("""
SELECT 'news ' || user_id || ' ' || leased_until FROM news
WHERE user_id = ANY(CAST(:ids AS text[])) AND leased_until > clock_timestamp()
UNION ALL
SELECT 'pushes ' || user_id || ' ' || leased_until FROM pushes
WHERE user_id = ANY(CAST(:ids AS text[])) AND leased_until > clock_timestamp()
UNION ALL
SELECT 'inbox ' || id || ' ' || attempts FROM inbox WHERE state = 'pending' AND claimed_until > clock_timestamp()
""")


def open_transactions(connection: Connection) -> set[str]:
    """Return the names of all other transactions of this database that are open now, those that only read too."""
    return set(connection.execute(_TRANSACTIONS).scalars())


def open_leases(connection: Connection, ids: Collection[str]) -> set[str]:
    """Return the names of the leases on these users that are held now, and of the claims of deliveries."""
    return set(connection.execute(_LEASES, {"ids": list(ids)}).scalars())


_PENDING = text("SELECT count(*) FROM inbox WHERE state = 'pending' AND received_at <= :before")


def pending(connection: Connection, before: object) -> int:
    """Return how many deliveries that arrived until then wait to be drained."""
    return int(connection.execute(_PENDING, {"before": before}).scalar_one())


# What goes


class Standing(NamedTuple):
    """What must not have moved between a read and the erasure that rests on it: None where there is no row, or no mark."""

    version: int | None
    number: int | None


_STANDINGS = text("""
SELECT person.user_id, users.version, news.number
FROM unnest(CAST(:ids AS text[])) AS person (user_id) LEFT JOIN users USING (user_id) LEFT JOIN news USING (user_id)
""")


def standings(connection: Connection, ids: Collection[str]) -> dict[str, Standing]:
    """Return how each id stands."""
    return {
        user_id: Standing(version, number)
        for user_id, version, number in connection.execute(_STANDINGS, {"ids": list(ids)})
    }


# Tombstones of others too, that remember one of these ids from when it was linked to them.
_LOCK: Final = (
    text(
        "SELECT FROM users WHERE user_id = ANY(CAST(:ids AS text[])) OR former_ids && CAST(:ids AS text[]) "
        "ORDER BY user_id FOR UPDATE"
    ),
    text("SELECT FROM news WHERE user_id = ANY(CAST(:ids AS text[])) ORDER BY user_id FOR UPDATE"),
)


def lock(connection: Connection, ids: Collection[str]) -> Mapping[str, Standing]:
    """Lock the rows and marks of these ids, and return how they stand."""
    for statement in _LOCK:
        connection.execute(statement, {"ids": list(ids)})
    return standings(connection, ids)


# In the order in which writers lock them.
_BY_USER: Final = ("wishes", "pushes", "pushed", "sessions", "exported", "suspects", "news", "users")

_FORGET_LINKS = text("""
UPDATE users SET former_ids = (SELECT array_agg(id) FROM unnest(former_ids) AS id WHERE id <> ALL(CAST(:ids AS text[])))
WHERE former_ids && CAST(:ids AS text[])
""")

_MOVE_SWEEP = text("""
UPDATE sweep SET position = coalesce((SELECT max(user_id) FROM users WHERE user_id < sweep.position), '')
WHERE position = ANY(CAST(:ids AS text[]))
""")


def erase_rows(connection: Connection, ids: Collection[str]) -> Counter[str]:
    """Delete these ids' rows and marks, and what is kept about them beside; return how many rows of each table. `lock` them before."""
    gone = Counter({table: _delete(connection, table, "user_id", ids) for table in _BY_USER})
    connection.execute(_FORGET_LINKS, {"ids": list(ids)})
    gone["sweep"] = connection.execute(_MOVE_SWEEP, {"ids": list(ids)}).rowcount
    return gone


_LOCK_SONGS = text("SELECT FROM songs WHERE user_id = ANY(CAST(:ids AS text[])) ORDER BY song_id FOR UPDATE")
_LOCK_PLAYLISTS = text("""
SELECT user_id = ANY(CAST(:ids AS text[])) AS own, playlist_id FROM playlists
WHERE user_id = ANY(CAST(:ids AS text[]))
  OR playlist_id IN (SELECT playlist_id FROM plays WHERE listener = ANY(CAST(:ids AS text[])))
ORDER BY playlist_id FOR UPDATE
""")


def erase_music(connection: Connection, ids: Sequence[str]) -> Counter[str]:
    """Delete what the music app keeps of these ids; their plays of other people's playlists stay as nobody's, and so do the sums."""
    connection.execute(_LOCK_SONGS, {"ids": list(ids)})
    found = connection.execute(_LOCK_PLAYLISTS, {"ids": list(ids)}).all()
    others = [row.playlist_id for row in found if not row.own]
    gone = Counter({"plays_made_anonymous": make_anonymous(connection, ids, others)})
    for table, column in (
        ("plays", "listener"),
        ("play_days", "listener"),
        ("songs", "user_id"),
        ("playlists", "user_id"),
        ("user_data", "user_id"),
    ):
        gone[table] = _delete(connection, table, column, ids)
    return gone


def _delete(connection: Connection, table: str, column: str, ids: Collection[str]) -> int:
    statement = text(f"DELETE FROM {table} WHERE {column} = ANY(CAST(:ids AS text[]))")  # noqa: S608 (names of ours)
    return connection.execute(statement, {"ids": list(ids)}).rowcount
