"""The favourite genre: two old paths to read it, one to set it."""

import re

import msgspec
from starlette.responses import Response

from api.fields import Body, Genre, Query
from api.operations import Call, Operation
from worker.music import genres


class FavouriteGenre(Body):
    """A favourite genre; null for none."""

    fav_genre: Genre | None


async def get(call: Call[Query]) -> Response:
    """Answer the genre as text, as JSON where that is asked for, 204 where none is set."""
    genre = await genres.favourite(call.music.database, await call.caller())
    headers = {"Cache-Control": "no-store", "Vary": "Accept"}
    if genre is None:
        return Response(status_code=204, headers=headers)
    if _prefers_json(call.accept):
        return Response(msgspec.json.encode(FavouriteGenre(genre)), 200, headers, "application/json")
    return Response(genre, 200, headers, "text/plain")


async def put(call: Call[FavouriteGenre]) -> None:
    """Set it."""
    await genres.set_favourite(call.music.database, await call.caller(), call.given.fav_genre)


def _prefers_json(accept: str) -> bool:
    """Say whether JSON is asked for, by name and no less than text."""
    weights = {"application/json": 0.0, "text/plain": 0.0}
    for part in accept.lower().split(","):
        media, _, parameters = part.strip().partition(";")
        if media.strip() in weights:
            weight = re.search(r"(?:^|;)\s*q=([01](?:\.\d{0,3})?)\s*(?:;|$)", parameters)
            weights[media.strip()] = float(weight[1]) if weight else 1.0
    return weights["application/json"] > weights["text/plain"]


OPERATIONS = (
    Operation(
        "GET",
        "/genres/getFav",
        get,
        "The favourite genre: text, or JSON if Accept asks for it",
        Query,
        FavouriteGenre,
        media=("text/plain", "application/json"),
        empty=True,
    ),
    Operation(
        "GET",
        "/secured/getFavGenre",
        get,
        "The same under its old name",
        Query,
        FavouriteGenre,
        media=("text/plain", "application/json"),
        empty=True,
    ),
    Operation("PUT", "/genres/fav", put, "Set the favourite genre, or none", FavouriteGenre, status=204),
)
