"""A person's favourite genre."""

from worker.music.callers import Caller
from worker.music.database import Database

# The primary's own counts first; where it has none, a linked secondary's is shown (P13).
_GET = """
SELECT fav_genre FROM user_data WHERE user_id = ANY(%(ids)b::text[]) AND fav_genre IS NOT NULL
ORDER BY array_position(%(ids)b::text[], user_id) LIMIT 1
"""
_SET = """
INSERT INTO user_data (user_id, fav_genre) VALUES (%(id)b::text, %(genre)b::text)
ON CONFLICT (user_id) DO UPDATE SET fav_genre = excluded.fav_genre
"""
_CLEAR = "UPDATE user_data SET fav_genre = NULL WHERE user_id = ANY(%(ids)b::text[])"


async def favourite(database: Database, caller: Caller) -> str | None:
    """Return the favourite genre, None where none is set."""
    rows = await database.read(_GET, {"ids": caller.ids})
    return str(rows[0][0]) if rows else None


async def set_favourite(database: Database, caller: Caller, genre: str | None) -> None:
    """Set the favourite genre; None leaves none, the linked secondaries' neither."""
    if genre is None:
        await database.write(_CLEAR, {"ids": caller.ids})
    else:
        await database.write(_SET, {"id": caller.user_id, "genre": genre})
