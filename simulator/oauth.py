"""Machine clients and their access tokens."""

from __future__ import annotations

import hmac
import random
import string
from dataclasses import dataclass
from typing import Any

import jwt

from simulator.clock import Clock
from simulator.errors import ApiError
from simulator.signing_keys import SigningKeys

DEFAULT_SCOPES = (
    "read:users", "create:users", "update:users", "delete:users", "read:users_app_metadata", "update:users_app_metadata",
    "create:users_app_metadata", "read:logs", "read:log_streams", "create:log_streams", "update:log_streams", "delete:log_streams",
    "read:connections", "delete:connections", "read:events", "create:event_streams", "read:event_streams", "update:event_streams",
    "delete:event_streams", "read:event_deliveries", "update:event_deliveries",
)  # fmt: skip


@dataclass(frozen=True)
class Client:
    """A machine-to-machine application and the scopes of its grant for the Management API."""

    client_id: str
    client_secret: str
    scopes: tuple[str, ...]
    name: str = "Machine client"
    token_seconds: int = 86_400


class OAuthError(Exception):
    """A refusal of the token endpoint: OAuth's body, not the Management API's."""

    def __init__(self, status: int, error: str, description: str) -> None:
        super().__init__(description)
        self.status = status
        self.body = {"error": error, "error_description": description}


class Authority:
    """Issues and verifies the tenant's access tokens (RS256)."""

    def __init__(self, clock: Clock, rng: random.Random, keys: SigningKeys) -> None:
        self.issuer = ""
        self.audience = ""
        self._clock = clock
        self._keys = keys
        self._rng = rng
        self._clients: dict[str, Client] = {}
        self._verified: dict[str, dict[str, Any]] = {}

    def serve_at(self, domain: str) -> None:
        self.issuer = f"https://{domain}/"
        self.audience = f"https://{domain}/api/v2/"

    def new_client(self, scopes: tuple[str, ...], name: str = "Machine client", token_seconds: int = 86_400) -> Client:
        client = Client(self._text(32), self._text(64), scopes, name, token_seconds)
        self._clients[client.client_id] = client
        return client

    def grant(self, asked: dict[str, Any]) -> tuple[dict[str, Any], Client]:
        """Answer a client-credentials request. OAuthError as Auth0 refuses."""
        if asked.get("grant_type") != "client_credentials":
            raise OAuthError(
                403, "unauthorized_client", f"Grant type '{asked.get('grant_type')}' not allowed for the client."
            )
        client = self._clients.get(str(asked.get("client_id")))
        secret = str(asked.get("client_secret"))
        if client is None or not hmac.compare_digest(client.client_secret.encode(), secret.encode()):
            raise OAuthError(401, "access_denied", "Unauthorized")
        if asked.get("audience") != self.audience:
            raise OAuthError(403, "access_denied", f"Service not found: {asked.get('audience')}")
        now = int(self._clock())
        claims = {
            "iss": self.issuer,
            "sub": f"{client.client_id}@clients",
            "aud": self.audience,
            "iat": now,
            "exp": now + client.token_seconds,
            "scope": " ".join(client.scopes),
            "gty": "client-credentials",
            "azp": client.client_id,
        }
        answer = {
            "access_token": self._keys.sign(claims),
            "scope": claims["scope"],
            "expires_in": client.token_seconds,
            "token_type": "Bearer",
        }
        return answer, client

    def verify(self, authorization: str | None) -> dict[str, Any]:
        """Read the claims of a Management API call's token. ApiError 401 or 400 as Auth0 words them."""
        if not authorization:
            raise ApiError(401, "Missing authentication")
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token or " " in token:
            raise ApiError(400, "Bad HTTP authentication header format", "Bearer")
        claims = self._verified.get(token) or self._decode(token)
        if claims["exp"] <= self._clock():
            raise _unauthorized("Expired token received for JSON Web Token validation")
        return claims

    def forget_verified(self) -> None:
        """Check every token anew: a key was revoked."""
        self._verified.clear()

    def _decode(self, token: str) -> dict[str, Any]:
        try:
            key = self._keys.verifying(jwt.get_unverified_header(token).get("kid"))
            if key is None:
                raise jwt.InvalidSignatureError
            claims: dict[str, Any] = jwt.decode(
                token, key.public, algorithms=["RS256"], audience=self.audience, issuer=self.issuer,
                options={"verify_exp": False, "verify_iat": False},
            )  # fmt: skip
        except jwt.InvalidSignatureError:
            raise _unauthorized("Invalid signature received for JSON Web Token validation") from None
        except jwt.InvalidAudienceError:
            raise _unauthorized(f"Bad audience, expected: {self.audience}") from None
        except jwt.PyJWTError:
            raise _unauthorized("Invalid token") from None
        if len(self._verified) > 1000:
            self._verified.clear()
        self._verified[token] = claims
        return claims

    def _text(self, length: int) -> str:
        return "".join(self._rng.choices(string.ascii_letters + string.digits, k=length))


def _unauthorized(message: str) -> ApiError:
    return ApiError(401, message, attributes={"error": message})
