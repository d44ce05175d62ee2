"""What a comparison of the tenant with the copy has seen and suspects, kept in PostgreSQL so that memory stays flat."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, text

from worker.domain.users import Profile


class Kept(NamedTuple):
    """A row of the copy as a comparison sees it."""

    profile: Profile | None
    deleted: bool
    marked: bool
    synced_at: datetime | None
    """When the tenant last confirmed it, by our clock."""


_ROWS = text("""
SELECT users.user_id, users.profile, users.deleted_at IS NOT NULL,
  EXISTS (SELECT FROM news WHERE news.user_id = users.user_id), users.synced_at FROM users WHERE users.user_id = ANY(:ids)
""")


def kept(connection: Connection, ids: Sequence[str]) -> dict[str, Kept]:
    """Return the rows of these ids, those that have one."""
    return {
        user_id: Kept(profile, deleted, marked, synced_at)
        for user_id, profile, deleted, marked, synced_at in connection.execute(_ROWS, {"ids": list(ids)})
    }


# Sorted, as the index wants them; who is told of twice is suspected if one of the two is.
_SEEN = """
INSERT INTO exported (run_id, user_id, suspect)
SELECT %(run)s, user_id, suspect FROM unnest(%(ids)b::text[], %(suspects)b::text[]) AS batch (user_id, suspect)
ON CONFLICT (run_id, user_id) DO UPDATE SET suspect = excluded.suspect WHERE excluded.suspect IS NOT NULL
"""
_NOBODY: Mapping[str, str] = {}


def note(connection: Connection, run_id: int, seen: Iterable[str], suspected: Mapping[str, str] = _NOBODY) -> None:
    """Note who was seen in the tenant, each once, and what is suspected of some of them."""
    ids = sorted(seen, key=str.encode)
    suspects = [suspected.get(user_id) for user_id in ids]
    connection.exec_driver_sql(_SEEN, {"run": run_id, "ids": ids, "suspects": suspects})


def seen(connection: Connection, run_id: int, ids: Sequence[str]) -> list[str]:
    """Return those of these ids that a run has noted already."""
    if not ids:
        return []
    found = connection.execute(
        text("SELECT user_id FROM exported WHERE run_id = :run AND user_id = ANY(:ids)"),
        {"run": run_id, "ids": ids},
    )
    return list(found.scalars())


_EXTRA = text("""
INSERT INTO exported (run_id, user_id, suspect)
SELECT :run, user_id, 'extra' FROM users
WHERE deleted_at IS NULL
  AND NOT EXISTS (SELECT FROM exported WHERE run_id = :run AND exported.user_id = users.user_id)
  AND NOT EXISTS (SELECT FROM news WHERE news.user_id = users.user_id AND (strong OR NOT :though_marked))
""")


def suspect_extra(connection: Connection, run_id: int, *, though_marked: bool) -> None:
    """Suspect those who are live here and are not in the export (P12); nobody whose mark asks for a strong read.

    Who came since it began is among them, and costs a read. That a row was written since says nothing: by an event, perhaps,
    that came late. `though_marked`: nor does a mark, which such an event may clear.
    """
    connection.execute(_EXTRA, {"run": run_id, "though_marked": though_marked})


def suspects(connection: Connection, run_id: int, after: str, rows: int) -> list[tuple[str, str]]:
    """Return the next suspects after an id, as (id, kind), in order."""
    return [
        (user_id, kind)
        for user_id, kind in connection.execute(
            text("""
            SELECT user_id, suspect FROM exported
            WHERE run_id = :run AND suspect IS NOT NULL AND user_id > :after ORDER BY user_id LIMIT :rows
            """),
            {"run": run_id, "after": after, "rows": rows},
        )
    ]


def was_lost(connection: Connection, run_id: int) -> bool:
    """Tell whether nothing of what a run has noted is there: the table is not logged, so a crash of PostgreSQL empties it."""
    return connection.execute(text("SELECT FROM exported WHERE run_id = :run LIMIT 1"), {"run": run_id}).first() is None


def forget(connection: Connection, run_id: int) -> None:
    """Drop what a run has noted."""
    connection.execute(text("DELETE FROM exported WHERE run_id = :run"), {"run": run_id})
