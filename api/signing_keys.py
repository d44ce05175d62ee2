"""Keeps the tenant's public signing keys: fetched from its JWKS, refreshed in the background, kept through an outage.

PyJWT's own `PyJWKClient` blocks the event loop, forgets known keys when the tenant is down past their lifespan, and does
not count failures against its pauses (2.15). So the keys are kept here, and PyJWT verifies with them.
"""

import asyncio
import json
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Self

import httpx
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWTError
from jwt.algorithms import RSAAlgorithm

from worker.errors import TenantDown
from worker.logs import get_logger
from worker.settings import Settings
from worker.trust import trust

log = get_logger(__name__)

# A JWKS is a few kilobytes: a certificate chain for each of two or three keys.
MAX_JWKS_BYTES: Final = 256 * 1024
# NIST SP 800-131A, and the least that RFC 7518 §3.3 allows for RS256. Auth0's keys have 2048.
LEAST_BITS: Final = 2048


@dataclass(frozen=True, slots=True)
class Pace:
    """How often the tenant is asked, in seconds.

    A revoked key is gone after `refresh`. Unknown key ids, which anybody can make up, cost at most `asks` fetches in
    `within`, failures included: a fifth of a request per second and process, where the smallest plan allows 20.
    """

    refresh: float = 300
    retry: float = 30
    asks: int = 3
    within: float = 15
    patience: float = 5


class SigningKeys:
    """The keys, open inside `async with`, used from one event loop."""

    def __init__(self, settings: Settings, pace: Pace | None = None) -> None:
        """Raise WrongSetting for a CA file that is none."""
        self._url = f"https://{settings.auth0_domain}/.well-known/jwks.json"
        self._trust = trust(settings)
        self._pace = pace or Pace()
        self._keys: dict[str, RSAPublicKey] = {}
        self._down = False
        self._asked: deque[float] = deque(maxlen=self._pace.asks)
        self._fetching: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Begin to fetch, and wait for nothing: a tenant that is away keeps no process from starting."""
        self._client = httpx.AsyncClient(
            verify=self._trust,
            timeout=self._pace.patience,
            follow_redirects=False,  # keys come from the tenant or not at all
            headers={"accept-encoding": "identity"},  # nothing unpacks to more than was sent
        )
        self._refreshing = asyncio.create_task(self._refresh())
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in (self._refreshing, self._fetching):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        await self._client.aclose()

    def get(self, kid: str) -> RSAPublicKey | None:
        """Return the key if it is known. It is the same object until the tenant publishes another one under this id."""
        return self._keys.get(kid)

    async def find(self, kid: str) -> RSAPublicKey | None:
        """Return the key, asking the tenant if it is not known; None if there is none. Callers at once share one fetch.

        Raises TenantDown if the tenant could not be asked, so that nobody knows.
        """
        if kid not in self._keys and (self._is_fetching() or self._may_ask()):
            await self._fetch()
        key = self._keys.get(kid)
        if key is None and self._down:
            raise TenantDown("the tenant's signing keys cannot be fetched")
        return key

    async def _refresh(self) -> None:
        while True:
            await self._fetch()
            await asyncio.sleep(self._pace.retry if self._down else self._pace.refresh)

    def _is_fetching(self) -> bool:
        return self._fetching is not None and not self._fetching.done()

    def _may_ask(self) -> bool:
        now = asyncio.get_running_loop().time()
        if len(self._asked) == self._pace.asks and now - self._asked[0] < self._pace.within:
            return False
        self._asked.append(now)
        return True

    async def _fetch(self) -> None:
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.create_task(self._replace())
        await asyncio.shield(self._fetching)  # a caller who leaves takes nobody's fetch along

    async def _replace(self) -> None:
        try:
            async with asyncio.timeout(self._pace.patience):
                found = dict(_usable(await self._download()))
        except (httpx.HTTPError, TimeoutError, ValueError) as error:
            self._down = True
            log.warning("signing_keys_not_fetched", reason=type(error).__name__)  # its text may hold the URL
            return
        self._down = False
        known = self._keys
        self._keys = {kid: known[kid] if kid in known and known[kid] == key else key for kid, key in found.items()}

    async def _download(self) -> bytes:
        async with self._client.stream("GET", self._url) as response:
            if response.status_code != 200:
                raise ValueError("not a JWKS")
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > MAX_JWKS_BYTES:
                    raise ValueError("too long for a JWKS")
        return bytes(body)


def _usable(body: bytes) -> Iterator[tuple[str, RSAPublicKey]]:
    """Yield the keys that may sign an access token, by id. Raises ValueError for what is no JWKS, or holds none of them.

    A tenant always has one: an answer without any is a fault in between, and no reason to turn everybody away.
    """
    try:
        listed = json.loads(body)["keys"]
    except (RecursionError, TypeError, KeyError):
        raise ValueError("no JWKS") from None
    usable = False
    for jwk in listed if isinstance(listed, list) else []:
        key = _public_key(jwk) if isinstance(jwk, dict) else None
        if key is not None:
            usable = True
            yield jwk["kid"], key
    if not usable:
        raise ValueError("no key for signatures")


def _public_key(jwk: dict[str, Any]) -> RSAPublicKey | None:
    """Return the key, None if it is not one whose signatures count here (RFC 7517 §4)."""
    if (
        jwk.get("kty") != "RSA"
        or jwk.get("use", "sig") != "sig"
        or jwk.get("alg", "RS256") != "RS256"
        or not isinstance(jwk.get("kid"), str)
    ):
        return None
    try:
        key = RSAAlgorithm.from_jwk({"kty": "RSA", "n": jwk["n"], "e": jwk["e"]})
    except (PyJWTError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return key if isinstance(key, RSAPublicKey) and key.key_size >= LEAST_BITS else None
