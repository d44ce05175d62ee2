"""Who a token's subject is here: the person's live row, an alias resolved to its primary (P13), or why nobody."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import Enum

from worker.domain import news
from worker.errors import BadRecord
from worker.music.database import Database
from worker.music.loader import Loader


class Standing(Enum):
    """Whether a person may use the music app."""

    LIVE = "live"
    BLOCKED = "blocked"  # by an administrator, in Auth0
    GONE = "gone"  # deleted in Auth0, or forgotten here (P14)


@dataclass(frozen=True, slots=True)
class Caller:
    """A person.

    `user_id` is the primary's: what is new is kept under it. `aliases` are the linked secondaries, whose own data is shown
    with the primary's (P13). `roles` are what the local copy holds, whatever a token says.
    """

    user_id: str
    aliases: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    standing: Standing = Standing.LIVE

    @property
    def ids(self) -> list[str]:
        """All ids whose data is this person's, the primary's first."""
        return [self.user_id, *self.aliases]


# Whose an id is: its own, or the live primary's that lists it among its identities. A live row that holds a snapshot is
# never an alias. The view `aliases` says the same; from this side an index finds it. LIMIT 1 keeps PostgreSQL from reading
# whole tables to join them: each id is a few index lookups.
OWN = "LEFT JOIN LATERAL (SELECT user_id, deleted_at, synced_at FROM users WHERE user_id = {id} LIMIT 1) AS own ON true"
PRIMARY = """
CASE WHEN own.synced_at IS NOT NULL AND own.deleted_at IS NULL THEN {id} ELSE coalesce(
  (SELECT holder.user_id FROM users holder WHERE holder.linked_ids @> ARRAY[{id}] AND holder.deleted_at IS NULL
   ORDER BY holder.user_id LIMIT 1), {id}
) END
"""
# Of a live row's linked identities, those that are not live rows themselves.
ALIASES = """
CASE WHEN u.linked_ids IS NOT NULL THEN ARRAY(
  SELECT id FROM unnest(u.linked_ids) AS linked_id (id)
  WHERE NOT EXISTS (SELECT FROM users live WHERE live.user_id = id AND live.deleted_at IS NULL AND live.synced_at IS NOT NULL)
) END
"""
# Whom nobody may be any more, until a strong read finds them again; asked first whether there is anybody of the kind.
FORGOTTEN = """
(SELECT EXISTS (SELECT FROM forgotten)) AND EXISTS (SELECT FROM forgotten WHERE user_hash = user_hash({id}))
"""
_CALLERS = f"""
SELECT asked.sub, {FORGOTTEN.format(id="asked.sub")}, own.user_id, u.user_id, u.blocked, u.roles, {ALIASES}
FROM unnest(%(asked)b::text[]) AS asked (sub)
{OWN.format(id="asked.sub")}
LEFT JOIN LATERAL (
  SELECT user_id, blocked, roles, linked_ids FROM users
  WHERE user_id = {PRIMARY.format(id="asked.sub")} AND deleted_at IS NULL LIMIT 1
) AS u ON true
"""  # noqa: S608 (constants)

# As drain does for news of somebody unknown: nothing but the id is certain, a strong read says the rest.
_INTRODUCE = f"""
WITH stranger AS (SELECT %(id)b::text AS user_id WHERE NOT ({FORGOTTEN.format(id="%(id)b::text")})),
made AS (INSERT INTO users (user_id) SELECT user_id FROM stranger ON CONFLICT DO NOTHING)
INSERT INTO news AS held (user_id, strong) SELECT user_id, true FROM stranger
ON CONFLICT (user_id) DO UPDATE SET
  number = nextval('news_number'), last_at = now(), strong = true, due_at = least(held.due_at, now())
WHERE NOT held.strong
"""  # noqa: S608 (constants)
# Who comes with a good token may have been made anew, with the login's record lost on its way. Asked once a minute at
# most, however often somebody who is gone knocks.
_ASK_AGAIN = """
INSERT INTO news (user_id, strong)
SELECT user_id, true FROM users
WHERE user_id = %(id)b::text AND deleted_at IS NOT NULL AND synced_at < now() - interval '1 min'
ON CONFLICT DO NOTHING RETURNING user_id
"""
# The same of somebody forgotten, of whom there is no row. Two statements, so that no lock waits for another.
_KNOCK = """
UPDATE forgotten SET asked_at = now()
WHERE user_hash = user_hash(%(id)b::text) AND NOT keep_out AND coalesce(asked_at < now() - interval '1 min', true)
RETURNING asked_at
"""
_ASK_BACK = """
WITH made AS (INSERT INTO users (user_id) VALUES (%(id)b::text) ON CONFLICT DO NOTHING)
INSERT INTO news (user_id, strong) VALUES (%(id)b::text, true) ON CONFLICT DO NOTHING
"""


class Callers:
    """Finds callers by the subject of their tokens; lookups made at the same moment are one query.

    `ring` is called with "refresh" when somebody is to be read from the tenant.
    """

    def __init__(self, database: Database, ring: Callable[[str], None]) -> None:
        self._database, self._ring = database, ring
        self._load: Loader[str, Caller | None] = Loader(self._fetch)

    async def find(self, subject: str) -> Caller:
        """Return who `subject` is; somebody unknown becomes a row with a mark, and is live until Auth0 says otherwise.

        Raises BadRecord for what is no user's id, DatabaseDown or Overloaded within 2 s, SchemaBehind.
        """
        found = await self._load(subject)
        if found is None:
            found = await self.introduce(subject)
        elif found.standing is Standing.GONE:
            await self.ask_again(subject)
        return found

    async def find_all(self, subjects: Collection[str]) -> dict[str, Caller]:
        """Return who these subjects are, as `find` does for one."""
        found = await self._fetch(list(subjects))
        odd = [one for one in subjects if (caller := found.get(one)) is None or caller.standing is Standing.GONE]
        callers = dict(zip(odd, await asyncio.gather(*map(self.find, odd)), strict=True))
        return {subject: caller for subject, caller in found.items() if caller is not None} | callers

    async def introduce(self, subject: str) -> Caller:
        """Give somebody unknown a row and a mark (P5, P7); raises BadRecord for what is no user's id."""
        try:
            known = news.user_id(subject)
        except news.Unreadable as error:
            raise BadRecord(str(error)) from None
        if known is None:
            raise BadRecord("a token's subject is no user's id")
        await self._database.write(_INTRODUCE, {"id": known})
        self._ring("refresh")
        return Caller(known)

    async def ask_again(self, subject: str) -> None:
        """Have somebody who is gone looked up in the tenant, unless that was done within the last minute, or they are kept out."""
        asks = bool(await self._database.write(_ASK_AGAIN, {"id": subject}))
        if not asks and await self._database.write(_KNOCK, {"id": subject}):
            await self._database.write(_ASK_BACK, {"id": subject})
            asks = True
        if asks:
            self._ring("refresh")

    async def _fetch(self, subjects: Sequence[str]) -> dict[str, Caller | None]:
        found: dict[str, Caller | None] = {}
        rows = await self._database.read(_CALLERS, {"asked": subjects})
        for subject, forgotten, own, user_id, blocked, roles, aliases in rows:
            if forgotten:
                found[subject] = Caller(subject, standing=Standing.GONE)
            elif user_id is not None:
                standing = Standing.BLOCKED if blocked else Standing.LIVE
                found[subject] = Caller(user_id, tuple(aliases or ()), tuple(roles or ()), standing)
            elif own is not None:
                found[subject] = Caller(subject, standing=Standing.GONE)
        return found
