"""Takes what Auth0's log streams and event streams deliver: authenticate, bound, store, answer 2xx, ring."""

import base64
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


class Webhook:
    """One POST route as a bare ASGI application: the hot path.

    A request is let in if the header named `header` is one of `keys`, byte for byte. `refusal` is the detail of a 401;
    `slow_status` what a body is answered that comes too slowly.
    """

    def __init__(
        self,
        source: str,
        header: bytes,
        keys: Iterable[bytes],
        refusal: str,
        slow_status: int,
        *,
        inbox: Inbox,
        doorbell: Doorbell,
        limit: int,
    ) -> None:
        self._source, self._header, self._keys = source, header, list(keys)
        self._refusal, self._slow_status = refusal, slow_status
        self._inbox, self._doorbell, self._limit = inbox, doorbell, limit
        self._room = Room()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 204 once the delivery is durable; 401, `slow_status` or 503 otherwise."""
        encoding, key = _headers(scope, self._header)
        if not self._authentic(key):
            self._inbox.count(f"unauthorized_{self._source}")
            response = problem(401, self._refusal, {"WWW-Authenticate": "Bearer"})
        else:
            try:
                response = await self._accept(receive, encoding)
            except Disconnected:
                return
            except SlowSender:
                response = problem(self._slow_status, "The body came too slowly.", {"Connection": "close"})
            except Error as error:
                response = problem(503, str(error), {"Retry-After": "5", "Connection": "close"})
        await response(scope, receive, send)

    async def _accept(self, receive: Receive, encoding: str) -> Response:
        note = None
        try:
            body = await read_body(receive, self._limit, self._room)
            if encoding:
                try:
                    body = await undo(encoding, body, self._limit, self._room)
                except Undecodable:
                    note = f"Content-Encoding {encoding} could not be undone"
        except Oversize as oversize:
            await self._inbox.put_marker(self._source, oversize.size, str(oversize))
            log.warning("oversize_delivery", source=self._source, size=oversize.size)
        else:
            if body:
                await self._inbox.put(self._source, body, note)
                self._doorbell.ring_soon("drain")
            else:  # whoever probes us learns whether a delivery would be durable
                await self._inbox.put_nothing()
        return _STORED

    def _authentic(self, sent: bytes) -> bool:
        # Every key is compared, whichever matched: the time says nothing about them.
        return sum(hmac.compare_digest(sent, key) for key in self._keys) > 0


def log_stream(tokens: Iterable[str], inbox: Inbox, doorbell: Doorbell, limit: int) -> Webhook:
    """POST /webhooks/auth0/logs. Auth0 sends the Authorization Token as it was typed, and repeats whatever is not answered 2xx."""
    keys = [spelling for token in tokens for spelling in _spellings(token)]
    refusal = "The Authorization header is none of LOG_STREAM_TOKENS."
    return Webhook("logs", b"authorization", keys, refusal, 408, inbox=inbox, doorbell=doorbell, limit=limit)


def event_stream(tokens: Iterable[str], header: str, inbox: Inbox, doorbell: Doorbell, limit: int) -> Webhook:
    """POST /webhooks/auth0/events. An event stream drops for good what is answered 4xx, so nothing but a wrong key is.

    A token may come as bearer, as basic if it is `user:password`, or by itself in the header that `header` names.
    """
    keys: list[bytes] = []
    for spelling in (spelling for token in tokens for spelling in _spellings(token)):
        if header:
            keys.append(spelling)
        else:
            keys.append(b"Bearer " + spelling)
            if b":" in spelling:
                keys.append(b"Basic " + base64.b64encode(spelling))
    name = (header or "Authorization").lower().encode()
    refusal = f"The {header or 'Authorization'} header is none of EVENT_STREAM_TOKENS."
    return Webhook("events", name, keys, refusal, 503, inbox=inbox, doorbell=doorbell, limit=limit)


def _headers(scope: Scope, wanted: bytes) -> tuple[str, bytes]:
    """Return Content-Encoding ("" for none) and the wanted header; sent twice it is no key."""
    encoding, found = "", []
    for name, value in scope["headers"]:
        if name == wanted:
            found.append(value)
        elif name == b"content-encoding":
            encoding = re.sub(r"[^a-z0-9,+ -]", "?", value.decode("latin-1").strip().lower())[:40]
    return "" if encoding == "identity" else encoding, found[0] if len(found) == 1 else b""


def _spellings(token: str) -> set[bytes]:
    """A header is bytes; which ones a token beyond ASCII becomes is the sender's choice."""
    spellings = {token.encode()}
    if not token.isascii():
        with contextlib.suppress(UnicodeEncodeError):
            spellings.add(token.encode("latin-1"))
    return spellings
