"""Wishes: a display name or a plan that was chosen here and that Auth0 has to take (P17)."""

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, text

from worker.domain.pushes import Attribute

# The driver's own statements, since the web process runs them too, through a connection of another kind.
WISH = """
INSERT INTO wishes (user_id, attribute, value) VALUES (%(user_id)s, %(attribute)s, %(value)s)
ON CONFLICT (user_id, attribute) DO UPDATE
SET value = excluded.value, number = nextval('wish_number'), wished_at = now()
"""
"""Write a wish, under a new number; in the transaction that also runs `worker.store.pushes.MARK`, after it."""


def wish(connection: Connection, user_id: str, attribute: Attribute, value: str) -> None:
    """Write a wish of a primary's id; the last one made wins. The caller marks the push in the same transaction."""
    connection.exec_driver_sql(WISH, {"user_id": user_id, "attribute": attribute, "value": value})


def lock(connection: Connection, user_id: str) -> None:
    """Lock a user's wishes until the transaction ends, before a mark of the same user is locked."""
    connection.execute(text("SELECT FROM wishes WHERE user_id = :id ORDER BY attribute FOR UPDATE"), {"id": user_id})


# Only what the row shows: a wish that went while the row still held the old value would show that one again.
_FULFIL = text("""
DELETE FROM wishes USING unnest(CAST(:attributes AS text[]), CAST(:numbers AS bigint[])) AS shown (attribute, number), users
WHERE wishes.user_id = :user_id AND wishes.attribute = shown.attribute AND wishes.number = shown.number
  AND users.user_id = wishes.user_id
  AND wishes.value = CASE wishes.attribute WHEN 'plan' THEN users.plan ELSE users.display_name END
""")


def fulfil(connection: Connection, user_id: str, shown: Mapping[Attribute, int]) -> None:
    """End the wishes that an applied answer shows, each only while its number is what it was: {attribute: number}."""
    if shown:
        connection.execute(_FULFIL, {"user_id": user_id, "attributes": list(shown), "numbers": list(shown.values())})


_DROP = text("""
DELETE FROM wishes WHERE user_id = ANY(:ids)
  AND NOT EXISTS (SELECT FROM users live WHERE live.user_id = wishes.user_id AND live.deleted_at IS NULL AND live.synced_at IS NOT NULL)
""")


def drop(connection: Connection, ids: Sequence[str]) -> None:
    """Drop the wishes of those of these ids that are tombstones or secondaries (P13)."""
    if ids:
        connection.execute(_DROP, {"ids": list(ids)})
