"""The Authentication API: tokens, keys, `/userinfo`, and what a client discovers."""

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

from simulator.code_grants import CodeGrants
from simulator.errors import OAuthError
from simulator.management import broken_answer, delayed_or_lost
from simulator.tenant import Tenant


class AuthenticationApi:
    """Handlers of `/oauth/token`, `/userinfo` and `/.well-known/*` on the domain whose URL is `issuer`."""

    def __init__(self, tenant: Tenant, issuer: str) -> None:
        self._tenant = tenant
        self._issuer = issuer
        self._grants = CodeGrants(tenant)

    def routes(self) -> list[Route]:
        return [
            Route("/oauth/token", TokenEndpoint(self._tenant, self._grants), methods=["POST"]),
            Route("/userinfo", self.userinfo, methods=["GET", "POST"]),
            Route("/.well-known/jwks.json", KeysEndpoint(self._tenant)),
            Route("/.well-known/openid-configuration", self.configuration),
        ]

    async def userinfo(self, request: Request) -> Response:
        try:
            return JSONResponse(self._grants.userinfo(request.headers.get("authorization")))
        except OAuthError as error:
            return JSONResponse(error.body, error.status, {"WWW-Authenticate": f'Bearer error="{error.body["error"]}"'})

    async def configuration(self, request: Request) -> Response:  # noqa: ARG002 Starlette's signature
        issuer = self._issuer
        return JSONResponse(
            {
                "issuer": issuer,
                "authorization_endpoint": f"{issuer}authorize",
                "token_endpoint": f"{issuer}oauth/token",
                "userinfo_endpoint": f"{issuer}userinfo",
                "jwks_uri": f"{issuer}.well-known/jwks.json",
                "end_session_endpoint": f"{issuer}oidc/logout",
                "scopes_supported": ["openid", "profile", "email", "phone", "offline_access"],
                "claims_supported": ["aud", "auth_time", "email", "email_verified", "exp", "family_name", "given_name", "iat", "iss", "name",
                                     "nickname", "phone_number", "picture", "sub"],
                "grant_types_supported": ["authorization_code", "refresh_token", "client_credentials"],
                "response_types_supported": ["code"],
                "response_modes_supported": ["query"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "code_challenge_methods_supported": ["S256"],
                "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
                "request_uri_parameter_supported": False,
            }
        )  # fmt: skip


class TokenEndpoint:
    """`POST /oauth/token`, an ASGI application because faults may cut its connection."""

    def __init__(self, tenant: Tenant, grants: CodeGrants) -> None:
        self._tenant = tenant
        self._grants = grants

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
            answer = await self._granted(asked)
        except OAuthError as error:
            return JSONResponse(error.body, error.status)
        return JSONResponse(answer, headers={"Cache-Control": "no-store", "Pragma": "no-cache"})

    async def _granted(self, asked: dict[str, Any]) -> dict[str, Any]:
        kind, applications = asked.get("grant_type"), self._tenant.applications
        if kind == "client_credentials":
            return self._for_machine(asked)
        client = applications.authenticated(asked)
        if kind == "authorization_code":
            return self._grants.authorization_code(client, asked)
        if kind == "refresh_token":
            return await self._grants.refresh_token(client, asked)
        raise OAuthError(403, "unauthorized_client", f"Grant type '{kind}' not allowed for the client.")

    def _for_machine(self, asked: dict[str, Any]) -> dict[str, Any]:
        journal, audience = self._tenant.journal, asked.get("audience")
        try:
            client = self._tenant.applications.authenticated(asked)
            if client.is_public:
                raise OAuthError(
                    403, "unauthorized_client", "Grant type 'client_credentials' not allowed for the client."
                )
            answer = self._tenant.authority.grant(client, audience)
        except OAuthError:
            journal.machine_token_refused(str(asked.get("client_id")))
            raise
        journal.machine_token(client.client_id, client.name, str(audience), answer["scope"])
        return answer


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
