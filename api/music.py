"""The music app's API, put together: what its routes reach for, and the routes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from starlette.routing import Route

from api import display_name, genres, me, openapi, playlists, songs
from api.operations import Music, routes as routes_of
from api.tokens import Verifier
from worker import views
from worker.music import Callers, Database, Mirror
from worker.music.plays import Plays
from worker.queue import Doorbell, Inbox
from worker.settings import Settings

OPERATIONS = (
    *me.OPERATIONS,
    *display_name.OPERATIONS,
    *genres.OPERATIONS,
    *songs.OPERATIONS,
    *playlists.OPERATIONS,
)


def make_music(settings: Settings, verifier: Verifier, inbox: Inbox, doorbell: Doorbell) -> Music:
    """Return what the routes reach for; `opened` it before the first request."""
    database = Database(settings, check=partial(views.admit, domain=settings.auth0_domain))
    callers = Callers(database, doorbell.ring_soon)
    return Music(
        verifier=verifier,
        database=database,
        callers=callers,
        mirror=Mirror(database, settings.default_display_name),
        plays=Plays(database, callers, inbox, doorbell.ring_soon),
        doorbell=doorbell,
        default_name=settings.default_display_name,
    )


@asynccontextmanager
async def opened(music: Music) -> AsyncIterator[None]:
    """Open what it reaches for, but for the inbox and the doorbell, which are not its own."""
    async with music.verifier, music.database:
        yield


def routes(music: Music) -> list[Route]:
    """Return the routes of the API and of its description, the busiest first: a request is matched with one after the other."""
    found = [*routes_of(OPERATIONS, music), openapi.route(OPERATIONS)]
    return sorted(found, key=lambda route: route.path != playlists.BUSIEST)
