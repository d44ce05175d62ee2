"""The applications and APIs registered with the tenant, and how an application proves who it is."""

from __future__ import annotations

import hmac
import random
import string
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from simulator.errors import OAuthError

MUSIC_API = "https://api.music.example/"


@dataclass(frozen=True)
class Client:
    """An application: a machine (by its `scopes` for the Management API) or one that people use (by its `callbacks`)."""

    client_id: str
    client_secret: str
    name: str = "Machine client"
    scopes: tuple[str, ...] = ()
    token_seconds: int = 86_400
    callbacks: tuple[str, ...] = ()
    allowed_logout_urls: tuple[str, ...] = ()
    is_public: bool = False
    """A single-page or native application: it has no secret to prove itself with, PKCE protects its code."""

    def as_dict(self) -> dict[str, Any]:
        """Answer what the Management API shows, without the secret."""
        app_type = "spa" if self.is_public else "regular_web" if self.callbacks else "non_interactive"
        grants = ["authorization_code", "refresh_token"] if self.callbacks else ["client_credentials"]
        return {
            "client_id": self.client_id,
            "name": self.name,
            "app_type": app_type,
            "callbacks": list(self.callbacks),
            "allowed_logout_urls": list(self.allowed_logout_urls),
            "grant_types": grants,
            "token_endpoint_auth_method": "none" if self.is_public else "client_secret_post",
            "is_first_party": True,
        }


@dataclass(frozen=True)
class Api:
    """An API (a resource server): the audience that tokens can be asked for."""

    identifier: str
    scopes: tuple[str, ...] = ()
    token_seconds: int = 86_400
    allow_offline_access: bool = True


class Applications:
    """The registered applications and APIs of one tenant."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._clients: dict[str, Client] = {}
        self._apis = {MUSIC_API: Api(MUSIC_API)}

    def __iter__(self) -> Iterator[Client]:
        return iter(self._clients.values())

    def new_client(self, scopes: tuple[str, ...], name: str = "Machine client", **settings: Any) -> Client:
        client = Client(_text(self._rng, 32), _text(self._rng, 64), name, scopes, **settings)
        self._clients[client.client_id] = client
        return client

    def client(self, client_id: str) -> Client | None:
        return self._clients.get(client_id)

    def change(self, client_id: str, **changes: Any) -> Client:
        self._clients[client_id] = replace(self._clients[client_id], **changes)
        return self._clients[client_id]

    def authenticated(self, asked: dict[str, Any]) -> Client:
        """Find the application that a call of the token endpoint comes from. OAuthError 401 for a wrong secret."""
        client = self._clients.get(str(asked.get("client_id")))
        if client is not None and client.is_public:
            return client
        secret = str(asked.get("client_secret"))
        if client is None or not hmac.compare_digest(client.client_secret.encode(), secret.encode()):
            raise OAuthError(401, "access_denied", "Unauthorized")
        return client

    def register_api(self, api: Api) -> None:
        self._apis[api.identifier] = api

    def api(self, identifier: str) -> Api | None:
        return self._apis.get(identifier)


def _text(rng: random.Random, length: int) -> str:
    return "".join(rng.choices(string.ascii_letters + string.digits, k=length))
