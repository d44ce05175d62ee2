"""Which connection an id names: log records carry both, a deletion carries the id alone, and profiles know the name."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection, text

# Those that are known are not written again: a drain would wait for another's commit over nothing.
_LEARN = text("""
INSERT INTO connections (id, name)
SELECT id, name FROM unnest(CAST(:ids AS text[]), CAST(:names AS text[])) AS batch (id, name)
WHERE NOT EXISTS (SELECT FROM connections WHERE connections.id = batch.id) ORDER BY id COLLATE "C"
ON CONFLICT DO NOTHING
""")

_MARK_USERS = text("""
INSERT INTO news AS held (user_id, newest, deletion_seen_at, strong, deletion_announced)
SELECT user_id, CAST(:date AS timestamptz), CAST(:date AS timestamptz), true, true FROM users
WHERE deleted_at IS NULL AND identities @> jsonb_build_array(jsonb_build_object('connection', CAST(:name AS text)))
ORDER BY user_id
ON CONFLICT (user_id) DO UPDATE SET
  number = nextval('news_number'), last_at = now(), strong = true, deletion_announced = true, braked_at = NULL,
  newest = greatest(held.newest, excluded.newest),
  deletion_seen_at = greatest(held.deletion_seen_at, excluded.deletion_seen_at), due_at = least(held.due_at, now())
""")


def learn(connection: Connection, names: Mapping[str, str]) -> None:
    """Remember connections' names by their ids; a connection is never renamed."""
    if names:
        connection.execute(_LEARN, {"ids": list(names), "names": list(names.values())})


def mark_users(connection: Connection, connection_id: str, date: datetime | None) -> bool:
    """Mark every live user of a connection that was deleted with its users; tell whether its name is known."""
    name = connection.execute(text("SELECT name FROM connections WHERE id = :id"), {"id": connection_id}).scalar()
    if name is None:
        return False
    connection.execute(_MARK_USERS, {"name": name, "date": date})
    return True
