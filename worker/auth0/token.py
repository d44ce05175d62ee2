"""The API token: one client-credentials token that all processes share, through Redis, until near its expiry.

It lies there encrypted under a key that the client secret gives, so that whoever reads Redis cannot use it. One process
fetches it, the others go on with the old one while it lasts. Auth0 cannot revoke such a token: a 401 drops ours.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

import httpx
import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from redis import Redis
from redis.exceptions import LockError, RedisError

from worker.auth0.pace import pause_from
from worker.auth0.transport import Answer, exchange, longest_exchange
from worker.errors import Refused, TenantDown, Throttled
from worker.settings import Settings

_RENEW_BEFORE: Final = 300.0
"""Seconds before the expiry from which one process fetches the next; a tenth of a short-lived token's life instead."""
_LEEWAY: Final = 10.0
"""Seconds before the expiry from which a token is not sent any more: it must outlast the request."""
_NONCE_BYTES: Final = 12

_DELETE_IF_EQUAL: Final = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class Token(msgspec.Struct, frozen=True):
    """A token, and by our clock when it was fetched and until when it is good (Unix seconds)."""

    secret: str
    fetched_at: float
    expires_at: float

    def __repr__(self) -> str:
        return f"Token(expires_at={self.expires_at:.0f})"

    def usable(self, now: float) -> bool:
        """Whether it outlasts a request sent now."""
        return now < self.expires_at - _LEEWAY

    def fresh(self, now: float) -> bool:
        """Whether nobody needs to fetch the next one yet."""
        return now < self.expires_at - min(_RENEW_BEFORE, (self.expires_at - self.fetched_at) / 10)


class BeingFetched(Throttled):
    """Another process is fetching the token, and there is no old one to go on with."""


class SharedToken:
    """The token of one application. While Redis is away each process keeps its own."""

    def __init__(
        self,
        redis: Redis,
        settings: Settings,
        http: Callable[[], httpx.Client],
        *,
        clock: Callable[[], float] = time.time,
        on_request: Callable[[], None] = lambda: None,
    ) -> None:
        settings.require("auth0_m2m_client_id", "auth0_m2m_client_secret")
        self._redis, self._settings, self._http = redis, settings, http
        self._clock, self._on_request = clock, on_request
        self._context = f"understudy token\0{settings.auth0_domain}\0{settings.auth0_m2m_client_id}".encode()
        self._key = f"understudy:{settings.auth0_domain}:token:{hashlib.sha256(self._context).hexdigest()[:16]}"
        secret = settings.auth0_m2m_client_secret.get_secret_value().encode()
        self._cipher = AESGCM(HKDF(SHA256(), length=32, salt=None, info=self._context).derive(secret))
        self._held: Token | None = None

    def current(self) -> str:
        """Return a token that is good now: ours, the shared one, or a new one.

        Raises Refused (wrong credentials, no grant), TenantDown, Throttled (429), BeingFetched (come back in a second).
        """
        now = self._clock()
        if self._held and self._held.fresh(now):
            return self._held.secret
        try:
            self._held = self._shared() or self._held
            if not (self._held and self._held.fresh(now)):
                self._held = self._renew(now)
        except RedisError:
            if not (self._held and self._held.usable(now)):
                self._held = self._fetch()
        return self._held.secret

    def drop(self, secret: str, *, unless_newer_than: float = 0.0) -> bool:
        """Forget this token, here and in Redis, if it is still the one in use: Auth0 refused it.

        With `unless_newer_than` (seconds) only one older than that goes: a token knows its scopes from birth, but fetching
        anew for each refusal would eat the plan's monthly token quota. Returns whether it went.
        """
        held = self._held
        if held and held.secret == secret:
            if self._clock() - held.fetched_at < unless_newer_than:
                return False
            self._held = None
        try:
            sealed = self._redis.get(self._key)
            if sealed is not None and (shared := self._open(sealed)) and shared.secret == secret:
                self._redis.eval(_DELETE_IF_EQUAL, 1, self._key, sealed)
        except RedisError:
            pass  # the copy here is gone; the next process to be refused drops the other
        return True

    def forget(self, *, unless_newer_than: float) -> None:
        """Drop the shared token, unless it is newer than that (seconds)."""
        try:
            shared = self._shared()
        except RedisError:
            return
        if shared and self._clock() - shared.fetched_at >= unless_newer_than:
            self.drop(shared.secret)

    def _shared(self) -> Token | None:
        sealed = self._redis.get(self._key)
        token = self._open(sealed) if sealed is not None else None
        return token if token and token.usable(self._clock()) else None

    def _renew(self, now: float) -> Token:
        """Fetch the next token, or go on with the old one while another process fetches it."""
        with self._alone() as alone:
            if alone:
                shared = self._shared()  # the one before us may just have stored it
                if shared and shared.fresh(now):
                    return shared
                return self._store(self._fetch())
        if self._held and self._held.usable(now):
            return self._held
        raise BeingFetched("another process is fetching the API token", retry_after=1.0)

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        lock = self._redis.lock(f"{self._key}:lock", timeout=longest_exchange(self._settings) + 1, thread_local=False)
        alone = lock.acquire(blocking=False)
        try:
            yield alone
        finally:
            if alone:
                with suppress(LockError):  # it lapsed meanwhile; two tokens are no harm
                    lock.release()

    def _store(self, token: Token) -> Token:
        try:
            life = max(1, int(token.expires_at - self._clock()))
            self._redis.set(self._key, self._seal(token), ex=life)
        except RedisError:
            pass  # the others fetch their own
        return token

    def _seal(self, token: Token) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, msgspec.json.encode(token), self._context)

    def _open(self, sealed: object) -> Token | None:
        """Return the token, None for what is not ours to read: tampered with, or sealed under another secret."""
        if not isinstance(sealed, bytes):
            return None
        try:
            plain = self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], self._context)
            return msgspec.json.decode(plain, type=Token)
        except (InvalidTag, ValueError, msgspec.DecodeError):
            return None

    def _fetch(self) -> Token:
        """Ask /oauth/token. Source: auth0.com/docs, "Management API Access Tokens"."""
        domain = self._settings.auth0_domain
        asked = {
            "grant_type": "client_credentials",
            "client_id": self._settings.auth0_m2m_client_id,
            "client_secret": self._settings.auth0_m2m_client_secret.get_secret_value(),
            "audience": f"https://{domain}/api/v2/",
        }
        self._on_request()
        answer = exchange(lambda: self._http().post(f"https://{domain}/oauth/token", json=asked))
        now = self._clock()
        body = answer.json_object() or {}
        secret, seconds = body.get("access_token"), body.get("expires_in")
        if answer.status != 200 or not isinstance(secret, str) or not isinstance(seconds, int | float):
            raise _refusal(answer)
        return Token(secret, now, now + seconds)


def _refusal(answer: Answer) -> Exception:
    code = answer.code("error")
    if answer.status == 429:
        return Throttled("Auth0 answered 429 to the token request", retry_after=pause_from(answer.headers))
    if answer.status == 401 and code:
        return Refused(f"Auth0 refuses the credentials ({code}): check AUTH0_M2M_CLIENT_ID and AUTH0_M2M_CLIENT_SECRET")
    if answer.status in (400, 403) and code:
        return Refused(
            f"Auth0 gives this application no token ({code}): authorize it for the Auth0 Management API, "
            "with the client credentials grant"
        )
    return TenantDown(f"Auth0 answered {answer.status} and no token to the token request")
