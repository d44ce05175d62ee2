"""Takes Auth0's log stream: authenticate, bound, store, answer 2xx, ring."""

import contextlib
import hmac
import re
from collections.abc import Iterable

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.bodies import Disconnected, Oversize, Room, SlowSender, Undecodable, read_body, undo
from api.problems import problem
from worker.errors import Error
from worker.logs import get_logger
from worker.queue import Doorbell, Inbox

log = get_logger(__name__)

_STORED = Response(status_code=204)


class LogStream:
    """POST /webhooks/auth0/logs, as a bare ASGI application: the hot route."""

    def __init__(self, tokens: Iterable[str], inbox: Inbox, doorbell: Doorbell, limit: int) -> None:
        self._tokens = [spelling for token in tokens for spelling in _spellings(token)]
        self._inbox, self._doorbell, self._limit = inbox, doorbell, limit
        self._room = Room()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 204 once the delivery is durable, 401, 408 or 503 otherwise: a log stream repeats what any other answer refuses."""
        encoding, authorization = _headers(scope)
        if not self._authentic(authorization):
            self._inbox.count("unauthorized_logs")
            response = problem(
                401, "The Authorization header is none of LOG_STREAM_TOKENS.", {"WWW-Authenticate": "Bearer"}
            )
        else:
            try:
                response = await self._accept(receive, encoding)
            except Disconnected:
                return
            except SlowSender:
                response = problem(408, "The body came too slowly.", {"Connection": "close"})
            except Error as error:
                response = problem(503, str(error), {"Retry-After": "5", "Connection": "close"})
        await response(scope, receive, send)

    async def _accept(self, receive: Receive, encoding: str) -> Response:
        note = None
        try:
            body = await read_body(receive, self._limit, self._room)
            if encoding:
                try:
                    body = await undo(encoding, body, self._limit)
                except Undecodable:
                    note = f"Content-Encoding {encoding} could not be undone"
        except Oversize as oversize:
            await self._inbox.put_marker("logs", oversize.size, str(oversize))
            log.warning("oversize_delivery", source="logs", size=oversize.size)
        else:
            if body:
                await self._inbox.put("logs", body, note)
                self._doorbell.ring_soon("drain")
        return _STORED

    def _authentic(self, authorization: bytes) -> bool:
        # Every token is compared, whichever matched: the time says nothing about them.
        return sum(hmac.compare_digest(authorization, token) for token in self._tokens) > 0


def _headers(scope: Scope) -> tuple[str, bytes]:
    """Return Content-Encoding ("" for none) and Authorization; sent twice it is no token."""
    encoding, authorizations = "", []
    for name, value in scope["headers"]:
        if name == b"authorization":
            authorizations.append(value)
        elif name == b"content-encoding":
            encoding = re.sub(r"[^a-z0-9,+ -]", "?", value.decode("latin-1").strip().lower())[:40]
    return "" if encoding == "identity" else encoding, authorizations[0] if len(authorizations) == 1 else b""


def _spellings(token: str) -> set[bytes]:
    """A header is bytes; which ones a token beyond ASCII becomes is the sender's choice."""
    spellings = {token.encode()}
    if not token.isascii():
        with contextlib.suppress(UnicodeEncodeError):
            spellings.add(token.encode("latin-1"))
    return spellings
