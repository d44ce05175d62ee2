"""How often deliveries usually come, when some last did, and whether anything tells that they should have."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from sqlalchemy import Connection, text

Feed = Literal["logs", "events"]
"""A source that a webhook fills."""

# By how much a silence must outlast the usual one.
_MORE: Final = 1.5
_DAYS: Final = timedelta(days=7)

_NOTE = text("""
INSERT INTO arrivals AS held (source, arrived_at) VALUES (:source, :at)
ON CONFLICT (source) DO UPDATE SET arrived_at = greatest(held.arrived_at, excluded.arrived_at)
""")
_DATE = text("""
INSERT INTO arrivals AS held (source, arrived_at, dated_at) VALUES (:source, now(), :date)
ON CONFLICT (source) DO UPDATE SET dated_at = greatest(held.dated_at, excluded.dated_at)
""")
_TRY = text("""
INSERT INTO arrivals AS held (source, arrived_at) VALUES ('probe', now())
ON CONFLICT (source) DO UPDATE SET arrived_at = excluded.arrived_at WHERE held.arrived_at < now() - CAST(:every AS interval)
RETURNING 1
""")

# What was drained is remembered by itself, what was not is still in the inbox.
_LAST = text("""
SELECT greatest(
  (SELECT max(arrived_at) FROM arrivals WHERE source = ANY (CAST(:sources AS text[]))),
  (SELECT max(received_at) FROM inbox WHERE state = 'pending' AND source = ANY (CAST(:sources AS text[]))),
  (SELECT max(received_at) FROM inbox WHERE state = 'parked' AND source = ANY (CAST(:sources AS text[]))))
""")

_LASTS = text("""
SELECT extract(epoch FROM now() - coalesce(CAST(:at AS timestamptz), (SELECT copied_since FROM tenant)))::float8
""")

# A look at each span as long as the floor, by the index of drained rows: a week of quarters of an hour is 672 of them. The
# second longest silence counts as usual: the longest may have been an outage.
_USUAL = text("""
WITH spans AS (
  SELECT n, EXISTS (
    SELECT FROM inbox WHERE state = 'done' AND source = :source
      AND received_at > now() - n * CAST(:span AS interval) AND received_at <= now() - (n - 1) * CAST(:span AS interval)) AS heard
  FROM generate_series(1, :spans) AS n
), silences AS (
  SELECT count(*) AS length
  FROM (SELECT n, heard, count(*) FILTER (WHERE heard) OVER (ORDER BY n) AS since FROM spans) AS numbered
  WHERE NOT heard AND since BETWEEN 1 AND (SELECT count(*) FILTER (WHERE heard) FROM spans) - 1
  GROUP BY since
)
SELECT coalesce((SELECT length FROM silences ORDER BY length DESC OFFSET 1 LIMIT 1), 0)
""")

# Of the log, what a pull found that nothing had brought; where nothing ever came, not what the first pulls found, which read what
# was there before. Of events, one that is newer than all that were pushed, by Auth0's clock on both sides; where no user's event
# was ever pushed, only tests, or else that there is a copy, say that the stream is there.
_MISSED = {
    "logs": text(
        "SELECT latest_at > coalesce(CAST(:last AS timestamptz), (SELECT copied_since FROM tenant) + CAST(:floor AS interval)) "
        "FROM counters WHERE name = 'log_records_missed'"
    ),
    "events": text("""
    SELECT pulled.dated_at > coalesce(pushed.dated_at, CAST(:last AS timestamptz), (SELECT copied_since FROM tenant))
    FROM arrivals AS pulled LEFT JOIN arrivals AS pushed ON pushed.source = 'events' WHERE pulled.source = 'pulled_events'
    """),
}

_NEWEST_PUSHED = text("""
SELECT greatest(now() - interval '1 day',
  coalesce((SELECT dated_at FROM arrivals WHERE source = 'events'), (SELECT copied_since FROM tenant), '-infinity'))
""")


@dataclass(frozen=True, slots=True)
class Silence:
    """In seconds: how long nothing has come, and how long that may last.

    `ever`: whether anything ever came; if not, it has lasted since this database became a copy. `missed_something`: whether
    a pull found meanwhile what should have come. `looked`: seconds since events were last read, None for never.
    """

    lasts: float
    usual: float
    missed_something: bool
    ever: bool = True
    looked: float | None = None

    @property
    def is_unusual(self) -> bool:
        """Whether it is longer than this tenant's own rhythm."""
        return self.lasts > self.usual

    @property
    def is_broken(self) -> bool:
        """Whether the tenant had news meanwhile: it is not just quiet."""
        return self.is_unusual and self.missed_something


def note(connection: Connection, source: str, at: datetime) -> None:
    """Remember that something came from a source (our clock); once a batch, in its transaction."""
    connection.execute(_NOTE, {"source": source, "at": at})


def date(connection: Connection, source: str, newest: datetime) -> None:
    """Remember the newest date of what came from it (Auth0's clock)."""
    connection.execute(_DATE, {"source": source, "date": newest})


def last(connection: Connection, *sources: Feed) -> datetime | None:
    """Return when something last came by a webhook, None for never."""
    found: datetime | None = connection.execute(_LAST, {"sources": list(sources)}).scalar_one()
    return found


def silence(connection: Connection, feed: Feed, floor: timedelta) -> Silence | None:
    """Return how silent a webhook is; None where the database is no tenant's yet. `floor`: no shorter silence is unusual."""
    arrived = last(connection, feed)
    lasts = connection.execute(_LASTS, {"at": arrived}).scalar_one()
    if lasts is None:
        return None
    spans = connection.execute(_USUAL, {"source": feed, "span": floor, "spans": int(_DAYS / floor)}).scalar_one()
    usual = max(floor.total_seconds(), _MORE * spans * floor.total_seconds())
    missed = bool(connection.execute(_MISSED[feed], {"last": arrived, "floor": floor}).scalar())
    looked = connection.execute(
        text("SELECT extract(epoch FROM now() - arrived_at)::float8 FROM arrivals WHERE source = 'pulled_events'")
    ).scalar()
    return Silence(lasts, usual, missed, arrived is not None, looked)


def is_broken(connection: Connection, feed: Feed, floor: timedelta) -> bool:
    """Tell whether a webhook is silent for longer than usual though the tenant has news; cheap while deliveries come."""
    found = _unusual(connection, feed, floor)
    return found is not None and found.is_broken


def begin_probe(connection: Connection, floor: timedelta) -> datetime | None:
    """Return since when to look for events where their webhook is silent for longer than usual, None where nobody should now.

    Once in each `floor`, whoever asks. The caller commits before it looks.
    """
    if _unusual(connection, "events", floor) is None or connection.execute(_TRY, {"every": floor}).first() is None:
        return None
    since: datetime = connection.execute(_NEWEST_PUSHED).scalar_one()
    return since


def _unusual(connection: Connection, feed: Feed, floor: timedelta) -> Silence | None:
    """Return how silent a webhook is, if that is unusual."""
    lasts = connection.execute(_LASTS, {"at": last(connection, feed)}).scalar_one()
    if lasts is None or lasts <= floor.total_seconds():  # most often, and cheaper than to learn what is usual
        return None
    found = silence(connection, feed, floor)
    return found if found is not None and found.is_unusual else None
