"""A person as the local copy has them: profile, chosen name, roles, plan, and how fresh all of it is."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from msgspec import Raw, Struct

from worker.music.callers import ALIASES, FORGOTTEN, OWN, PRIMARY, Caller, Standing
from worker.music.database import Database
from worker.music.loader import Loader


class Profile(Struct, frozen=True, gc=False):
    """What Auth0 knows of the person, under Auth0's names; null where it says nothing."""

    email: str | None
    email_verified: bool | None
    username: str | None
    phone_number: str | None
    phone_verified: bool | None
    name: str | None
    given_name: str | None
    family_name: str | None
    nickname: str | None
    picture: str | None
    created_at: datetime | None
    updated_at: datetime | None
    last_login: datetime | None
    logins_count: int | None
    user_metadata: Raw


class Freshness(Struct, frozen=True, gc=False):
    """How fresh the local copy is.

    `synced_at`: when Auth0 last confirmed it; null for somebody who has just arrived. `stale`: something happened since,
    and Auth0 is being asked. `pending`: what was chosen here and Auth0 does not have yet.
    """

    synced_at: datetime | None
    stale: bool
    pending: list[str]


class Me(Struct, frozen=True, gc=False):
    """The caller. `linked_ids` are the secondary identities' ids whose own data is shown here too."""

    user_id: str
    linked_ids: list[str]
    display_name: str | None
    roles: list[str]
    plan: str | None
    profile: Profile
    freshness: Freshness


class Reflection(Struct, frozen=True, gc=False):
    """A caller and what `GET /me` shows of them; `me` is None unless they are live."""

    caller: Caller
    me: Me | None = None


_NOTHING = Raw(b"null")
_LOOK = f"""
SELECT asked.sub, {FORGOTTEN.format(id="asked.sub")}, own.user_id, u.user_id, u.blocked, u.roles, {ALIASES}, u.display_name, u.plan,
  u.synced_at, u.stale, CASE WHEN u.user_id IS NOT NULL THEN ARRAY(SELECT attribute FROM wishes WHERE wishes.user_id = u.user_id ORDER BY 1) END,
  u.email, u.email_verified, u.username, u.phone_number, u.phone_verified, u.name, u.given_name, u.family_name, u.nickname,
  u.picture, u.created_at, u.updated_at, u.last_seen_at, u.logins_count, u.user_metadata::text
FROM unnest(%(asked)b::text[]) AS asked (sub)
{OWN.format(id="asked.sub")}
LEFT JOIN LATERAL (SELECT * FROM live_users WHERE user_id = {PRIMARY.format(id="asked.sub")} LIMIT 1) AS u ON true
"""  # noqa: S608 (constants)


class Mirror:
    """Shows people to themselves; looks made at the same moment are one query, which also says who they are."""

    def __init__(self, database: Database, default_name: str) -> None:
        self._database, self._default = database, default_name or None
        self._load: Loader[str, Reflection] = Loader(self._fetch)

    async def look(self, subject: str) -> Reflection | None:
        """Return who `subject` is and what is known of them, None of somebody unknown; raises as `Database.read`."""
        return await self._load(subject)

    async def _fetch(self, subjects: Sequence[str]) -> dict[str, Reflection]:
        found: dict[str, Reflection] = {}
        for subject, forgotten, own, *row in await self._database.read(_LOOK, {"asked": subjects}):
            if forgotten:
                found[subject] = Reflection(Caller(subject, standing=Standing.GONE))
            elif row[0] is not None:
                found[subject] = self._reflect(row)
            elif own is not None:
                found[subject] = Reflection(Caller(subject, standing=Standing.GONE))
        return found

    def _reflect(self, row: Sequence[Any]) -> Reflection:
        user_id, blocked, roles, aliases, name, plan, synced_at, stale, pending, *columns, metadata = row
        standing = Standing.BLOCKED if blocked else Standing.LIVE
        caller = Caller(user_id, tuple(aliases or ()), tuple(roles or ()), standing)
        columns.append(_NOTHING if metadata is None else Raw(metadata.encode()))
        profile = Profile(*columns)
        freshness = Freshness(synced_at, stale, pending)
        me = Me(user_id, aliases or [], name or self._default, roles or [], plan, profile, freshness)
        return Reflection(caller, me)
