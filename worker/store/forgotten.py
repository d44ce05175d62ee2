"""Who was forgotten: keyed hashes of ids, the key beside them in `tenant` (docs/adr). An id is only ever compared, never read back (P14)."""

from collections.abc import Collection, Mapping
from datetime import datetime

from sqlalchemy import Connection, text

from worker.domain.users import Forgotten

_ANY = text("SELECT EXISTS (SELECT FROM forgotten)")

_ANY_KEPT_OUT = text("SELECT EXISTS (SELECT FROM forgotten WHERE keep_out)")

_AMONG = text("""
SELECT batch.user_id, forgotten.forgotten_at, forgotten.keep_out
FROM unnest(CAST(:ids AS text[])) AS batch (user_id)
CROSS JOIN tenant
JOIN forgotten ON forgotten.user_hash = keyed_hash(tenant.user_hash_key, batch.user_id)
""")


def among(connection: Connection, ids: Collection[str]) -> dict[str, Forgotten]:
    """Return those of these ids that were forgotten. True for the whole transaction: whoever forgets waits for its end."""
    if not ids or not connection.execute(_ANY).scalar():
        return {}
    return {
        user_id: Forgotten(since, keep_out)
        for user_id, since, keep_out in connection.execute(_AMONG, {"ids": list(ids)})
    }


def kept_out(connection: Connection, ids: Collection[str]) -> set[str]:
    """Return those of these ids whose people stay out, whatever the tenant says."""
    if not ids or not connection.execute(_ANY_KEPT_OUT).scalar():
        return set()
    return {user_id for user_id, forgotten in among(connection, ids).items() if forgotten.keep_out}


def are_any(connection: Connection) -> bool:
    """Tell whether anybody was ever forgotten."""
    return bool(connection.execute(_ANY).scalar())


_REMEMBER = text("""
INSERT INTO forgotten AS held (user_hash, keep_out)
SELECT user_hash(user_id), :keep_out FROM unnest(CAST(:ids AS text[])) AS person (user_id) ORDER BY 1
ON CONFLICT (user_hash) DO UPDATE SET keep_out = held.keep_out OR excluded.keep_out
""")


def remember(connection: Connection, ids: Collection[str], *, keep_out: bool) -> bool:
    """Write the hashes of a person's ids; tell whether the person is kept out, now or since earlier: that is for good."""
    keep_out = keep_out or bool(kept_out(connection, ids))
    connection.execute(_REMEMBER, {"ids": list(ids), "keep_out": keep_out})
    return keep_out


def clock(connection: Connection) -> datetime:
    """Return what time it is for hashes: a read that begins after this call began after this."""
    now: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    return now


_STAMP = text("""
UPDATE forgotten SET forgotten_at = clock_timestamp()
WHERE user_hash IN (SELECT user_hash(user_id) FROM unnest(CAST(:ids AS text[])) AS person (user_id))
RETURNING forgotten_at
""")


def stamp(connection: Connection, ids: Collection[str]) -> datetime:
    """Note the time, in a transaction after the one that wrote the hashes: a read that began before it lifts none."""
    stamped: list[datetime] = list(connection.execute(_STAMP, {"ids": list(ids)}).scalars())
    return max(stamped)


_HOLD = text("""
SELECT FROM forgotten
WHERE user_hash IN (SELECT user_hash(user_id) FROM unnest(CAST(:ids AS text[])) AS person (user_id))
ORDER BY user_hash FOR UPDATE
""")


def hold(connection: Connection, ids: Collection[str]) -> bool:
    """Lock these hashes until the transaction ends; tell whether all of them still stand. Lock `users` and `news` before."""
    return len(connection.execute(_HOLD, {"ids": list(ids)}).all()) == len(set(ids))


_LIFT = text("""
DELETE FROM forgotten USING unnest(CAST(:ids AS text[]), CAST(:times AS timestamptz[])) AS read (user_id, began_at)
WHERE forgotten.user_hash = user_hash(read.user_id) AND NOT forgotten.keep_out AND forgotten.forgotten_at < read.began_at
RETURNING read.user_id
""")


def lift(connection: Connection, reads: Mapping[str, datetime]) -> set[str]:
    """Lift the hashes of those whom a strong read found, each only if the read began after it was committed; return whose.

    Who is kept out stays out.
    """
    if not reads:
        return set()
    return set(connection.execute(_LIFT, {"ids": list(reads), "times": list(reads.values())}).scalars())
