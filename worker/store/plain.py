"""Users as JSON text that PostgreSQL takes as it is: inserted and compared there, never decoded whole and encoded again here.

`text` says which lines may go this way; all others go through `worker.store.users`, which knows what to do with odd values.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from sqlalchemy import Connection

from worker.domain.nesting import too_deep
from worker.store.users import BOOLEANS, COLUMNS, TEXTS, TIMES, TYPES

_Instant = Annotated[datetime, Meta(tz=True)]
_Count = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
# Types as strict as the columns': what does not fit is odd. What is not named here stays undecoded.
_Fitting = msgspec.defstruct(
    "_Fitting",
    [
        ("user_id", str),
        *((name, str | None, None) for name in TEXTS),
        *((name, bool | None, None) for name in BOOLEANS),
        *((name, _Instant | None, None) for name in TIMES),
        ("logins_count", _Count | None, None),
    ],
    gc=False,
)
_DECODER: Final = msgspec.json.Decoder(_Fitting)
# NUL and surrogates, escaped: jsonb has no NUL, and of surrogates only pairs.
_ESCAPED: Final = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")


def fitting(line: bytes) -> tuple[str, str] | None:
    """Return the user's id and the line as text, None where a column or jsonb could not take it as it is."""
    if _ESCAPED.search(line) or b'"0001-' in line or b'"9999-' in line or too_deep(line):  # see `profile_time`
        return None
    try:
        # A newline is white space here: within a string it would be escaped. Lines are told apart by it.
        return _DECODER.decode(line).user_id, line.decode().replace("\n", " ")  # type: ignore[attr-defined] # the struct is made above
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


# One parameter instead of an array, which takes a microsecond of Python for each element. Parsed once: OFFSET 0 keeps the planner from
# putting the cast wherever the line is named.
_LINES = """
SELECT line ->> 'user_id' AS user_id, line
FROM (SELECT line::jsonb FROM string_to_table(%(lines)s::text, E'\\n') AS line OFFSET 0) AS lines
"""

_INSERT = f"""
WITH new AS (
  INSERT INTO users (user_id, {", ".join(COLUMNS)}, version, synced_at)
  SELECT lines.user_id, {", ".join("lines.line" if name == "profile" else f"said.{name}" for name in COLUMNS)}, 1, now()
  FROM ({_LINES}) AS lines, jsonb_to_record(lines.line) AS said (
    {", ".join(f"{name} {TYPES[name]}" for name in COLUMNS if name != "profile")})
  ON CONFLICT (user_id) DO NOTHING
  RETURNING linked_ids
)
SELECT (SELECT count(*) FROM new), ARRAY(SELECT unnest(linked_ids) FROM new WHERE linked_ids IS NOT NULL)
"""  # noqa: S608 (only column names of ours are put in)


def insert_new(connection: Connection, lines: Mapping[str, str]) -> tuple[int, list[str]]:
    """Insert whole profiles of ids that have no row yet; return how many those were, and the ids that are linked to them."""
    in_order = [lines[user_id] for user_id in sorted(lines, key=str.encode)]  # as others lock them
    inserted, linked = connection.exec_driver_sql(_INSERT, {"lines": "\n".join(in_order)}).one()
    return inserted, linked


# Of `lines`, `users` and `news` that are joined. First byte by byte: that is what most are. Else as
# `worker.domain.snapshots.differing` would see most of them.
IS_UNLIKE: Final = """
users.profile IS NULL OR users.deleted_at IS NOT NULL OR users.deletion_seen_at IS NOT NULL OR news.deletion_seen_at IS NOT NULL
OR (NOT record_image_eq(ROW(users.profile), ROW(lines.line)) AND
    (SELECT jsonb_object_agg(key, value) FROM jsonb_each(users.profile)
     WHERE value <> 'null' AND (%(covers)b::text[] IS NULL OR key = ANY(%(covers)b::text[])))
    IS DISTINCT FROM
    (SELECT jsonb_object_agg(key, value) FROM jsonb_each(lines.line) WHERE value <> 'null'))
"""

_UNLIKE = f"""
SELECT lines.user_id FROM ({_LINES}) AS lines LEFT JOIN users USING (user_id) LEFT JOIN news USING (user_id) WHERE {IS_UNLIKE}
"""  # noqa: S608 (only what is written above is put in)


def unlike(connection: Connection, lines: Mapping[str, str], covers: frozenset[str] | None) -> set[str]:
    """Return those of whom we have no such profile, live and undoubted: whom to look at by the rules. No row is locked.

    Only what `covers` names is compared of a row, everything where it is None; a line holds nothing else (P2).
    """
    covered = None if covers is None else sorted(covers)
    return set(connection.exec_driver_sql(_UNLIKE, {"lines": "\n".join(lines.values()), "covers": covered}).scalars())


_KNOWN = "SELECT user_id FROM users WHERE user_id = ANY(%(ids)b::text[])"


def known(connection: Connection, lines: Mapping[str, str]) -> set[str]:
    """Return those who have a row, a bare one included."""
    return set(connection.exec_driver_sql(_KNOWN, {"ids": list(lines)}).scalars())
