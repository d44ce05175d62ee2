"""The control plane's handlers for applications, keys, and tokens without a browser."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from simulator import person_tokens
from simulator.action_runner import find_node
from simulator.applications import Api
from simulator.errors import no_such_user
from simulator.journal import APP
from simulator.tenant import Tenant

Handler = Callable[[dict[str, Any]], Awaitable[Any]]


class AccessControl:
    """Handlers of `/_sim/clients`, `/_sim/apis`, `/_sim/actions`, `/_sim/keys*` and `/_sim/tokens`."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant

    def table(self) -> list[tuple[str, str, Handler]]:
        return [
            ("POST", "/_sim/clients", self.new_client),
            ("POST", "/_sim/apis", self.new_api),
            ("GET", "/_sim/actions", self.actions),
            ("POST", "/_sim/tokens", self.token),
            ("GET", "/_sim/keys", self.keys),
            ("POST", "/_sim/keys/rotate", self.rotate),
            ("POST", "/_sim/keys/revoke", self.revoke),
        ]

    async def new_client(self, asked: dict[str, Any]) -> Any:
        """`{scopes, name?, token_seconds?}` for a machine, `{callbacks, allowed_logout_urls?, name?, is_public?}` for people.

        Answers `{client_id, client_secret}`.
        """
        known = {"callbacks": tuple, "allowed_logout_urls": tuple, "is_public": bool, "token_seconds": int}
        settings = {name: known[name](value) for name, value in asked.items() if name in known}
        name = str(asked.get("name", "Machine client" if "scopes" in asked else "Music app"))
        if not {"scopes", "callbacks"} & asked.keys():
            raise KeyError("scopes or callbacks")
        client = self._tenant.applications.new_client(tuple(asked.get("scopes", ())), name, **settings)
        return {"client_id": client.client_id, "client_secret": client.client_secret}

    async def new_api(self, asked: dict[str, Any]) -> Any:
        """Register the API `{identifier, scopes?, token_seconds?, allow_offline_access?}` as an audience."""
        api = msgspec.convert(asked, Api)
        self._tenant.applications.register_api(api)
        return {"identifier": api.identifier}

    async def actions(self, asked: dict[str, Any]) -> Any:  # noqa: ARG002 one signature for all handlers
        """Answer what runs Actions (`node`: its path, or null), and the last `executions` with what they printed."""
        return {"node": find_node(), "executions": list(self._tenant.actions.executions)}

    async def keys(self, asked: dict[str, Any]) -> Any:  # noqa: ARG002
        """Answer the `kid`s: `{current, next, previous}`."""
        return self._tenant.keys.as_dict()

    async def rotate(self, asked: dict[str, Any]) -> Any:  # noqa: ARG002
        """Sign with the next key; the one before goes on verifying until it is revoked."""
        self._tenant.keys.rotate()
        return self._tenant.keys.as_dict()

    async def revoke(self, asked: dict[str, Any]) -> Any:
        """Revoke the previous key `kid`, or all previous ones → `{revoked}`."""
        revoked = self._tenant.keys.revoke(asked.get("kid"))
        self._tenant.authority.forget_verified()
        return {"revoked": revoked}

    async def token(self, asked: dict[str, Any]) -> Any:
        """`{user_id, audience}` → `{access_token}`; `{user_ids, audience}` → `{access_tokens}` in their order.

        `scope`, `client_id`, `issuer`, `seconds` (of life; negative for an expired one), `claims` (null takes one away), `headers`, `kid` say
        otherwise than usual. `kind: "id"` makes an ID token, for somebody who exists. Nobody logs in by this.
        """
        if "user_ids" in asked:
            tokens = []
            for user_id in asked["user_ids"]:
                await asyncio.sleep(0)  # signing takes a millisecond, and others want to be answered meanwhile
                tokens.append(self._token(user_id, asked))
            return {"access_tokens": tokens}
        return {"access_token": self._token(str(asked["user_id"]), asked)}

    def _token(self, user_id: str, asked: dict[str, Any]) -> str:
        authority, now = self._tenant.authority, int(self._tenant.clock())
        seconds = int(asked.get("seconds", 86_400))
        lifetime = (min(now, now + seconds - 1), now + seconds)
        issuer, scope = asked.get("issuer", authority.issuer), str(asked.get("scope", "openid profile email"))
        client_id = str(asked.get("client_id", APP["client_id"]))
        if asked.get("kind") == "id":
            user = self._tenant.users.get(user_id)
            if user is None:
                raise no_such_user()
            claims = person_tokens.id_claims(issuer, user, client_id, scope, lifetime, {})
        else:
            userinfo = f"{authority.issuer}userinfo"
            claims = person_tokens.access_claims(
                issuer, userinfo, user_id, str(asked["audience"]), client_id, scope, lifetime
            )
        claims |= asked.get("claims", {})
        kept = {name: value for name, value in claims.items() if value is not None}
        return self._tenant.keys.sign(kept, asked.get("kid"), asked.get("headers"))
