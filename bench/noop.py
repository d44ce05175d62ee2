"""The least a webhook can do: authenticate, read the body, answer 204. And the least a route can: answer bytes."""

import hmac
import os
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_TOKEN = os.environ.get("LOG_STREAM_TOKENS", "").encode()
_DONE = Response(status_code=204)


async def webhook(request: Request) -> Response:
    """Answer 204."""
    if not hmac.compare_digest(request.headers.get("authorization", "").encode(), _TOKEN):
        return Response(status_code=401)
    await request.body()
    return _DONE


_ANSWER = Path(os.environ["BENCH_ANSWER"]).read_bytes() if "BENCH_ANSWER" in os.environ else b""


async def answer(_request: Request) -> Response:
    """Answer the bytes of the file BENCH_ANSWER."""
    return Response(_ANSWER, media_type="application/json")


asgi = Starlette(
    routes=[Route("/webhooks/auth0/logs", webhook, methods=["POST"]), Route("/me", answer, methods=["GET"])]
)
