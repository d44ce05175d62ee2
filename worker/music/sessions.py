"""Sessions of the page: who a browser's cookie stands for, until when, and what the next page has to say."""

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import msgspec

from worker.music.database import Database

# From the click on "Log in" until Auth0 sends the person back.
LOGIN: Final = timedelta(minutes=15)

_ID: Final = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Session:
    """A session. `session_id` is what the cookie holds and is kept nowhere; `user_id`, whoever logged in, None before that."""

    session_id: str = field(repr=False)
    user_id: str | None
    data: Mapping[str, Any] = field(repr=False)


_BEGIN = """
INSERT INTO sessions (session_hash, data, expires_at) VALUES (%(hash)b, %(data)s::jsonb, now() + %(login)b)
"""
# Use is noted once a minute at most (or a tenth of the idle lifetime): nothing is written for each request.
_FIND = """
WITH used AS (
  UPDATE sessions SET seen_at = now(), expires_at = least(created_at + %(lifetime)b, now() + %(idle)b)
  WHERE session_hash = %(hash)b AND %(in_use)b AND user_id IS NOT NULL AND expires_at > now()
    AND seen_at < now() - least(%(idle)b / 10, interval '1 min')
)
SELECT user_id, data::text FROM sessions WHERE session_hash = %(hash)b AND expires_at > now()
"""
_LOG_IN = """
WITH gone AS (DELETE FROM sessions WHERE session_hash = %(old)b)
INSERT INTO sessions (session_hash, user_id, expires_at)
VALUES (%(hash)b, %(user)b::text, now() + least(%(lifetime)b, %(idle)b))
"""
_WRITE = "UPDATE sessions SET data = %(data)s::jsonb WHERE session_hash = %(hash)b"
_END = "DELETE FROM sessions WHERE session_hash = %(hash)b"


class Sessions:
    """The sessions of one database. `lifetime` counts from the login, `idle` from the last use.

    All methods raise DatabaseDown or Overloaded within 2 s, SchemaBehind.
    """

    def __init__(self, database: Database, lifetime: timedelta, idle: timedelta) -> None:
        self._database, self._times = database, {"lifetime": lifetime, "idle": idle}

    async def begin(self, data: Mapping[str, Any]) -> Session:
        """Make a session of nobody yet, for a login under way."""
        session = Session(secrets.token_urlsafe(32), None, data)
        written = {"hash": _hash(session.session_id), "data": _json(data), "login": LOGIN}
        await self._database.write(_BEGIN, written)
        return session

    async def find(self, session_id: str, *, in_use: bool = True) -> Session | None:
        """Return the session of a cookie, None where there is none any more. `in_use` keeps it from being idle."""
        if not _ID.fullmatch(session_id):
            return None
        asked = {"hash": _hash(session_id), "in_use": in_use, **self._times}
        rows = await self._database.read(_FIND, asked)  # it may run twice
        return Session(session_id, rows[0][0], msgspec.json.decode(rows[0][1])) if rows else None

    async def log_in(self, session: Session, user_id: str) -> Session:
        """Replace the session by one of this person's, under a new id: who knew the old one has nothing of it."""
        made = Session(secrets.token_urlsafe(32), user_id, {})
        hashes = {"old": _hash(session.session_id), "hash": _hash(made.session_id)}
        await self._database.write(_LOG_IN, {**hashes, "user": user_id, **self._times})
        return made

    async def write(self, session: Session, data: Mapping[str, Any]) -> None:
        """Keep `data` in place of what the session held."""
        await self._database.write(_WRITE, {"hash": _hash(session.session_id), "data": _json(data)})

    async def end(self, session: Session) -> None:
        """Forget the session."""
        await self._database.write(_END, {"hash": _hash(session.session_id)})


def _hash(session_id: str) -> bytes:
    return hashlib.sha256(session_id.encode()).digest()


def _json(data: Mapping[str, Any]) -> str:
    return msgspec.json.encode(data).decode()
