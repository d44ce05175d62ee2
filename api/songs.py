"""The caller's songs."""

from api.fields import Body, Page, Query, SongName
from api.operations import Call, Operation, missing
from worker.music import songs
from worker.music.songs import Song, Songs


class NewSong(Body):
    """A song to add."""

    songname: SongName


async def page(call: Call[Page]) -> Songs:
    """Answer a page of them, oldest first."""
    return await songs.page(call.music.database, await call.caller(), call.given.after, call.given.limit)


async def add(call: Call[NewSong]) -> Song:
    """Add one."""
    return await songs.add(call.music.database, await call.caller(), call.given.songname)


async def remove(call: Call[Query]) -> None:
    """Remove one, from playlists too."""
    if not await songs.remove(call.music.database, await call.caller(), call.id):
        raise missing("song")


OPERATIONS = (
    Operation("GET", "/songs", page, "The caller's songs, oldest first", Page, Songs),
    Operation("POST", "/songs", add, "Add a song", NewSong, Song, status=201),
    Operation(
        "DELETE", "/songs/{song_id}", remove, "Remove a song, from playlists too", Query, status=204, refuses=(404,)
    ),
)
