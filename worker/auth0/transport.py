"""The HTTPS connections to the tenant: verified, bounded, and answered in bytes.

auth0-python and the token request both go through the client opened here. An answer is taken off in a response hook and
raised as `Answered`, so that the SDK builds requests but never models answers: one odd field in one profile would cost
the whole page, and its models rewrite dates (auth0-python 6.8: `ParsingError`; `…01.573Z` becomes `…01.573000Z`).

Where very many users are read, `Many` sends the one request that this takes by itself: an eighth of the CPU.

httpx logs each URL at INFO and httpcore each header at DEBUG; worker.logs keeps both at WARNING.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx
import msgspec
import yarl

from worker.errors import TenantDown
from worker.settings import Settings
from worker.trust import trust

MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
"""After decompression; a page of 100 profiles at Auth0's cap of 10 KB is 1 MB."""

CONNECT_SECONDS: Final = 3.0
"""Waiting longer for a TCP connection helps nobody: the request has not been sent, and is made again."""

_CODE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: `token` is the bearer token that was sent. Neither body nor token shows in its repr."""

    status: int
    headers: httpx.Headers = field(repr=False)
    body: bytes = field(repr=False)
    token: str = field(default="", repr=False)

    def json_object(self) -> dict[str, Any] | None:
        """Return the body as a JSON object; None for anything else (HTML, a list, nothing, too deep)."""
        try:
            found = msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        return found if isinstance(found, dict) else None

    def code(self, *names: str) -> str:
        """Return Auth0's own word for an error (`errorCode` or `error`), "" if it is none that is safe to print."""
        body = self.json_object() or {}
        found = next((body[name] for name in names if isinstance(body.get(name), str)), "")
        return found if _CODE.fullmatch(found) else ""


class Answered(Exception):  # not an error: it carries the answer past the SDK's models
    """An answer came."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


class NotUsable(Exception):  # no error yet: what it means depends on the status
    """The reader of an answer cannot use it."""


def open_client(settings: Settings) -> httpx.Client:
    """Open a client; call after the fork, once per process. Raises WrongSetting for an unreadable CA file."""
    seconds = settings.auth0_timeout.total_seconds()

    def take_off(response: httpx.Response) -> None:
        body = _bounded(response, deadline=time.monotonic() + seconds)
        token = response.request.headers.get("authorization", "").removeprefix("Bearer ")
        raise Answered(Answer(response.status_code, response.headers, body, token))

    return httpx.Client(
        verify=trust(settings),
        timeout=httpx.Timeout(seconds, connect=CONNECT_SECONDS, pool=CONNECT_SECONDS),
        follow_redirects=False,  # a login page is no answer, and the token goes to nobody else
        limits=httpx.Limits(max_connections=10, max_keepalive_connections=5, keepalive_expiry=30),
        event_hooks={"response": [take_off]},
    )


class Many:
    """Connections for many requests side by side, on the event loop that it is first used on. Bounds and trust are `open_client`'s."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None

    async def get(self, path: str, token: str) -> Answer:
        """GET a path that is quoted already. TenantDown if no answer came."""
        try:
            return await self._get(path, token)
        except (aiohttp.ClientError, TimeoutError) as error:
            reason = type(error).__name__  # its text may hold the URL
        raise TenantDown(f"Auth0 did not answer: {reason}")

    async def _get(self, path: str, token: str) -> Answer:
        url = yarl.URL(f"https://{self._settings.auth0_domain}{path}", encoded=True)
        headers = {"Authorization": f"Bearer {token}"}
        async with self._opened().get(url, headers=headers, allow_redirects=False) as response:
            body = bytearray()
            try:
                async for chunk in response.content.iter_any():
                    body += chunk
                    if len(body) > MAX_ANSWER_BYTES:
                        raise aiohttp.ClientPayloadError("the answer is too long")
            finally:
                held = response.connection  # None once all was read
                if held is not None and held.transport is not None:
                    held.transport.abort()  # else TLS says goodbye to whoever dribbles
            return Answer(response.status, httpx.Headers(response.raw_headers), bytes(body), token)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            seconds = self._settings.auth0_timeout.total_seconds()
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=trust(self._settings), keepalive_timeout=30),
                timeout=aiohttp.ClientTimeout(
                    total=longest_exchange(self._settings), sock_connect=CONNECT_SECONDS, sock_read=seconds
                ),
                proxy=_proxy(self._settings.auth0_domain),
                cookie_jar=aiohttp.DummyCookieJar(),
                middlewares=[_once],
            )
        return self._session

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()


async def _once(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Send a request; aiohttp itself would repeat a GET whose connection broke, outside the budget."""
    try:
        return await send(request)
    except aiohttp.ClientConnectionError as error:
        reason = type(error).__name__
    raise TenantDown(f"Auth0 did not answer: {reason}")


def _proxy(domain: str) -> str | None:
    """Return the proxy that the environment names for a host, as httpx reads it."""
    proxies = getproxies()
    host = domain.partition(":")[0]
    return None if proxy_bypass(host) else proxies.get("https") or proxies.get("all")


def longest_exchange(settings: Settings) -> float:
    """Return the seconds one request may take: to connect, to be answered, to be read (to the deadline and one chunk)."""
    return CONNECT_SECONDS + 3 * settings.auth0_timeout.total_seconds()


def exchange(send: Callable[[], object]) -> Answer:
    """Run `send`, which sends one request through our client, and return the answer. TenantDown if none came."""
    try:
        send()
    except Answered as answered:
        return answered.answer
    except httpx.HTTPError as error:
        reason = type(error).__name__  # its text holds the URL
    else:
        raise AssertionError("sent through a client that is not ours")
    raise TenantDown(f"Auth0 did not answer: {reason}")


def _bounded(response: httpx.Response, deadline: float) -> bytes:
    body = bytearray()
    for chunk in response.iter_bytes():  # as they come: whoever waited for a full one would not see the deadline
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise httpx.ReadError("the answer is too long")
        if time.monotonic() > deadline:
            raise httpx.ReadTimeout("the answer dribbles in")
    return bytes(body)
