"""What most teams write for plays: check the token, then `UPDATE … SET plays = plays + 1`, a commit per request.

Tuned as a good engineer would: httptools and uvloop, our own token check with its memory, msgspec, a pool of connections that are
open before they are needed, prepared statements, one round trip a request.
"""

import gc
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import msgspec
from psycopg_pool import AsyncConnectionPool
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.problems import Problem, on_problem
from api.tokens import Verifier
from worker.settings import settings

# More made it slower: on two cores, and where all wait for one row.
_CONNECTIONS = int(os.environ.get("ROW_UPDATE_CONNECTIONS", "8"))


class _Play(msgspec.Struct):
    play_id: UUID


_play = msgspec.json.Decoder(_Play)
_verifier = Verifier(settings())
_pool = AsyncConnectionPool(
    settings().database_url.get_secret_value().replace("postgresql+psycopg:", "postgresql:"),
    min_size=_CONNECTIONS,
    max_size=_CONNECTIONS,
    open=False,
    kwargs={"autocommit": True, "prepare_threshold": 0},
)
_ACCEPTED = Response(status_code=202)


@asynccontextmanager
async def _lifespan(_app: Starlette) -> AsyncIterator[None]:
    async with _verifier, _pool:
        gc.freeze()  # as our own web process does
        gc.set_threshold(20_000, 20, 20)
        yield


async def play(request: Request) -> Response:
    """Count a play: 202, or 404 where there is no such playlist."""
    await _verifier.authenticate(request.scope)
    _play.decode(await request.body())
    async with _pool.connection() as connection:
        done = await connection.execute(
            "UPDATE playlists SET plays = plays + 1 WHERE playlist_id = %s", (request.path_params["playlist_id"],)
        )
    return _ACCEPTED if done.rowcount else Response(status_code=404)


asgi = Starlette(
    routes=[Route("/playlists/{playlist_id:int}/plays", play, methods=["POST"])],
    exception_handlers={Problem: on_problem},
    lifespan=_lifespan,
)
