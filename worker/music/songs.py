"""A person's songs, oldest first."""

from msgspec import Struct

from worker.music.callers import Caller
from worker.music.database import Database, one


class Song(Struct, frozen=True, gc=False):
    """A song."""

    song_id: int
    songname: str


class Songs(Struct, frozen=True, gc=False):
    """A page of songs; `next` is the cursor of the page that follows, null on the last."""

    songs: list[Song]
    next: str | None


_PAGE = """
SELECT song_id, songname FROM songs WHERE user_id = ANY(%(ids)b::text[]) AND song_id > %(after)b
ORDER BY song_id LIMIT %(rows)b
"""
_ADD = "INSERT INTO songs (user_id, songname) VALUES (%(id)b::text, %(name)b::text) RETURNING song_id, songname"
_REMOVE = "DELETE FROM songs WHERE song_id = %(song)b AND user_id = ANY(%(ids)b::text[]) RETURNING song_id"


async def page(database: Database, caller: Caller, after: int, limit: int) -> Songs:
    """Return at most `limit` songs whose ids are above `after`."""
    rows = await database.read(_PAGE, {"ids": caller.ids, "after": after, "rows": limit + 1})
    songs = [Song(*row) for row in rows[:limit]]
    return Songs(songs, str(songs[-1].song_id) if len(rows) > limit else None)


async def add(database: Database, caller: Caller, name: str) -> Song:
    """Add a song."""
    return Song(*one(await database.write(_ADD, {"id": caller.user_id, "name": name})))


async def remove(database: Database, caller: Caller, song_id: int) -> bool:
    """Remove a song, from the playlists that hold it too; say whether it was there and theirs."""
    return bool(await database.write(_REMOVE, {"song": song_id, "ids": caller.ids}))
