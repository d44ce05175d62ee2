"""The Authentication API's part of the domain: tokens for machines, keys, and what a client discovers."""

from __future__ import annotations

import base64
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from simulator.management import broken_answer, delayed_or_lost
from simulator.oauth import OAuthError
from simulator.tenant import Tenant


class AuthenticationApi:
    """Handlers of `/oauth/token` and `/.well-known/*`."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant

    def routes(self) -> list[Route]:
        return [
            Route("/oauth/token", TokenEndpoint(self._tenant), methods=["POST"]),
            Route("/.well-known/jwks.json", KeysEndpoint(self._tenant)),
            Route("/.well-known/openid-configuration", self.configuration),
        ]

    async def configuration(self, request: Request) -> Response:  # noqa: ARG002 Starlette's signature
        issuer = self._tenant.authority.issuer
        return JSONResponse(
            {
                "issuer": issuer,
                "authorization_endpoint": f"{issuer}authorize",
                "token_endpoint": f"{issuer}oauth/token",
                "userinfo_endpoint": f"{issuer}userinfo",
                "jwks_uri": f"{issuer}.well-known/jwks.json",
                "id_token_signing_alg_values_supported": ["RS256"],
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            }
        )


class TokenEndpoint:
    """`POST /oauth/token`, an ASGI application because faults may cut its connection."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        self._tenant.stats.token_fetches += 1
        struck = self._tenant.faults.strike("token", "POST", "/oauth/token")
        with suppress(ClientDisconnect):  # whoever waited too long for a delayed answer
            if not await delayed_or_lost(struck, scope, receive):
                response = broken_answer(struck) or await self._grant(request)
                await response(scope, receive, send)

    async def _grant(self, request: Request) -> Response:
        asked = await _parameters(request)
        try:
            answer, client = self._tenant.authority.grant(asked)
        except OAuthError as error:
            self._tenant.journal.machine_token_refused(str(asked.get("client_id")))
            return JSONResponse(error.body, error.status)
        journal, audience = self._tenant.journal, self._tenant.authority.audience
        journal.machine_token(client.client_id, client.name, audience, answer["scope"])
        return JSONResponse(answer, headers={"Cache-Control": "no-store"})


class KeysEndpoint:
    """`GET /.well-known/jwks.json`, an ASGI application for the same reason."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._tenant.stats.jwks_fetches += 1
        struck = self._tenant.faults.strike("jwks", "GET", "/.well-known/jwks.json")
        with suppress(ClientDisconnect):
            if not await delayed_or_lost(struck, scope, receive):
                response = broken_answer(struck) or JSONResponse(
                    self._tenant.keys.jwks(), headers={"Cache-Control": "public, max-age=15, stale-while-revalidate=15"}
                )
                await response(scope, receive, send)


async def _parameters(request: Request) -> dict[str, Any]:
    """Read a form or JSON; the client may be named in an Authorization header instead."""
    raw = await request.body()
    if "json" in request.headers.get("content-type", ""):
        try:
            asked = msgspec.json.decode(raw)
        except msgspec.DecodeError:
            asked = {}
        parameters = asked if isinstance(asked, dict) else {}
    else:
        parameters = dict(parse_qsl(raw.decode("utf-8", "replace")))
    return {**parameters, **_basic_credentials(request.headers.get("authorization", ""))}


def _basic_credentials(authorization: str) -> dict[str, str]:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return {}
    try:
        client_id, _, secret = base64.b64decode(encoded).decode().partition(":")
    except ValueError:
        return {}
    return {"client_id": unquote(client_id), "client_secret": unquote(secret)}
