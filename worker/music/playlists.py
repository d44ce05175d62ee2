"""Playlists: a person's own, their songs in order, their plays, and those that editors feature for all."""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from worker.music.callers import OWN, PRIMARY, Caller
from worker.music.database import Connection, Database, Row, fetch, one
from worker.music.songs import Song
from worker.store.pushes import MARK, SOON


class Playlist(Struct, frozen=True, gc=False):
    """A playlist. `plays` are those that counted; `owner` is the owner's display name, `mine` whether that is the caller."""

    playlist_id: int
    name: str
    featured: bool
    plays: int
    owner: str | None
    mine: bool
    songs: list[Song]


class Playlists(Struct, frozen=True, gc=False):
    """A page of playlists; `next` is the cursor of the page that follows, null on the last."""

    playlists: list[Playlist]
    next: str | None


_SONGS = msgspec.json.Decoder(list[Song])


class NotYours(Exception):
    """The song at `position` (from 0) of a list is not among the caller's songs."""

    def __init__(self, position: int) -> None:
        super().__init__(position)
        self.position = position


_COLUMNS = f"""
SELECT p.playlist_id, p.name, p.featured, p.plays, owner.display_name, p.user_id = ANY(%(ids)b::text[]),
  (SELECT coalesce(json_agg(json_build_object('song_id', s.song_id, 'songname', s.songname) ORDER BY held.position), '[]')
   FROM playlist_songs held JOIN songs s USING (song_id) WHERE held.playlist_id = p.playlist_id)::text
FROM playlists p
{OWN.format(id="p.user_id")}
LEFT JOIN LATERAL (
  SELECT display_name FROM live_users WHERE user_id = {PRIMARY.format(id="p.user_id")} LIMIT 1
) AS owner ON true
"""  # noqa: S608 (constants)
_MINE = "p.user_id = ANY(%(ids)b::text[])"
_PAGE = f"{_COLUMNS} WHERE {_MINE} AND p.playlist_id > %(after)b ORDER BY p.playlist_id LIMIT %(rows)b"
_FEATURED = f"{_COLUMNS} WHERE p.featured AND p.playlist_id > %(after)b ORDER BY p.playlist_id LIMIT %(rows)b"
_ONE = f"{_COLUMNS} WHERE p.playlist_id = %(playlist)b AND (p.featured OR {_MINE})"

_PLAYS = "SELECT coalesce(sum(plays), 0)::int8 FROM playlists WHERE user_id = ANY(%(ids)b::text[])"
_CREATE = "INSERT INTO playlists (user_id, name) VALUES (%(id)b::text, %(name)b::text) RETURNING playlist_id"
# Also without a new name: it locks the playlist, so that changes of its songs follow each other.
_RENAME = """
UPDATE playlists SET name = coalesce(%(name)b::text, name)
WHERE playlist_id = %(playlist)b AND user_id = ANY(%(ids)b::text[]) RETURNING playlist_id
"""
_DELETE = (
    "DELETE FROM playlists WHERE playlist_id = %(playlist)b AND user_id = ANY(%(ids)b::text[]) RETURNING playlist_id"
)
_FEATURE = "UPDATE playlists SET featured = %(featured)b WHERE playlist_id = %(playlist)b RETURNING playlist_id"

# Before any row of the playlist is touched: whoever deletes one of these songs waits for us, or we for them, in this order.
_HOLD = """
SELECT song_id FROM songs WHERE song_id = ANY(%(songs)b::int8[]) AND user_id = ANY(%(ids)b::text[])
ORDER BY song_id FOR KEY SHARE
"""
_EMPTY = "DELETE FROM playlist_songs WHERE playlist_id = %(playlist)b"
_FILL = """
INSERT INTO playlist_songs (playlist_id, position, song_id)
SELECT %(playlist)b, position, song_id FROM unnest(%(songs)b::int8[]) WITH ORDINALITY AS wanted (song_id, position)
"""


async def page(database: Database, caller: Caller, after: int, limit: int, default_name: str) -> Playlists:
    """Return at most `limit` of the caller's playlists, oldest first, whose ids are above `after`."""
    rows = await database.read(_PAGE, {"ids": caller.ids, "after": after, "rows": limit + 1})
    return _paged(rows, limit, default_name)


async def featured(database: Database, caller: Caller, after: int, limit: int, default_name: str) -> Playlists:
    """Return at most `limit` of the featured playlists, everybody's, whose ids are above `after`."""
    rows = await database.read(_FEATURED, {"ids": caller.ids, "after": after, "rows": limit + 1})
    return _paged(rows, limit, default_name)


async def get(database: Database, caller: Caller, playlist_id: int, default_name: str) -> Playlist | None:
    """Return a playlist that the caller may read: their own or a featured one."""
    rows = await database.read(_ONE, {"ids": caller.ids, "playlist": playlist_id})
    return _playlist(rows[0], default_name) if rows else None


async def plays(database: Database, caller: Caller) -> int:
    """Return the plays of all the caller's playlists."""
    return int(one(await database.read(_PLAYS, {"ids": caller.ids}))[0])


async def create(database: Database, caller: Caller, name: str, songs: Sequence[int]) -> int:
    """Create a playlist and return its id; raises NotYours."""

    async def write(connection: Connection) -> int:
        made = one(await fetch(connection, _CREATE, {"id": caller.user_id, "name": name}))[0]
        await _fill(connection, caller, made, songs)
        await _mark(connection, caller)
        return int(made)

    return await database.transaction(write)


async def change(
    database: Database, caller: Caller, playlist_id: int, name: str | None, songs: Sequence[int] | None
) -> bool:
    """Change a playlist's name, its songs, or both; say whether it is the caller's. Raises NotYours."""

    async def write(connection: Connection) -> bool:
        found = await fetch(connection, _RENAME, {"name": name, "playlist": playlist_id, "ids": caller.ids})
        if found and songs is not None:
            await _fill(connection, caller, playlist_id, songs)
        return bool(found)

    return await database.transaction(write)


async def delete(database: Database, caller: Caller, playlist_id: int) -> bool:
    """Delete a playlist, and its plays with it; say whether it was the caller's. Ring "push" afterwards (P15)."""

    async def write(connection: Connection) -> bool:
        found = await fetch(connection, _DELETE, {"playlist": playlist_id, "ids": caller.ids})
        if found:
            await _mark(connection, caller)
        return bool(found)

    return await database.transaction(write)


async def feature(database: Database, playlist_id: int, *, featured: bool) -> bool:
    """Put a playlist on the editors' list, or take it off; say whether there is one."""
    return bool(await database.write(_FEATURE, {"playlist": playlist_id, "featured": featured}))


async def _fill(connection: Connection, caller: Caller, playlist_id: int, songs: Sequence[int]) -> None:
    held = {song_id for (song_id,) in await fetch(connection, _HOLD, {"songs": list(songs), "ids": caller.ids})}
    for position, song_id in enumerate(songs):
        if song_id not in held:
            raise NotYours(position)
    await fetch(connection, _EMPTY, {"playlist": playlist_id})
    await fetch(connection, _FILL, {"playlist": playlist_id, "songs": list(songs)})


async def _mark(connection: Connection, caller: Caller) -> None:
    """Have the owner's roles looked at: what they earn may have changed."""
    await fetch(connection, MARK, {"ids": [caller.user_id], "after": SOON, "last": False})


def _paged(rows: Sequence[Row], limit: int, default_name: str) -> Playlists:
    found = [_playlist(row, default_name) for row in rows[:limit]]
    return Playlists(found, str(found[-1].playlist_id) if len(rows) > limit else None)


def _playlist(row: Row, default_name: str) -> Playlist:
    playlist_id, name, featured, plays, owner, mine, songs = row
    return Playlist(playlist_id, name, featured, plays, owner or default_name or None, mine, _SONGS.decode(songs))
