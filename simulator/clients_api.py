"""Management API: the registered applications, and the URLs that they may be called back at."""

from __future__ import annotations

from typing import Any

from simulator.applications import Client
from simulator.errors import ApiError, invalid_body
from simulator.management import Answer, Call, Endpoint, required_body
from simulator.tenant import Tenant
from simulator.users_api import number_of

_CLIENT = "/api/v2/clients/{id}"
_URLS = frozenset({"callbacks", "allowed_logout_urls"})


class ClientsApi:
    """Handlers of `/api/v2/clients*`. Secrets are never shown: the control plane answers them once."""

    def __init__(self, tenant: Tenant) -> None:
        self._applications = tenant.applications

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint("GET", "/api/v2/clients", ("read:clients",), self.list),
            Endpoint("GET", _CLIENT, ("read:clients",), self.get),
            Endpoint("PATCH", _CLIENT, ("update:clients",), self.patch),
        ]

    def list(self, call: Call) -> Answer:
        per_page, page = number_of(call.query, "per_page", 50, 100), number_of(call.query, "page", 0, None)
        found = [client.as_dict() for client in self._applications]
        shown = found[page * per_page : (page + 1) * per_page]
        if call.query.get("include_totals") != "true":
            return Answer(shown)
        totals = {"total": len(found), "start": page * per_page, "limit": per_page, "length": len(shown)}
        return Answer({**totals, "clients": shown})

    def get(self, call: Call) -> Answer:
        return Answer(self._client(call).as_dict())

    def patch(self, call: Call) -> Answer:
        """Change `name`, `callbacks` or `allowed_logout_urls`; the rest of what Auth0 can change is not simulated."""
        body, client = required_body(call), self._client(call)
        unknown = sorted(set(body) - _URLS - {"name"})
        if unknown:
            raise invalid_body(f"Additional properties not allowed: {','.join(unknown)}")
        changes: dict[str, Any] = {key: _urls(key, body[key]) for key in _URLS & body.keys()}
        if isinstance(body.get("name"), str):
            changes["name"] = body["name"]
        return Answer(self._applications.change(client.client_id, **changes).as_dict())

    def _client(self, call: Call) -> Client:
        client = self._applications.client(call.params["id"])
        if client is None:
            raise ApiError(404, "The client does not exist", "inexistent_client")
        return client


def _urls(key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(url, str) and "://" in url for url in value):
        raise invalid_body(f"Expected an array of absolute URLs on property {key}")
    return tuple(value)
