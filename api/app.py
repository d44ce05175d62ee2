"""Puts the web process together: its routes, and what lives as long as it does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route

from api.health import healthz, readyz
from api.problems import on_error, on_http_exception
from api.webhooks import LogStream
from worker import views
from worker.errors import DatabaseDown
from worker.queue import Doorbell, Inbox, make_celery
from worker.settings import Settings


def make_app(settings: Settings) -> Starlette:
    """Return the application.

    Raises WrongSetting, and WrongTenant if the database is a copy of another one. A database that is away is no
    reason not to start: the routes answer 503 until it is back.
    """
    settings.require("log_stream_tokens")
    with suppress(DatabaseDown):
        views.check_tenant(settings)
    inbox = Inbox(settings, check=partial(views.admit, domain=settings.auth0_domain))
    doorbell = Doorbell(settings, make_celery(settings))
    tokens = [token.get_secret_value() for token in settings.log_stream_tokens]

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with inbox:
            yield
        await asyncio.to_thread(doorbell.close)

    return Starlette(
        routes=[
            Route(
                "/webhooks/auth0/logs",
                LogStream(tokens, inbox, doorbell, settings.max_delivery_bytes),
                methods=["POST"],
            ),
            Route("/healthz", healthz),
            Route("/readyz", readyz(partial(views.ready, settings))),
        ],
        exception_handlers={HTTPException: on_http_exception, Exception: on_error},
        lifespan=lifespan,
    )
