"""Which log records are known: 8 bytes of each, a row a batch, so that what is pulled again marks nobody again (P23)."""

from array import array
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from hashlib import blake2b

from sqlalchemy import Connection, text

# By how much our clock may be off Auth0's, and how long a delivery may lie in the inbox before it is drained.
MARGIN = timedelta(hours=1)

_NOTE = text("INSERT INTO heard (hashes) VALUES (:hashes)")
_SINCE = text(
    "SELECT hashes FROM heard WHERE heard_at >= coalesce(:since, '-infinity'::timestamptz)"
).execution_options(yield_per=100)
_CLEAN = text("""
DELETE FROM heard WHERE id IN (
  SELECT id FROM heard
  WHERE heard_at < least(now(), (SELECT stands_for FROM feeds WHERE name = 'logs' AND :pulling)) - :keep
  ORDER BY heard_at LIMIT :rows)
""")


def digest(log_id: str) -> int:
    """Return 8 bytes of a log_id, as a signed number."""
    return int.from_bytes(
        blake2b(log_id.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little", signed=True
    )


def note(connection: Connection, digests: Iterable[int]) -> None:
    """Note a batch as known, in the transaction that writes what it says."""
    hashes = array("q", digests)
    if hashes:
        connection.execute(_NOTE, {"hashes": hashes.tobytes()})


def known(connection: Connection, digests: Collection[int], since: datetime | None) -> set[int]:
    """Return which of these are known; `since` (our clock): none can have been heard earlier."""
    asked, found = set(digests), set[int]()
    if asked:
        with connection.execute(_SINCE, {"since": since}) as rows:
            for (hashes,) in rows:
                batch = array("q")
                batch.frombytes(bytes(hashes))
                found |= asked.intersection(batch)
    return found


def clean(connection: Connection, *, pulling: bool, overlap: timedelta, rows: int = 2000) -> int:
    """Delete what no pull can meet again, at most `rows` batches: a pull that is behind keeps what it has yet to meet."""
    return connection.execute(_CLEAN, {"pulling": pulling, "keep": overlap + MARGIN, "rows": rows}).rowcount
