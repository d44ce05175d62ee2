"""`GET /metrics`: what Prometheus scrapes, for whoever holds the token."""

import asyncio
import hmac
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response

from api.health import Endpoint
from api.problems import problem
from worker.errors import Error

# prometheus_client.CONTENT_TYPE_PLAIN_0_0_4, which every Prometheus reads.
_TEXT = "text/plain; version=0.0.4; charset=utf-8"


def metrics(token: str, exposition: Callable[[], bytes]) -> Endpoint:
    """Return the endpoint: 401 without `token` as bearer, 503 with the Error that `exposition` raises. Scrapes at once share one look."""
    expected = b"Bearer " + token.encode()
    looking: asyncio.Task[bytes] | None = None

    async def endpoint(request: Request) -> Response:
        nonlocal looking
        sent = request.headers.get("Authorization", "").encode("latin-1")
        if not hmac.compare_digest(sent, expected):
            return problem(
                401, "The Authorization header is not METRICS_TOKEN as bearer.", {"WWW-Authenticate": "Bearer"}
            )
        if looking is None or looking.done():
            looking = asyncio.ensure_future(asyncio.to_thread(exposition))
        try:
            body = await asyncio.shield(looking)
        except Error as error:
            return problem(503, str(error), {"Retry-After": "5"})
        return Response(body, headers={"Content-Type": _TEXT, "Cache-Control": "no-store"})

    return endpoint
