"""What a comparison of the tenant with the copy has seen and suspects, kept in PostgreSQL so that memory stays flat."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, text

from worker.domain.users import Profile
from worker.store.columns import MAY_BE_ASTRAY, SAID
from worker.store.plain import IS_UNLIKE


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


def kept(connection: Connection, ids: Collection[str]) -> dict[str, Kept]:
    """Return the rows of these ids, those that have one."""
    return {
        user_id: Kept(profile, deleted, marked, synced_at)
        for user_id, profile, deleted, marked, synced_at in connection.execute(_ROWS, {"ids": list(ids)})
    }


# Each line is parsed once, and nothing is made of those that say what we hold. Whoever was forgotten is no such one (P14).
_NOTE_ALIKE = f"""
WITH lines AS MATERIALIZED (
  SELECT place, line, line ->> 'user_id' AS user_id
  FROM (SELECT place, line::jsonb FROM string_to_table(%(lines)s::text, E'\\n') WITH ORDINALITY AS told (line, place) OFFSET 0)
    AS parsed
), compared AS MATERIALIZED (
  SELECT place, user_id, forgotten.user_hash IS NOT NULL OR {IS_UNLIKE} OR {MAY_BE_ASTRAY} AS is_other
  FROM lines LEFT JOIN users USING (user_id) LEFT JOIN news USING (user_id) LEFT JOIN {SAID} ON true
  LEFT JOIN forgotten ON user_hash = CASE
    WHEN EXISTS (SELECT FROM forgotten) THEN keyed_hash((SELECT user_hash_key FROM tenant), user_id) END
), noted AS (
  INSERT INTO exported (run_id, user_id) SELECT %(run)s, user_id FROM compared WHERE NOT is_other
)
SELECT place - 1 FROM compared WHERE is_other ORDER BY place
"""  # noqa: S608 (only a text of ours is put in)


def note_alike(
    connection: Connection, run_id: int, lines: Sequence[bytes], covers: frozenset[str] | None
) -> Sequence[int]:
    """Note whose lines of JSON say what we hold, live, undoubted, in columns that follow from it; return the others' places.

    `covers`: see `worker.store.plain.unlike`. Raises DBAPIError or UnicodeError where one of them is no text or JSON that
    PostgreSQL could hold. True for the whole transaction, like `forgotten.among`.
    """
    if not lines:
        return []
    whole = b"\n".join(lines).decode()
    if whole.count("\n") >= len(lines):  # a newline within a line is white space
        whole = "\n".join(line.decode().replace("\n", " ") for line in lines)
    covered = None if covers is None else sorted(covers)
    return connection.exec_driver_sql(_NOTE_ALIKE, {"run": run_id, "lines": whole, "covers": covered}).scalars().all()


_SEEN = "INSERT INTO exported (run_id, user_id) SELECT %(run)s, unnest(%(ids)b::text[])"


def note(connection: Connection, run_id: int, seen: Collection[str]) -> None:
    """Note who was seen in the tenant; once more harms nothing."""
    connection.exec_driver_sql(_SEEN, {"run": run_id, "ids": list(seen)})


# In the order in which others insert theirs.
_SUSPECT = text("""
INSERT INTO suspects (run_id, user_id, kind, being_read)
SELECT :run, user_id, kind, being_read
FROM unnest(CAST(:ids AS text[]), CAST(:kinds AS text[]), CAST(:being_read AS boolean[])) AS batch (user_id, kind, being_read)
ORDER BY user_id COLLATE "C"
ON CONFLICT (run_id, user_id) DO NOTHING RETURNING user_id
""")


def suspect(connection: Connection, run_id: int, kinds: Mapping[str, str], being_read: Collection[str]) -> set[str]:
    """Note what is suspected of whom (`kinds` by id), and who of them is being read; return those nobody has suspected before."""
    if not kinds:
        return set()
    read = [user_id in being_read for user_id in kinds]
    found = connection.execute(
        _SUSPECT, {"run": run_id, "ids": list(kinds), "kinds": list(kinds.values()), "being_read": read}
    )
    return set(found.scalars())


_EXTRA = text("""
INSERT INTO suspects (run_id, user_id, kind)
SELECT :run, user_id, 'extra' FROM users
WHERE deleted_at IS NULL
  AND NOT EXISTS (SELECT FROM exported WHERE run_id = :run AND exported.user_id = users.user_id)
  AND NOT EXISTS (SELECT FROM news WHERE news.user_id = users.user_id AND (strong OR NOT :though_marked))
ON CONFLICT (run_id, user_id) DO NOTHING
""")


def suspect_extra(connection: Connection, run_id: int, *, though_marked: bool) -> None:
    """Suspect those who are live here and are not in the export (P12); nobody whose mark asks for a strong read.

    Who came since it began is among them, and costs a read. That a row was written since says nothing: by an event, perhaps,
    that came late. `though_marked`: nor does a mark, which such an event may clear.
    """
    # Without an index, looking each row up by itself would be quadratic; the planner has no statistics to know it by.
    connection.exec_driver_sql("SET LOCAL enable_nestloop = off")
    connection.execute(_EXTRA, {"run": run_id, "though_marked": though_marked})


def suspects(connection: Connection, run_id: int, after: str, rows: int) -> list[tuple[str, str]]:
    """Return the next suspects after an id whom nobody reads yet, as (id, kind), in order."""
    return [
        (user_id, kind)
        for user_id, kind in connection.execute(
            text("""
            SELECT user_id, kind FROM suspects
            WHERE run_id = :run AND NOT being_read AND user_id > :after ORDER BY user_id LIMIT :rows
            """),
            {"run": run_id, "after": after, "rows": rows},
        )
    ]


def was_lost(connection: Connection, run_id: int) -> bool:
    """Tell whether nothing of what a run has noted is there: the table is not logged, so a crash of PostgreSQL empties it."""
    return connection.execute(text("SELECT FROM exported WHERE run_id = :run LIMIT 1"), {"run": run_id}).first() is None


def forget(connection: Connection, run_id: int) -> None:
    """Drop what a run has noted."""
    for table in ("exported", "suspects"):
        connection.execute(text(f"DELETE FROM {table} WHERE run_id = :run"), {"run": run_id})  # noqa: S608 (the words above)
