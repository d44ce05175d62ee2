"""What is written down beside the copy: counters, conditions a human should know of, who was seen alive."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, text

_COUNT = text("""
INSERT INTO counters AS held (name, value)
SELECT * FROM unnest(CAST(:names AS text[]), CAST(:values AS bigint[])) AS batch (name, value) ORDER BY name
ON CONFLICT (name) DO UPDATE SET value = held.value + excluded.value, latest_at = now()
""")

_RAISE = text("""
INSERT INTO conditions (name, detail) VALUES (:name, :detail)
ON CONFLICT (name) DO UPDATE SET detail = excluded.detail, latest_at = now()
""")

_SEEN = text("""
INSERT INTO processes (name) VALUES (:name) ON CONFLICT (name) DO UPDATE SET seen_at = now()
""")

_PARK = text("""
INSERT INTO parked (source, inbox_id, position, reason, record)
SELECT :source, inbox_id, position, reason, record
FROM unnest(CAST(:inbox_ids AS bigint[]), CAST(:positions AS integer[]), CAST(:reasons AS text[]), CAST(:records AS bytea[]))
  AS batch (inbox_id, position, reason, record)
""")


def count(connection: Connection, increments: Mapping[str, int]) -> None:
    """Add to counters, in the batch they describe: processes share no disk, so what /metrics shows lives here."""
    moved = {name: by for name, by in increments.items() if by}
    if moved:
        connection.execute(_COUNT, {"names": list(moved), "values": list(moved.values())})


def raise_condition(connection: Connection, name: str, detail: str) -> None:
    """Note that something needs a human, or a loop; said again, it keeps the time it began."""
    connection.execute(_RAISE, {"name": name, "detail": detail})


def end_condition(connection: Connection, name: str) -> bool:
    """Note that it is over; tell whether it was on."""
    return connection.execute(text("DELETE FROM conditions WHERE name = :name"), {"name": name}).rowcount > 0


def condition_since(connection: Connection, name: str) -> datetime | None:
    """Return since when it is on, None where it is not."""
    return connection.execute(text("SELECT since FROM conditions WHERE name = :name"), {"name": name}).scalar()


def condition_is_on(connection: Connection, name: str) -> bool:
    """Tell whether it is noted that something needs a human."""
    return connection.execute(text("SELECT FROM conditions WHERE name = :name"), {"name": name}).first() is not None


def seen(connection: Connection, process: str) -> None:
    """Note that a process is alive."""
    connection.execute(_SEEN, {"name": process})


def park_records(connection: Connection, source: str, records: Sequence[tuple[int, int, str, bytes]]) -> None:
    """Park records as (inbox id, position, reason, bytes)."""
    if records:
        ids, positions, reasons, bodies = (list(column) for column in zip(*records, strict=True))
        connection.execute(
            _PARK, {"source": source, "inbox_ids": ids, "positions": positions, "reasons": reasons, "records": bodies}
        )


def forget_quiet_processes(connection: Connection) -> None:
    """Drop the processes not seen for a day: machines come and go."""
    connection.execute(text("DELETE FROM processes WHERE seen_at < now() - interval '1 day'"))
