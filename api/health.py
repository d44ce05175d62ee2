"""Says whether the process lives, and whether it can take deliveries."""

import asyncio
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from api.problems import problem
from worker.errors import Error

Endpoint = Callable[[Request], Awaitable[Response]]


async def healthz(_request: Request) -> Response:
    """The process is alive; nothing else is asked, so that a database that is away restarts nobody."""
    return PlainTextResponse("ok\n")


def readyz(check: Callable[[], Awaitable[None]]) -> Endpoint:
    """Return the endpoint that answers 503 with the Error that `check` raises. Callers at once share one check."""
    checking: asyncio.Task[None] | None = None

    async def endpoint(_request: Request) -> Response:
        nonlocal checking
        if checking is None or checking.done():
            checking = asyncio.ensure_future(check())
        try:
            await asyncio.shield(checking)
        except Error as error:
            return problem(503, str(error), {"Retry-After": "5"})
        return PlainTextResponse("ready\n")

    return endpoint
