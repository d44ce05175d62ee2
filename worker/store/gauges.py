"""What can be read off the tables at any moment: how much waits, since when, what stands where. Cheap enough for every few seconds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, text

from worker.store import rhythm, runs

_PENDING = text("""
SELECT count(*), coalesce(extract(epoch FROM now() - min(received_at)), 0)::float8 FROM inbox WHERE state = 'pending'
""")
_PARKED = text("""
SELECT (SELECT count(*) FROM inbox WHERE state = 'parked'), (SELECT count(*) FROM parked),
       (SELECT count(*) FROM pushes WHERE parked <> '{}')
""")
_NEWS = text("""
SELECT count(*), coalesce(extract(epoch FROM now() - min(first_at) FILTER (WHERE braked_at IS NULL)), 0)::float8,
       count(*) FILTER (WHERE braked_at IS NOT NULL)
FROM news
""")
_PUSHES = text("""
SELECT count(*) FILTER (WHERE NOT last AND due_at < 'infinity'),
       coalesce(extract(epoch FROM now() - min(marked_at) FILTER (WHERE NOT last AND due_at < 'infinity')), 0)::float8,
       count(*) FILTER (WHERE braked_at IS NOT NULL)
FROM pushes
""")
_PROCESSES = text("""
SELECT split_part(name, '@', 1), extract(epoch FROM now() - max(seen_at))::float8 FROM processes GROUP BY 1 ORDER BY 1
""")
_FEEDS = text(
    "SELECT name, extract(epoch FROM now() - stands_for)::float8, trouble IS NOT NULL FROM feeds ORDER BY name"
)
_RUNS = text(
    "SELECT kind, extract(epoch FROM max(ended_at))::float8 FROM runs WHERE state = 'complete' GROUP BY kind ORDER BY kind"
)


@dataclass(frozen=True, slots=True)
class Gauges:
    """How things stand; ages in seconds, times in Unix seconds."""

    pending: int
    oldest_pending: float
    parked_deliveries: int
    parked_records: int
    parked_pushes: int
    stale: int
    oldest_stale: float
    deletions_braked: int
    wished: int
    oldest_wished: float
    removals_braked: int
    last_delivery: datetime | None
    counters: Mapping[str, int]
    conditions: tuple[str, ...]
    quiet: Mapping[str, float]
    feeds: Mapping[str, tuple[float, bool]]
    runs: Mapping[str, float]
    compared_ago: float
    broken: Mapping[str, bool] = field(default_factory=dict)
    """By webhook, whether it is silent though the tenant has news; filled in by whoever knows the settings."""


def read(connection: Connection) -> Gauges:
    """Read them all."""
    pending, oldest_pending = connection.execute(_PENDING).one()
    deliveries, records, parked_pushes = connection.execute(_PARKED).one()
    stale, oldest_stale, deletions = connection.execute(_NEWS).one()
    wished, oldest_wished, removals = connection.execute(_PUSHES).one()
    return Gauges(
        pending=pending,
        oldest_pending=oldest_pending,
        parked_deliveries=deliveries,
        parked_records=records,
        parked_pushes=parked_pushes,
        stale=stale,
        oldest_stale=oldest_stale,
        deletions_braked=deletions,
        wished=wished,
        oldest_wished=oldest_wished,
        removals_braked=removals,
        last_delivery=rhythm.last(connection, "logs", "events"),
        counters={name: value for name, value in connection.execute(text("SELECT name, value FROM counters"))},  # noqa: C416 rows are no pairs to mypy
        conditions=tuple(connection.execute(text("SELECT name FROM conditions ORDER BY name")).scalars()),
        quiet={name: quiet for name, quiet in connection.execute(_PROCESSES)},  # noqa: C416
        feeds={name: (age, trouble) for name, age, trouble in connection.execute(_FEEDS)},
        runs={kind: ended for kind, ended in connection.execute(_RUNS)},  # noqa: C416
        compared_ago=runs.compared_ago(connection),
    )
