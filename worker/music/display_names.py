"""The name a person chose, else the one Auth0 has, else the default one (P17)."""

from msgspec import Struct

from worker.music.callers import Caller
from worker.music.database import Connection, Database, fetch, one
from worker.store.pushes import MARK, SOON
from worker.store.wishes import WISH


class DisplayName(Struct, frozen=True, rename="camel", gc=False):
    """A person's display name; null where none is known and there is no default. `pending`: Auth0 does not have it yet."""

    display_name: str | None
    pending: bool


_GET = """
SELECT coalesce(wishes.value, users.display_name), wishes.value IS NOT NULL
FROM users LEFT JOIN wishes ON wishes.user_id = users.user_id AND wishes.attribute = 'displayName'
WHERE users.user_id = %(id)b::text
"""


async def get(database: Database, caller: Caller, default: str) -> DisplayName:
    """Return the name to show: what was chosen here last, whether Auth0 has it yet or not."""
    name, pending = one(await database.read(_GET, {"id": caller.user_id}) or [(None, False)])
    return DisplayName(name or default or None, pending)


async def choose(database: Database, caller: Caller, name: str) -> None:
    """Write a wish for this name, and the mark by which it gets to Auth0, in one transaction; ring "push" afterwards."""

    async def write(connection: Connection) -> None:
        await fetch(connection, WISH, {"user_id": caller.user_id, "attribute": "displayName", "value": name})
        await fetch(connection, MARK, {"ids": [caller.user_id], "after": SOON, "last": False})

    await database.transaction(write)
