"""The keys that sign the tenant's tokens: the one in use, the next one, and those before until they are revoked."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from simulator.errors import ApiError


class SigningKey:
    """An RSA key and its `kid`, which no other key ever has."""

    def __init__(self) -> None:
        self.private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.public = self.private.public_key()
        modulus = self.public.public_numbers().n.to_bytes(256, "big")
        self.kid = base64.urlsafe_b64encode(hashlib.sha256(modulus).digest()).decode()[:21]

    def jwk(self) -> dict[str, Any]:
        public = jwt.algorithms.RSAAlgorithm.to_jwk(self.public, as_dict=True)
        return {"kty": public["kty"], "use": "sig", "alg": "RS256", "kid": self.kid, "n": public["n"], "e": public["e"]}


class SigningKeys:
    """Auth0's life of a key: published as `next`, then signing, then only good for verifying, then revoked."""

    def __init__(self) -> None:
        self.current, self.next = SigningKey(), SigningKey()
        self.previous: list[SigningKey] = []

    def sign(self, claims: dict[str, Any], kid: str | None = None, headers: dict[str, Any] | None = None) -> str:
        """Make a JWT, by the key in use unless another is named. ApiError 400 for a key that does not exist."""
        key = self.current if kid is None else self._named(kid)
        return jwt.encode(claims, key.private, algorithm="RS256", headers={"kid": key.kid, **(headers or {})})

    def verifying(self, kid: str | None) -> SigningKey | None:
        """Find the published key of that name."""
        return next((key for key in self._published() if key.kid == kid), None)

    def rotate(self) -> None:
        """Sign with the next key from now on; the one in use until now goes on verifying."""
        self.previous.insert(0, self.current)
        self.current, self.next = self.next, SigningKey()

    def revoke(self, kid: str | None = None) -> list[str]:
        """Take one previous key, or all of them, out of the published ones. ApiError 400 for one that is no previous key."""
        revoked = [key for key in self.previous if kid in (None, key.kid)]
        if kid is not None and not revoked:
            raise ApiError(400, "Only a previously used key can be revoked")
        self.previous = [key for key in self.previous if key not in revoked]
        return [key.kid for key in revoked]

    def jwks(self) -> dict[str, Any]:
        return {"keys": [key.jwk() for key in self._published()]}

    def as_dict(self) -> dict[str, Any]:
        return {"current": self.current.kid, "next": self.next.kid, "previous": [key.kid for key in self.previous]}

    def _published(self) -> list[SigningKey]:
        return [self.current, self.next, *self.previous]

    def _named(self, kid: str) -> SigningKey:
        key = self.verifying(kid)
        if key is None:
            raise ApiError(400, f"There is no key {kid}")
        return key
