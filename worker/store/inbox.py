"""The inbox as drain sees it: claim a bounded batch, then say what became of it (P21, P22)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import zstandard
from sqlalchemy import Connection, text

from worker.errors import BadRecord

# P21: a body that kills the process is drained alone from its third attempt on and parked at its fifth.
ALONE_FROM = 3
PARKED_AT = 5

_CLAIM = text("""
UPDATE inbox SET attempts = inbox.attempts + 1, claimed_until = now() + :lease
FROM (
  SELECT id FROM (
    SELECT id, size, sum(size) OVER (ORDER BY id) AS running
    FROM (
      SELECT id, size FROM inbox
      WHERE state = 'pending' AND source = :source AND attempts BETWEEN :least AND :most
        AND (claimed_until IS NULL OR claimed_until < now())
      ORDER BY id LIMIT :rows FOR UPDATE SKIP LOCKED
    ) AS oldest
  ) AS summed
  WHERE running - size < :bytes
) AS claimed
WHERE inbox.id = claimed.id
RETURNING inbox.id, inbox.attempts, inbox.encoding, inbox.size, inbox.body,
          inbox.received_at, extract(epoch FROM now() - inbox.received_at)::float8 AS age
""")

_DONE = text("""
UPDATE inbox SET state = 'done', claimed_until = NULL
FROM unnest(CAST(:ids AS bigint[]), CAST(:attempts AS smallint[])) AS claimed (id, attempts)
WHERE inbox.id = claimed.id AND inbox.attempts = claimed.attempts AND inbox.state = 'pending'
""")

_RELEASE = text("""
UPDATE inbox SET claimed_until = NULL, attempts = inbox.attempts - 1
FROM unnest(CAST(:ids AS bigint[]), CAST(:attempts AS smallint[])) AS claimed (id, attempts)
WHERE inbox.id = claimed.id AND inbox.attempts = claimed.attempts AND inbox.state = 'pending'
""")

_PARK = text("""
UPDATE inbox SET state = 'parked', claimed_until = NULL, error = :error WHERE id = :id AND state = 'pending'
""")

_CLEAN = text("""
DELETE FROM inbox WHERE id IN (
  SELECT id FROM inbox WHERE state = 'done' AND received_at < now() - :retention
  ORDER BY received_at LIMIT :rows FOR UPDATE SKIP LOCKED)
""")


@dataclass(frozen=True, slots=True)
class Claimed:
    """A claimed delivery; `age` in seconds since it arrived."""

    id: int
    attempts: int
    encoding: str
    size: int
    body: bytes
    received_at: datetime
    age: float

    def content(self) -> bytes:
        """Return the body as it was sent; raises BadRecord where it cannot be unpacked."""
        return unpacked(self.encoding, self.size, self.body)


def unpacked(encoding: str, size: int, body: bytes) -> bytes:
    """Return a stored body as it was sent; raises BadRecord where it cannot be unpacked."""
    if encoding != "zstd":
        return body
    try:
        return zstandard.ZstdDecompressor().decompress(body, max_output_size=size + 1)
    except zstandard.ZstdError:
        raise BadRecord("the stored body cannot be decompressed") from None


def claim(connection: Connection, source: str, *, rows: int, size: int, lease: timedelta) -> list[Claimed]:
    """Claim the oldest pending deliveries of one source: at most `rows`, about `size` bytes, at least one.

    Those that failed twice already come last and one at a time. The caller commits at once: an attempt counts before
    its body is decoded.
    """
    asked = {"source": source, "rows": rows, "bytes": size, "lease": lease, "least": 0, "most": ALONE_FROM - 2}
    claimed = connection.execute(_CLAIM, asked).all()
    if not claimed:
        return claim_troubled(connection, source, lease=lease)
    return sorted((Claimed(*row) for row in claimed), key=lambda delivery: delivery.id)


def claim_troubled(connection: Connection, source: str, *, lease: timedelta) -> list[Claimed]:
    """Claim the oldest pending delivery that failed twice already, alone, if there is one."""
    asked = {"source": source, "rows": 1, "bytes": 1, "lease": lease, "least": ALONE_FROM - 1, "most": 32767}
    return [Claimed(*row) for row in connection.execute(_CLAIM, asked)]


def done(connection: Connection, deliveries: Sequence[Claimed]) -> None:
    """Mark deliveries as drained, except one that somebody else claimed meanwhile."""
    connection.execute(_DONE, _claims(deliveries))


def release(connection: Connection, deliveries: Sequence[Claimed]) -> None:
    """Give claimed deliveries back uncounted: what failed was not their bodies."""
    connection.execute(_RELEASE, _claims(deliveries))


@dataclass(frozen=True, slots=True)
class Body:
    """A stored body, whatever became of its delivery."""

    id: int
    source: str
    state: str
    encoding: str
    size: int
    body: bytes


_BODIES = text("""
SELECT id, source, state, encoding, size, body FROM inbox WHERE id > :after AND body IS NOT NULL AND length(body) > 0
ORDER BY id LIMIT :rows
""")
_BODY = text("SELECT id, source, state, encoding, size, body FROM inbox WHERE id = :id AND body IS NOT NULL FOR UPDATE")


def bodies(connection: Connection, after: int, *, rows: int) -> list[Body]:
    """Return the next bodies, by ascending id from `after` on, whatever their state."""
    return [Body(*row) for row in connection.execute(_BODIES, {"after": after, "rows": rows})]


def lock_body(connection: Connection, delivery_id: int) -> Body | None:
    """Lock a delivery until the transaction ends, and return its body as it is now."""
    found = connection.execute(_BODY, {"id": delivery_id}).first()
    return None if found is None else Body(*found)


def rewrite(connection: Connection, delivery_id: int, content: bytes) -> None:
    """Replace a delivery's body."""
    small = zstandard.ZstdCompressor(level=1).compress(content)
    encoding, body = ("zstd", small) if len(small) < len(content) else ("identity", content)
    connection.execute(
        text("UPDATE inbox SET body = :body, size = :size, encoding = :encoding WHERE id = :id"),
        {"id": delivery_id, "body": body, "size": len(content), "encoding": encoding},
    )


def delete(connection: Connection, delivery_id: int) -> None:
    """Delete a delivery."""
    connection.execute(text("DELETE FROM inbox WHERE id = :id"), {"id": delivery_id})


def park(connection: Connection, delivery_id: int, error: str) -> None:
    """Set a delivery aside whole, with a reason that holds no personal data."""
    connection.execute(_PARK, {"id": delivery_id, "error": error})


def clean(connection: Connection, retention: timedelta, *, rows: int = 2000) -> int:
    """Delete drained deliveries older than `retention`, at most `rows`; return how many went. Nothing else ever ages out."""
    return connection.execute(_CLEAN, {"retention": retention, "rows": rows}).rowcount


def _claims(deliveries: Sequence[Claimed]) -> dict[str, list[int]]:
    return {"ids": [delivery.id for delivery in deliveries], "attempts": [delivery.attempts for delivery in deliveries]}
