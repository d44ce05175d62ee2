"""Wishes: a display name or a plan that was chosen here and that Auth0 has to take (P17)."""

from collections.abc import Mapping, Sequence
from typing import Literal

from sqlalchemy import Connection, text

Attribute = Literal["displayName", "plan"]

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


# Only what the row shows: a wish that went while the row still held the old value would show that one again.
_FULFIL = text("""
DELETE FROM wishes USING unnest(CAST(:attributes AS text[]), CAST(:numbers AS bigint[])) AS shown (attribute, number), users
WHERE wishes.user_id = :user_id AND wishes.attribute = shown.attribute AND wishes.number = shown.number
  AND users.user_id = wishes.user_id
  AND wishes.value = CASE wishes.attribute WHEN 'plan' THEN users.plan ELSE users.display_name END
""")


def fulfil(connection: Connection, user_id: str, shown: Mapping[str, int]) -> None:
    """End the wishes that an applied answer shows, each only while its number is what it was: {attribute: number}."""
    if shown:
        connection.execute(_FULFIL, {"user_id": user_id, "attributes": list(shown), "numbers": list(shown.values())})


def drop(connection: Connection, ids: Sequence[str]) -> None:
    """Drop the wishes of tombstones and secondaries (P13)."""
    if ids:
        connection.execute(text("DELETE FROM wishes WHERE user_id = ANY(:ids)"), {"ids": list(ids)})
