"""Whether the columns of live users follow from their profiles, as every writer here makes them; others may have changed them by hand."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Engine, text

from worker.store.users import BOOLEANS, STRUCTURES, TEXTS, TIMES, TYPES, snapshot_columns

_VALUES: Final = (*TEXTS, *BOOLEANS, *TIMES, "logins_count")
_AT_ONCE: Final = 500

# A filter: nothing is cast, so nothing odd can break it; who holds something odd is looked at again. Read as text, in one pass
# over each profile, as Auth0 writes these values.
_AS_TEXT: Final = (
    {name: f"users.{name}" for name in TEXTS}
    | {name: f"users.{name}::text" for name in (*BOOLEANS, "logins_count")}
    | {name: f"""to_char(users.{name} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')""" for name in TIMES}
)
_DOUBTED = text(f"""
SELECT user_id FROM users, jsonb_to_record(CASE WHEN jsonb_typeof(profile) = 'object' THEN profile ELSE '{{}}' END) AS said (
  {", ".join(f"{name} text" for name in _VALUES)}, {", ".join(f"{name} jsonb" for name in STRUCTURES)})
WHERE deleted_at IS NULL AND profile IS NOT NULL
  AND ({" OR ".join(f"{here} IS DISTINCT FROM said.{name}" for name, here in _AS_TEXT.items())}
    OR {" OR ".join(f"users.{name} IS DISTINCT FROM said.{name}" for name in STRUCTURES)})
  AND NOT EXISTS (SELECT FROM news WHERE news.user_id = users.user_id)
  AND NOT EXISTS (SELECT FROM suspects WHERE suspects.run_id = :run AND suspects.user_id = users.user_id)
""")  # noqa: S608 (only column names of ours are put in)

_READ = "SELECT user_id, version, profile FROM users WHERE user_id = ANY(:ids) AND deleted_at IS NULL AND profile IS NOT NULL"
_HOLD = f"{_READ} ORDER BY user_id FOR UPDATE"
_SAID = f"""
jsonb_to_recordset(CAST(:said AS jsonb)) AS said (user_id text, version bigint, {", ".join(f"{name} {TYPES[name]}" for name in _VALUES)})
"""
_OF_PROFILE: Final = {name: f"nullif(users.profile -> '{name}', 'null')" for name in STRUCTURES}
_EXPECTED: Final = {name: f"said.{name}" for name in _VALUES} | _OF_PROFILE
_ASTRAY = text(f"""
SELECT user_id, names FROM (
  SELECT user_id, array_remove(ARRAY[
    {", ".join(f"CASE WHEN users.{name} IS DISTINCT FROM {value} THEN '{name}' END" for name, value in _EXPECTED.items())}
  ], NULL) AS names FROM {_SAID} JOIN users USING (user_id, version)
) AS compared WHERE names <> '{{}}' ORDER BY user_id
""")  # noqa: S608 (only column names of ours are put in)
_FOLLOW = text(f"""
UPDATE users SET {", ".join(f"{name} = {value}" for name, value in _EXPECTED.items())}
FROM {_SAID} WHERE users.user_id = said.user_id AND users.version = said.version AND users.user_id = ANY(:ids)
""")  # noqa: S608 (only column names of ours are put in)


def astray(engine: Engine, run_id: int, *, mend: bool) -> Iterator[tuple[str, list[str]]]:
    """Yield whose columns do not follow from their profiles, and which; with `mend` they do so afterwards.

    One pass over the copy, nothing of the tenant. Leaves out who has a mark, and whom the run suspects anyway: those
    are read, and judged by that.
    """
    with engine.connect() as reading:
        doubted = reading.execution_options(stream_results=True).execute(_DOUBTED, {"run": run_id})
        for ids in doubted.scalars().partitions(_AT_ONCE):
            with engine.begin() as connection:
                found = _look(connection, ids, mend=mend)
            yield from found


def _look(connection: Connection, ids: Sequence[str], *, mend: bool) -> list[tuple[str, list[str]]]:
    rows = connection.execute(text(_HOLD if mend else _READ), {"ids": list(ids)}).all()
    said = msgspec.json.encode(
        [{"user_id": user_id, "version": version, **_values(profile)} for user_id, version, profile in rows]
    ).decode()
    found = [(user_id, list(names)) for user_id, names in connection.execute(_ASTRAY, {"said": said})]
    if mend and found:
        connection.execute(_FOLLOW, {"said": said, "ids": [user_id for user_id, _ in found]})
    return found


def _values(profile: Any) -> dict[str, Any]:
    columns = snapshot_columns(profile if isinstance(profile, dict) else {})
    return {name: columns[name] for name in _VALUES}
