"""The post-login trigger: what Actions are told of a login, and what becomes of what they ask for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from simulator import connections, custom_claims
from simulator.actions import POST_LOGIN
from simulator.authorize_request import AuthorizeRequest, RedirectError
from simulator.clock import iso
from simulator.errors import ApiError
from simulator.logins import Grant
from simulator.tenant import Tenant
from simulator.users import Identity, User

_TOO_MUCH = "Custom claims payload is set to a maximum of 100KB"


async def asked(tenant: Tenant, grant: Grant, user: User, identity: Identity, ip: str) -> Grant:
    """Let the bound Actions look at a login: the grant with their claims. RedirectError when one denies it, or fails."""
    if not tenant.actions.bindings(POST_LOGIN):
        return grant
    request = grant.request
    outcome = await tenant.actions.run_post_login(_event(tenant, grant, user, identity, ip))
    if outcome.error is not None:
        raise RedirectError("access_denied", outcome.error)
    _write_metadata(tenant, user.user_id, outcome.app_metadata, outcome.user_metadata)
    if outcome.denied is not None:
        raise RedirectError("access_denied", outcome.denied)
    for_auth0_api = request.audience == tenant.authority.audience
    access = custom_claims.kept(outcome.access_claims, for_auth0_api=for_auth0_api)
    own = custom_claims.kept(outcome.id_claims)
    if custom_claims.size(access, own) > custom_claims.MAX_BYTES:
        raise RedirectError("access_denied", _TOO_MUCH)
    return replace(grant, access_claims=access, id_claims=own)


def _write_metadata(tenant: Tenant, user_id: str, app: dict[str, Any], user: dict[str, Any]) -> None:
    """Write what `api.user` was asked to, once, at the end. A refusal (10 KB) does not stop the login."""
    change = {name: changed for name, changed in (("app_metadata", app), ("user_metadata", user)) if changed}
    if change:
        try:
            tenant.directory.patch(user_id, change)
        except ApiError as refusal:
            tenant.actions.executions[-1]["console"].append(f"metadata not written: {refusal}")


def _event(tenant: Tenant, grant: Grant, user: User, identity: Identity, ip: str) -> dict[str, Any]:
    request, connection = grant.request, connections.of_identity(identity)
    profile = msgspec.to_builtins(user)
    count = profile.get("logins_count", 0)
    method = "pwd" if connection.is_database else "federated"
    return {
        "user": {"app_metadata": {}, "user_metadata": {}, "multifactor": [], **profile},
        "client": {"client_id": request.client.client_id, "name": request.client.name, "metadata": {}},
        "connection": {
            "id": connection.id, "name": connection.name, "strategy": connection.strategy, "metadata": {},
        },
        "request": {"ip": ip, "method": "GET", "hostname": _host(request), "query": _query(request), "body": {}, "language": "en", "geoip": {}},
        "transaction": {
            "protocol": "oidc-basic-profile", "requested_scopes": request.scope.split(), "redirect_uri": request.redirect_uri,
            "response_type": ["code"], "prompt": sorted(request.prompt), "ui_locales": [], "acr_values": [],
        },
        "resource_server": {"identifier": request.audience},
        "authentication": {"methods": [{"name": method, "timestamp": iso(grant.session.authenticated_at)}]},
        "authorization": {"roles": []},
        "session": {"id": grant.session.id},
        "stats": {"logins_count": count},
        "tenant": {"id": tenant.name},
        "configuration": {},
    }  # fmt: skip


def _host(request: AuthorizeRequest) -> str:
    return request.issuer.split("/")[2]


def _query(request: AuthorizeRequest) -> dict[str, str]:
    query = {"client_id": request.client.client_id, "redirect_uri": request.redirect_uri, "scope": request.scope}
    return {**query, **({"audience": request.audience} if request.audience else {})}
