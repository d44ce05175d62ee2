"""Who must be looked at for a push: marks like `news`, claimed by lease, deleted when nothing differs any more (P15, P16).

Writers lock `users`, `news`, `wishes` and `pushes` in this order, each by ascending id.
"""

from collections.abc import Iterable
from datetime import timedelta

from sqlalchemy import Connection

SOON = timedelta(seconds=1)
"""How long a mark waits for more of its kind: what is earned and lost again within it costs nothing."""

# An alias is its primary (P13). A mark that nobody has claimed yet, and that is due as soon, says it all already.
MARK = """
INSERT INTO pushes AS held (user_id, due_at, last)
SELECT DISTINCT coalesce(whose.user_id, batch.user_id) COLLATE "C", now() + %(after)s::interval, %(last)s::boolean
FROM unnest(%(ids)s::text[]) AS batch (user_id)
LEFT JOIN LATERAL (
  SELECT u.user_id FROM users u
  WHERE u.linked_ids @> ARRAY[batch.user_id] AND u.deleted_at IS NULL AND NOT EXISTS (
    SELECT FROM users live WHERE live.user_id = batch.user_id AND live.deleted_at IS NULL AND live.synced_at IS NOT NULL)
  ORDER BY u.user_id LIMIT 1
) AS whose ON true
ORDER BY 1
ON CONFLICT (user_id) DO UPDATE SET
  number = nextval('push_number'), due_at = least(held.due_at, excluded.due_at), last = held.last AND excluded.last
WHERE held.leased_until IS NOT NULL OR held.due_at > excluded.due_at OR (held.last AND NOT excluded.last)
"""
"""Mark users by id (`ids`, a list), to be looked at `after` an interval; `last`: only for a default name."""


def mark(connection: Connection, ids: Iterable[str], *, after: timedelta = SOON, last: bool = False) -> None:
    """Have these users, or the primaries they are aliases of, looked at for a push; a hint, which costs Auth0 nothing.

    Call it in the transaction that changed their facts or wishes, as the last of its writes; ring "push" after the commit.
    """
    wanted = sorted(set(ids), key=str.encode)
    if wanted:
        connection.exec_driver_sql(MARK, {"ids": wanted, "after": after, "last": last})
