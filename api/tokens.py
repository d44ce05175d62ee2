"""Says whose request it is, from its Auth0 access token: `claims = await verifier.authenticate(request.scope)`.

A `Verifier(settings)` lives as long as the application (`async with verifier:` in its lifespan). What it raises is a
`Problem` that the application answers: 401 with a challenge (RFC 6750), 403 for a machine's token, 503 while the tenant's
keys cannot be fetched.

Verified tokens are remembered by their hash: to verify one takes 86 µs, most of it PyJWT's decoding (RSA is 23), to find
it again 2.4 (docs/adr/0008).
"""

import hashlib
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Self

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.utils import base64url_decode
from starlette.types import Scope

from api.problems import Problem
from api.signing_keys import SigningKeys
from worker.errors import TenantDown
from worker.settings import Settings

LEEWAY: Final = 30
"""Seconds by which the clocks of Auth0 and of this machine may differ; its own samples use 30 to 60."""

MAX_TOKEN_BYTES: Final = 8192
"""Common proxies pass no longer header line; Auth0's tokens have about 1,000."""

MAX_REMEMBERED: Final = 10_000
"""Verified tokens, in all some 5 MB. The oldest goes first."""

MAX_USER_ID_BYTES: Final = 1024

# Beyond what any clock will show; NaN and the infinities that Python's JSON knows are not below it.
_LATEST: Final = 2**53

_JWS: Final = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_USER_ID: Final = re.compile(r"[\w.-]+\|.+", re.ASCII | re.DOTALL)
# What an access token calls itself (RFC 9068 §2.1, and Auth0's own profile). Logout tokens and others are signed alike.
_TYPES: Final = {"jwt", "at+jwt", "application/at+jwt"}
_REQUIRED: Final = ["iss", "sub", "aud", "exp", "iat"]


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says. `user_id` is Auth0's, maybe a linked secondary's; times are seconds since 1970."""

    user_id: str
    expires_at: float
    not_before: float


class Unauthorized(Problem):
    """401: there is no token, or it does not hold. Its sentence helps an honest caller and says nothing of keys."""

    def __init__(self, detail: str, error: str | None = "invalid_token") -> None:
        challenge = 'Bearer realm="Understudy"'
        if error:  # RFC 6750 §3.1: none where no token was sent
            challenge += f', error="{error}", error_description="{detail}"'
        super().__init__(401, detail, {"WWW-Authenticate": challenge})


class NotAUser(Problem):
    """403: a good token, but a machine's."""

    def __init__(self) -> None:
        super().__init__(403, "This is a machine's access token; only a user who has logged in may do this.")


@dataclass(frozen=True, slots=True)
class _Remembered:
    claims: Claims
    kid: str
    key: RSAPublicKey | bytes


class Verifier:
    """Verifies access tokens for AUTH0_AUDIENCE; open inside `async with`, used from one event loop."""

    def __init__(
        self, settings: Settings, keys: SigningKeys | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        """Raise WrongSetting without an audience, or for a CA file that is none."""
        settings.require("auth0_audience")
        self._audience, self._issuer, self._algorithm = (
            settings.auth0_audience,
            settings.issuer,
            settings.token_algorithm,
        )
        self._keys = _SharedSecret(settings) if self._algorithm == "HS256" else keys or SigningKeys(settings)
        self._clock = clock
        self._remembered: dict[bytes, _Remembered] = {}

    async def __aenter__(self) -> Self:
        await self._keys.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._keys.__aexit__()

    async def authenticate(self, scope: Scope) -> Claims:
        """Return the claims of the bearer token of a request. Raises Problem: 401, 403 or 503."""
        return await self.verify(_bearer(scope))

    async def verify(self, token: bytes) -> Claims:
        """Return the claims of `token`. Raises Problem: 401, 403 or 503."""
        if len(token) > MAX_TOKEN_BYTES:
            raise Unauthorized("The access token is too long.")
        digest = hashlib.sha256(token).digest()
        known = self._remembered.get(digest)
        if known is not None and self._keys.get(known.kid) is known.key:
            return self._timely(known.claims)
        self._remembered.pop(digest, None)
        kid, key = await self._key(token)
        payload = self._payload(token, key)
        claims = self._timely(_claims(payload))
        _check_user(payload)
        if len(self._remembered) >= MAX_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[digest] = _Remembered(claims, kid, key)
        return claims

    def _timely(self, claims: Claims) -> Claims:
        now = self._clock()
        if claims.expires_at + LEEWAY <= now:
            raise Unauthorized("The access token has expired.")
        if claims.not_before - LEEWAY > now:
            raise Unauthorized("The access token is not valid yet.")
        return claims

    async def _key(self, token: bytes) -> tuple[str, RSAPublicKey | bytes]:
        """Return the key that the token says it is signed with, and its id."""
        header = _header(token)
        if header.get("alg") != self._algorithm:
            raise Unauthorized(f"The access token is not signed with {self._algorithm}.")
        if "crit" in header:  # RFC 7515 §4.1.11: what must be understood and is not
            raise Unauthorized("The access token asks for an extension that is not supported.")
        typ = header.get("typ", "JWT")
        if not isinstance(typ, str) or typ.lower() not in _TYPES:
            raise Unauthorized("The token is not an access token.")
        # jku, jwk, x5u and x5c, by which a token could bring its own key, are not looked at.
        kid = header.get("kid", "")
        if not isinstance(kid, str):
            raise _malformed()
        try:
            key = await self._keys.find(kid)
        except TenantDown:
            raise Problem(503, "The tenant's keys cannot be fetched: try again.", {"Retry-After": "5"}) from None
        if key is None:
            raise _not_the_tenants()
        return kid, key

    def _payload(self, token: bytes, key: RSAPublicKey | bytes) -> dict[str, Any]:
        try:
            payload: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[self._algorithm],
                audience=self._audience,
                issuer=self._issuer,
                # Times are ours to check: a token that is remembered is checked the same way.
                options={"require": _REQUIRED, "verify_exp": False, "verify_nbf": False, "verify_iat": False},
            )
        except jwt.InvalidSignatureError:
            raise _not_the_tenants() from None
        except jwt.InvalidAudienceError:
            raise Unauthorized("The access token is for another audience.") from None
        except jwt.InvalidIssuerError:
            raise Unauthorized("The access token is from another issuer.") from None
        except jwt.PyJWTError:
            raise _malformed() from None
        return payload


class _SharedSecret:
    """AUTH0_HS256_SECRET in the place of the tenant's keys: one key, whatever id a token names."""

    def __init__(self, settings: Settings) -> None:
        self._secret = settings.auth0_hs256_secret.get_secret_value().encode()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    def get(self, _kid: str) -> bytes:
        return self._secret

    async def find(self, _kid: str) -> bytes:
        return self._secret


def _bearer(scope: Scope) -> bytes:
    """Return the token of a request's one Authorization header. A token in a URL or a body is none."""
    found = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(found) > 1:
        raise Unauthorized("The request has more than one Authorization header.", "invalid_request")
    scheme, _, token = found[0].partition(b" ") if found else (b"", b"", b"")
    if scheme.lower() != b"bearer":
        raise Unauthorized("An access token is needed, as Authorization: Bearer.", None)
    return token.strip(b" ")


def _header(token: bytes) -> dict[str, Any]:
    """Return the header of a signed JWT, not verified. PyJWT would decode the whole token for it."""
    if not _JWS.fullmatch(token):
        raise Unauthorized("The access token is not a signed JWT: Auth0 gives one where an audience is asked for.")
    try:
        header = json.loads(base64url_decode(token.partition(b".")[0]))
    except (ValueError, RecursionError):  # bytes that are no base64, no UTF-8 or no JSON
        raise _malformed() from None
    if not isinstance(header, dict):
        raise _malformed()
    return header


def _claims(payload: dict[str, Any]) -> Claims:
    times = [payload["exp"], payload["iat"], payload.get("nbf", 0)]
    if not all(type(time) in (int, float) and 0 <= time < _LATEST for time in times):
        raise _malformed()
    expires_at, issued_at, not_before = times
    return Claims(payload["sub"], expires_at, max(issued_at, not_before))


def _check_user(payload: dict[str, Any]) -> None:
    """Raise NotAUser for a machine's token: by its grant, or by a subject that is no `strategy|id`.

    The suffix `@clients` would not do: agents' tokens lack it, and a user's id may end with it.
    """
    user_id: str = payload["sub"]
    if payload.get("gty") == "client-credentials" or not _USER_ID.fullmatch(user_id):
        raise NotAUser
    try:
        holds = len(user_id.encode()) <= MAX_USER_ID_BYTES and "\0" not in user_id
    except UnicodeEncodeError:  # half a character
        holds = False
    if not holds:  # PostgreSQL could not
        raise _malformed()


def _malformed() -> Unauthorized:
    return Unauthorized("The access token lacks something or is malformed.")


def _not_the_tenants() -> Unauthorized:
    return Unauthorized("The access token was not issued by this tenant.")
