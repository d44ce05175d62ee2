"""Runs over a whole tenant: one of a kind at a time, each saying how far it has come, so that another process can go on with it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection, text

# A run that says nothing for this long has died; another process goes on from where it was.
LEASE = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Run:
    """A run under our lease."""

    id: int
    started_at: datetime
    position: dict[str, Any]
    report: dict[str, Any]
    resumed: bool


_LOCK = 0x72756E73  # "runs"

_UNFINISHED = text("""
SELECT id, started_at, position, report, leased_until > now() FROM runs
WHERE kind = :kind AND state = 'running' ORDER BY id DESC LIMIT 1
""")


# What a comparison noted and nobody is at any more, and old runs: but the last complete one of each kind, which says when
# that was.
_CLEAN_NOTES = [
    text(f"""
    DELETE FROM {table} WHERE ctid = ANY(ARRAY(
      SELECT ctid FROM {table} WHERE run_id NOT IN (SELECT id FROM runs WHERE state = 'running') LIMIT :rows))
    """)  # noqa: S608 (the words below)
    for table in ("exported", "suspects")
]
# Nobody goes on with a verify, and the next may be long in coming.
_FAIL_THE_DEAD = text("""
UPDATE runs SET state = 'failed', ended_at = leased_until, leased_until = NULL
WHERE kind = 'verify' AND state = 'running' AND leased_until < now()
""")
_CLEAN = text("""
DELETE FROM runs WHERE id IN (
  SELECT id FROM runs WHERE state <> 'running' AND coalesce(ended_at, started_at) < now() - :keep
  AND id NOT IN (SELECT DISTINCT ON (kind) id FROM runs WHERE state = 'complete' ORDER BY kind, ended_at DESC) LIMIT :rows)
""")


def clean(connection: Connection, keep: timedelta, *, rows: int = 2000) -> int:
    """Delete ended runs that are older than `keep`, and what ended runs left behind, at most `rows` of each; return how many."""
    connection.execute(_FAIL_THE_DEAD)
    notes = sum(connection.execute(statement, {"rows": rows}).rowcount for statement in _CLEAN_NOTES)
    return notes + connection.execute(_CLEAN, {"keep": keep, "rows": rows}).rowcount


def begin(connection: Connection, kind: str, *, resume: bool = True) -> Run | None:
    """Go on with the unfinished run of this kind, or begin one; None while another process is at it. The caller commits.

    Without `resume`, an unfinished run that nobody is at has failed.
    """
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    found = connection.execute(_UNFINISHED, {"kind": kind}).first()
    if found is not None and not found[4] and not resume:
        end(connection, found[0], "failed", found[3])
        found = None
    if found is None:
        fresh = connection.execute(
            text("INSERT INTO runs (kind, leased_until) VALUES (:kind, now() + :lease) RETURNING id, started_at"),
            {"kind": kind, "lease": LEASE},
        ).one()
        return Run(fresh.id, fresh.started_at, {}, {}, resumed=False)
    run_id, started_at, position, report, held = found
    if held:
        return None
    keep(connection, run_id)
    return Run(run_id, started_at, position, report, resumed=True)


def keep(
    connection: Connection, run_id: int, position: dict[str, Any] | None = None, report: dict[str, Any] | None = None
) -> None:
    """Lengthen the lease and, where given, note how far the run is; in the transaction of the rows it stands for."""
    connection.execute(
        text("""
        UPDATE runs SET leased_until = now() + :lease, position = coalesce(CAST(:position AS jsonb), position),
          report = coalesce(CAST(:report AS jsonb), report)
        WHERE id = :id
        """),
        {"id": run_id, "lease": LEASE, "position": _json(position), "report": _json(report)},
    )


def end(connection: Connection, run_id: int, state: str, report: dict[str, Any]) -> None:
    """End a run: "complete" or "failed"."""
    connection.execute(
        text("""
        UPDATE runs SET state = :state, ended_at = now(), leased_until = NULL, report = CAST(:report AS jsonb) WHERE id = :id
        """),
        {"id": run_id, "state": state, "report": _json(report)},
    )


def release(connection: Connection, run_id: int) -> None:
    """Let another process go on with an unfinished run at once."""
    connection.execute(text("UPDATE runs SET leased_until = NULL WHERE id = :id"), {"id": run_id})


def last(connection: Connection, kind: str) -> tuple[str, datetime, datetime | None, dict[str, Any]] | None:
    """Return the newest run's state, start, end and report."""
    found = connection.execute(
        text("SELECT state, started_at, ended_at, report FROM runs WHERE kind = :kind ORDER BY id DESC LIMIT 1"),
        {"kind": kind},
    ).first()
    return None if found is None else (found[0], found[1], found[2], found[3])


KINDS = ("backfill", "reconcile", "verify")


@dataclass(frozen=True, slots=True)
class Standing:
    """How runs of a kind stand: when the last complete one ended, and of an unfinished one when it began, and how many users it has read.

    `held`: whether a process is at it right now. A reconcile lets go between its slices.
    """

    complete_at: datetime | None = None
    began_at: datetime | None = None
    users: int = 0
    held: bool = False


_STANDINGS = text("""
SELECT kind, max(ended_at) FILTER (WHERE state = 'complete'), max(started_at) FILTER (WHERE state = 'running'),
  coalesce(max((report ->> 'users')::int) FILTER (WHERE state = 'running'), 0),
  coalesce(bool_or(leased_until > now()) FILTER (WHERE state = 'running'), false)
FROM runs GROUP BY kind
""")


def standings(connection: Connection) -> dict[str, Standing]:
    """Return how the runs of each kind stand."""
    return dict.fromkeys(KINDS, Standing()) | {
        kind: Standing(*found) for kind, *found in connection.execute(_STANDINGS)
    }


# A reconcile that came to its end without those whom no search can show says so by a condition of its own.
_COMPARED = text("""
SELECT extract(epoch FROM now() - coalesce(
  (SELECT max(started_at) FROM runs WHERE state = 'complete' AND kind IN ('reconcile', 'verify')
     OR state = 'failed' AND kind = 'reconcile' AND (report ->> 'unread')::int > 0),
  (SELECT copied_since FROM tenant), now()))::float8
""")


def compared_ago(connection: Connection) -> float:
    """Return how many seconds ago the last comparison began that came to its end; without any, how old the copy is."""
    return float(connection.execute(_COMPARED).scalar_one())


def _json(value: dict[str, Any] | None) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()
