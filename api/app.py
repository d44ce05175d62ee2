"""Puts the web process together: its routes, and what lives as long as it does."""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial

from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route

from api.health import healthz, readyz
from api.metrics import metrics
from api.music import make_music, opened, routes as music_routes
from api.pages import page_routes
from api.problems import Problem, on_error, on_http_exception, on_problem
from api.tokens import Verifier
from api.webhooks import event_stream, log_stream
from worker import views
from worker.errors import DatabaseDown
from worker.metrics import exposition
from worker.queue import Doorbell, Inbox, make_celery
from worker.settings import Settings


def make_app(settings: Settings) -> Starlette:
    """Return the application.

    Raises WrongSetting, and WrongTenant if the database is a copy of another one. A database that is away is no
    reason not to start: the routes answer 503 until it is back.
    """
    settings.require_any("log_stream_tokens", "event_stream_tokens")
    with suppress(DatabaseDown):
        views.check_tenant(settings)
    inbox = Inbox(settings, check=partial(views.admit, domain=settings.auth0_domain))
    doorbell = Doorbell(settings, make_celery(settings))
    # Without an audience, there is no music API.
    music = make_music(settings, Verifier(settings), inbox, doorbell) if settings.auth0_audience else None
    pages = page_routes(settings, music)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(inbox)
            if music is not None:
                await stack.enter_async_context(opened(music))
            _spare_the_collector()
            yield
        await asyncio.to_thread(doorbell.close)

    app = Starlette(
        routes=[
            *_webhooks(settings, inbox, doorbell),
            *(music_routes(music) if music is not None else ()),
            *pages,
            Route("/healthz", healthz),
            *_scraped(settings),
            Route("/readyz", readyz(partial(views.ready, settings))),
        ],
        middleware=_cross_origin(settings.cors_allowed_origins),
        exception_handlers={Problem: on_problem, HTTPException: on_http_exception, Exception: on_error},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # a sender that does not follow would lose what it sent, and see no error
    return app


def _scraped(settings: Settings) -> Iterator[Route]:
    """Yield the route that Prometheus scrapes, where it has a token."""
    if token := settings.metrics_token.get_secret_value():
        yield Route("/metrics", metrics(token, partial(exposition, settings)))


def _spare_the_collector() -> None:
    """Have what is loaded by now never walked again in search of cycles, and look for them less often.

    A third of a busy process's time went there: each request makes some objects, and none of its cycles are large.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _webhooks(settings: Settings, inbox: Inbox, doorbell: Doorbell) -> Iterator[Route]:
    """Yield a route for each feed that has tokens: without one nobody could be let in."""
    limit = settings.max_delivery_bytes
    if settings.log_stream_tokens:
        logs = log_stream(_secrets(settings.log_stream_tokens), inbox, doorbell, limit)
        yield Route("/webhooks/auth0/logs", logs, methods=["POST"])
    if settings.event_stream_tokens:
        tokens = _secrets(settings.event_stream_tokens)
        events = event_stream(tokens, settings.event_stream_header, inbox, doorbell, limit)
        yield Route("/webhooks/auth0/events", events, methods=["POST"])


def _secrets(tokens: Iterable[SecretStr]) -> list[str]:
    return [token.get_secret_value() for token in tokens]


def _cross_origin(origins: list[str]) -> list[Middleware]:
    """Let the pages of `origins` call from a browser, refusals included: so it stands around the whole application."""
    if not origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["WWW-Authenticate", "Retry-After"],
            allow_credentials=False,  # a token is sent on purpose; a cookie would come along by itself
        )
    ]
