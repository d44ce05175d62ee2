"""How often deliveries usually come: what the inbox still holds of the last days, and for how long nothing has come now."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy import Connection, text

# By how much a silence must outlast the usual one.
_MORE: Final = 1.5
_DAYS: Final = timedelta(days=7)

# A look at each span as long as the floor, by the index of drained rows: a week of quarters of an hour is 672 of them. The
# second longest silence counts as usual: the longest may have been an outage.
_RHYTHM = text("""
WITH spans AS (
  SELECT n, EXISTS (
    SELECT FROM inbox WHERE state = 'done' AND source IN ('logs', 'events')
      AND received_at > now() - n * CAST(:span AS interval) AND received_at <= now() - (n - 1) * CAST(:span AS interval)) AS heard
  FROM generate_series(1, :spans) AS n
), silences AS (
  SELECT count(*) AS length
  FROM (SELECT n, heard, count(*) FILTER (WHERE heard) OVER (ORDER BY n) AS since FROM spans) AS numbered
  WHERE NOT heard AND since BETWEEN 1 AND (SELECT count(*) FILTER (WHERE heard) FROM spans) - 1
  GROUP BY since
)
SELECT
  (SELECT extract(epoch FROM now() - max(received_at))::float8 FROM inbox WHERE source IN ('logs', 'events')
     AND received_at > now() - CAST(:days AS interval)) AS silent,
  coalesce((SELECT length FROM silences ORDER BY length DESC OFFSET 1 LIMIT 1), 0) AS usual,
  (SELECT extract(epoch FROM now() - latest_at)::float8 FROM counters WHERE name = 'log_records_missed') AS missed
""")


@dataclass(frozen=True, slots=True)
class Silence:
    """In seconds: how long nothing has come, and how long that may last; whether a pull found news meanwhile."""

    lasts: float
    usual: float
    missed_something: bool

    @property
    def is_unusual(self) -> bool:
        """Whether it is longer than this tenant's own rhythm."""
        return self.lasts > self.usual


def silence(connection: Connection, floor: timedelta) -> Silence | None:
    """Return how silent the webhooks are; None where nothing came for a week, or ever. `floor`: no shorter silence is unusual."""
    found = connection.execute(_RHYTHM, {"span": floor, "spans": int(_DAYS / floor), "days": _DAYS}).one()
    if found.silent is None:
        return None
    usual = max(floor.total_seconds(), _MORE * found.usual * floor.total_seconds())
    return Silence(found.silent, usual, found.missed is not None and found.missed < found.silent)
