"""Tokens for machines, and the tokens that the Management API takes."""

from __future__ import annotations

from typing import Any

import jwt

from simulator.applications import Applications, Client
from simulator.clock import Clock
from simulator.errors import ApiError, OAuthError
from simulator.signing_keys import SigningKeys

DEFAULT_SCOPES = (
    "read:users", "create:users", "update:users", "delete:users", "read:users_app_metadata", "update:users_app_metadata",
    "create:users_app_metadata", "read:logs", "read:log_streams", "create:log_streams", "update:log_streams", "delete:log_streams",
    "read:connections", "delete:connections", "read:events", "create:event_streams", "read:event_streams", "update:event_streams",
    "delete:event_streams", "read:event_deliveries", "update:event_deliveries",
    "create:actions", "read:actions", "update:actions", "delete:actions", "read:clients", "update:clients",
)  # fmt: skip


class Authority:
    """Issues and verifies the tenant's access tokens (RS256)."""

    def __init__(self, clock: Clock, applications: Applications, keys: SigningKeys) -> None:
        self.issuer = ""
        self.audience = ""
        self._clock = clock
        self._keys = keys
        self._applications = applications
        self._verified: dict[str, dict[str, Any]] = {}

    def serve_at(self, domain: str) -> None:
        self.issuer = f"https://{domain}/"
        self.audience = f"https://{domain}/api/v2/"

    def grant(self, client: Client, audience: object) -> dict[str, Any]:
        """Answer a client-credentials request of a client that proved itself. OAuthError as Auth0 refuses."""
        if audience != self.audience and self._applications.api(str(audience)) is None:
            raise OAuthError(403, "access_denied", f"Service not found: {audience}")
        now = int(self._clock())
        scope = " ".join(client.scopes) if audience == self.audience else ""
        claims = {
            "iss": self.issuer,
            "sub": f"{client.client_id}@clients",
            "aud": audience,
            "iat": now,
            "exp": now + client.token_seconds,
            **({"scope": scope} if audience == self.audience else {}),
            "gty": "client-credentials",
            "azp": client.client_id,
        }
        return {
            "access_token": self._keys.sign(claims),
            "scope": scope,
            "expires_in": client.token_seconds,
            "token_type": "Bearer",
        }

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


def _unauthorized(message: str) -> ApiError:
    return ApiError(401, message, attributes={"error": message})
