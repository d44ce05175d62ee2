"""Whether the columns of live users follow from their profiles, as every writer here makes them; others may have changed them by hand."""

from collections.abc import Collection
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, text

from worker.store.users import BOOLEANS, STRUCTURES, TEXTS, TIMES, TYPES, snapshot_columns

_VALUES: Final = (*TEXTS, *BOOLEANS, *TIMES, "logins_count")

# A filter, of `users` and SAID: nothing is cast, so nothing odd can break it; who holds something odd is looked at again. Read as
# text, in one pass over the profile, as Auth0 writes these values.
_AS_TEXT: Final = (
    {name: f"users.{name}" for name in TEXTS}
    | {name: f"users.{name}::text" for name in (*BOOLEANS, "logins_count")}
    | {name: f"""to_char(users.{name} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')""" for name in TIMES}
)
SAID: Final = f"""jsonb_to_record(CASE WHEN jsonb_typeof(users.profile) = 'object' THEN users.profile END) AS said (
  {", ".join(f"{name} text" for name in _VALUES)}, {", ".join(f"{name} jsonb" for name in STRUCTURES)})"""
MAY_BE_ASTRAY: Final = " OR ".join(
    f"{here} IS DISTINCT FROM said.{name}"
    for name, here in (_AS_TEXT | {one: f"users.{one}" for one in STRUCTURES}).items()
)

_READ: Final = """
SELECT user_id, version, profile FROM users WHERE user_id = ANY(:ids) AND deleted_at IS NULL AND profile IS NOT NULL
  AND NOT EXISTS (SELECT FROM news WHERE news.user_id = users.user_id)
"""
_HOLD: Final = f"{_READ} ORDER BY user_id FOR UPDATE"
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


def astray(connection: Connection, ids: Collection[str], *, mend: bool) -> list[tuple[str, list[str]]]:
    """Return which of these users' columns do not follow from their profiles, and whose; with `mend` they do so afterwards.

    Leaves out who has a mark: their profile is about to be written.
    """
    if not ids:
        return []
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
