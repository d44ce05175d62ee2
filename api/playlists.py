"""Playlists: the caller's own, their plays, and the list that editors feature for all."""

from typing import Annotated
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType, field
from starlette.responses import Response

from api.fields import Body, Id, Name, Page, Query
from api.operations import Call, Given, Operation, admitted, missing
from api.problems import Problem
from worker.music import Caller, playlists
from worker.music.playlists import NotYours, Playlist, Playlists

EDITOR = "playlist_editor"
# Of all the paths of the API.
BUSIEST = "/playlists/{playlist_id}/plays"
SongIds = Annotated[list[Id], Meta(max_length=500)]


class NewPlaylist(Body):
    """A playlist to create: its name and the ids of the caller's songs, in order."""

    name: Name
    songs: SongIds = field(default_factory=list)


class PlaylistChange(Body):
    """What to change of a playlist; `songs` replaces the whole list."""

    name: Name | UnsetType = UNSET
    songs: SongIds | UnsetType = UNSET


class Play(Body):
    """A play, under an id that the client made: sent again, it counts once."""

    play_id: UUID


async def page(call: Call[Page]) -> Playlists:
    """Answer a page of the caller's own, oldest first."""
    given, music = call.given, call.music
    return await playlists.page(music.database, await call.caller(), given.after, given.limit, music.default_name)


async def featured(call: Call[Page]) -> Playlists:
    """Answer a page of the featured ones, everybody's."""
    given, music = call.given, call.music
    return await playlists.featured(music.database, await call.caller(), given.after, given.limit, music.default_name)


async def count_plays(call: Call[Query]) -> Response:
    """Answer the plays of all the caller's playlists, a bare integer."""
    total = await playlists.plays(call.music.database, await call.caller())
    return Response(str(total), 200, {"Cache-Control": "no-store"}, "text/plain")


async def get(call: Call[Query]) -> Playlist:
    """Answer one: the caller's own, or a featured one."""
    return await _get(call, await call.caller(), call.id)


async def create(call: Call[NewPlaylist]) -> Playlist:
    """Create one."""
    caller = await call.caller()
    try:
        made = await playlists.create(call.music.database, caller, call.given.name, call.given.songs)
    except NotYours as error:
        raise _not_yours(error) from None
    return await _get(call, caller, made)


async def change(call: Call[PlaylistChange]) -> Playlist:
    """Change the name, the songs, or both."""
    caller, given = await call.caller(), call.given
    name = None if given.name is UNSET else given.name
    songs = None if given.songs is UNSET else given.songs
    try:
        found = await playlists.change(call.music.database, caller, call.id, name, songs)
    except NotYours as error:
        raise _not_yours(error) from None
    if not found:
        raise missing("playlist")
    return await _get(call, caller, call.id)


async def delete(call: Call[Query]) -> None:
    """Delete one, and its plays with it."""
    if not await playlists.delete(call.music.database, await call.caller(), call.id):
        raise missing("playlist")
    call.music.doorbell.ring_soon("push")


async def play(call: Call[Play]) -> None:
    """Take a play: it is durable when this answers, and counted by a worker."""
    listener, found = await call.music.plays.take(call.subject, call.id, call.given.play_id)
    admitted(listener)
    if not found:
        raise missing("playlist")


async def feature(call: Call[Query]) -> None:
    """Put any playlist on the editors' list."""
    await _feature(call, featured=True)


async def unfeature(call: Call[Query]) -> None:
    """Take one off the editors' list."""
    await _feature(call, featured=False)


async def _feature(call: Call[Query], *, featured: bool) -> None:
    caller = await call.caller()
    if EDITOR not in caller.roles:
        raise Problem(403, f"Only who has the role {EDITOR} may do this.")
    if not await playlists.feature(call.music.database, call.id, featured=featured):
        raise missing("playlist")


async def _get(call: Call[Given], caller: Caller, playlist_id: int) -> Playlist:
    found = await playlists.get(call.music.database, caller, playlist_id, call.music.default_name)
    if found is None:
        raise missing("playlist")
    return found


def _not_yours(error: NotYours) -> Problem:
    detail = "There is no such song."
    return Problem(404, detail, errors=[{"detail": detail, "pointer": f"#/songs/{error.position}"}])


OPERATIONS = (
    Operation("GET", "/playlists", page, "The caller's playlists with plays and songs, oldest first", Page, Playlists),
    Operation("POST", "/playlists", create, "Create a playlist", NewPlaylist, Playlist, status=201, refuses=(404,)),
    Operation(
        "GET",
        "/playlists/getPlays",
        count_plays,
        "The plays of all the caller's playlists, a bare integer",
        Query,
        int,
        media=("text/plain",),
    ),
    Operation(
        "GET", "/playlists/featured", featured, "The featured playlists, everybody's, oldest first", Page, Playlists
    ),
    Operation(
        "GET",
        "/playlists/{playlist_id}",
        get,
        "A playlist: the caller's own or a featured one",
        Query,
        Playlist,
        refuses=(404,),
    ),
    Operation(
        "PATCH",
        "/playlists/{playlist_id}",
        change,
        "Change a playlist's name, its songs, or both",
        PlaylistChange,
        Playlist,
        refuses=(404,),
    ),
    Operation(
        "DELETE",
        "/playlists/{playlist_id}",
        delete,
        "Delete a playlist and its plays",
        Query,
        status=204,
        refuses=(404,),
    ),
    Operation(
        "POST",
        BUSIEST,
        play,
        "Play a playlist; sent again with the same play_id, it counts once",
        Play,
        status=202,
        refuses=(404,),
    ),
    Operation(
        "PUT",
        "/playlists/{playlist_id}/featured",
        feature,
        f"Feature any playlist; needs the role {EDITOR}",
        Query,
        status=204,
        refuses=(404,),
    ),
    Operation(
        "DELETE",
        "/playlists/{playlist_id}/featured",
        unfeature,
        f"Feature a playlist no longer; needs the role {EDITOR}",
        Query,
        status=204,
        refuses=(404,),
    ),
)
