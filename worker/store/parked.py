"""What was set aside because it could not be understood: looked at, given back to its source, dropped.

Two kinds: single records (table `parked`) and whole deliveries (`inbox.state = 'parked'`). Each has a name of its own kind,
such as "r12" or "d7": the two count by themselves.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from sqlalchemy import Connection, text

from worker.errors import BadRecord, BadValue
from worker.store.inbox import unpacked

RECORD: Final = "r"
DELIVERY: Final = "d"
Kind = Literal["r", "d"]

# A backfill parks lines of its file here; `inbox_id` is its run's then, and there is no delivery to go back to.
EXPORT: Final = "export"

_WAITING = """
SELECT 'd' AS kind, id, source, received_at AS since, size, coalesce(error, 'nobody said why') AS reason, body IS NOT NULL AS kept
FROM inbox WHERE state = 'parked'
UNION ALL
SELECT 'r', parked.id, parked.source, least(inbox.received_at, parked.parked_at), length(parked.record), parked.reason, true
FROM parked LEFT JOIN inbox ON inbox.id = parked.inbox_id AND parked.source <> 'export'
"""

_LIST = text(
    "SELECT kind, id, source, since, size, reason, kept, count(*) OVER () AS total FROM ("  # noqa: S608 a constant
    + _WAITING
    + ") AS waiting WHERE CAST(:source AS text) IS NULL OR source = :source ORDER BY since, kind, id LIMIT :most"
)

_ONE = text(
    "SELECT kind, id, source, since, size, reason, kept FROM ("  # noqa: S608 a constant
    + _WAITING
    + ") AS waiting WHERE kind = :kind AND id = :id"
)

# In one statement, so that no record is lost or doubled. It keeps the time it arrived: a play counts for that day. What was
# pulled of the log goes where the stream's records go: as "pulled" it would be known already, and passed over.
_GIVE_RECORDS_BACK = text("""
WITH taken AS (
  DELETE FROM parked WHERE id = ANY (CAST(:ids AS bigint[])) AND source <> 'export'
  RETURNING id, source, inbox_id, parked_at, record)
INSERT INTO inbox (source, received_at, encoding, size, body)
SELECT CASE source WHEN 'pulled' THEN 'logs' ELSE source END, least((SELECT received_at FROM inbox WHERE inbox.id = taken.inbox_id), parked_at), 'identity', length(record), record
FROM taken ORDER BY id
""")

_GIVE_DELIVERIES_BACK = text("""
UPDATE inbox SET state = 'pending', attempts = 0, claimed_until = NULL, error = NULL
WHERE id = ANY (CAST(:ids AS bigint[])) AND state = 'parked' AND body IS NOT NULL
""")

_LINES = text("""
SELECT id, record FROM parked WHERE id = ANY (CAST(:ids AS bigint[])) AND source = 'export' ORDER BY id FOR UPDATE
""")


@dataclass(frozen=True, slots=True)
class Waiting:
    """One that waits for a human: since when (its arrival, our clock), how many bytes, why; `kept`: whether we have its bytes."""

    kind: Kind
    id: int
    source: str
    since: datetime
    size: int
    reason: str
    kept: bool

    @property
    def name(self) -> str:
        """What an operator calls it by."""
        return f"{self.kind}{self.id}"


def waiting(connection: Connection, *, source: str | None = None, most: int | None = None) -> tuple[list[Waiting], int]:
    """Return what waits, the longest waiting first, at most `most`; and how many wait in all."""
    rows = connection.execute(_LIST, {"source": source, "most": most}).all()
    return [Waiting(*row[:-1]) for row in rows], rows[0].total if rows else 0


def pushes(connection: Connection) -> int:
    """Return how many pushes are parked: they wait for a change of what they are made of, and have no bytes (P18)."""
    return int(connection.execute(text("SELECT count(*) FROM pushes WHERE parked <> '{}'")).scalar_one())


def find(connection: Connection, name: str) -> Waiting:
    """Return the one of this name; raise BadValue where nothing is parked under it."""
    match = re.fullmatch(r"([rd])(\d{1,18})", name)
    found = match and connection.execute(_ONE, {"kind": match[1], "id": int(match[2])}).first()
    if not found:
        raise BadValue("nothing is parked under such a name: `understudy parked list` shows the names")
    return Waiting(*found)


def content(connection: Connection, one: Waiting) -> bytes:
    """Return its bytes as they came: personal data. Raises BadRecord where they were not kept, or cannot be unpacked."""
    if one.kind == RECORD:
        record = connection.execute(text("SELECT record FROM parked WHERE id = :id"), {"id": one.id}).scalar()
        return bytes(record or b"")
    encoding, body = connection.execute(text("SELECT encoding, body FROM inbox WHERE id = :id"), {"id": one.id}).one()
    if body is None:
        raise BadRecord("its bytes were not kept: the delivery was larger than MAX_DELIVERY_BYTES")
    return unpacked(encoding, one.size, bytes(body))


def give_back(connection: Connection, ones: Sequence[Waiting]) -> int:
    """Make pending what waits, to be drained as if it had just come; return how many went. Lines of an export stay."""
    records, deliveries = _ids(ones, RECORD), _ids(ones, DELIVERY)
    return (
        connection.execute(_GIVE_RECORDS_BACK, {"ids": records}).rowcount
        + connection.execute(_GIVE_DELIVERIES_BACK, {"ids": deliveries}).rowcount
    )


def lines(connection: Connection, ones: Sequence[Waiting]) -> list[tuple[int, bytes]]:
    """Lock those that are lines of an export, and return them as (id in `parked`, bytes)."""
    return [(one, bytes(record)) for one, record in connection.execute(_LINES, {"ids": _ids(ones, RECORD)})]


def records(connection: Connection, after: int, *, rows: int) -> list[tuple[int, bytes]]:
    """Return the next records, by ascending id from `after` on, as (id in `parked`, bytes)."""
    found = connection.execute(
        text("SELECT id, record FROM parked WHERE id > :after ORDER BY id LIMIT :rows"), {"after": after, "rows": rows}
    )
    return [(one, bytes(record)) for one, record in found]


def drop_records(connection: Connection, ids: Sequence[int]) -> None:
    """Delete records."""
    connection.execute(text("DELETE FROM parked WHERE id = ANY (CAST(:ids AS bigint[]))"), {"ids": list(ids)})


def explain(connection: Connection, record_id: int, reason: str) -> None:
    """Say anew why a record is parked."""
    connection.execute(text("UPDATE parked SET reason = :reason WHERE id = :id"), {"id": record_id, "reason": reason})


def drop(connection: Connection, one: Waiting) -> None:
    """Delete it, bytes and all."""
    if one.kind == RECORD:
        drop_records(connection, [one.id])
    else:
        connection.execute(text("DELETE FROM inbox WHERE id = :id AND state = 'parked'"), {"id": one.id})


def _ids(ones: Sequence[Waiting], kind: Kind) -> list[int]:
    return [one.id for one in ones if one.kind == kind]
