"""Management API: users, search, linked identities."""

from __future__ import annotations

from typing import Any

import jwt
import msgspec

from simulator.errors import ApiError, insufficient_scope, invalid_body, invalid_query
from simulator.management import Answer, Call, Endpoint, required_body
from simulator.tenant import Tenant
from simulator.users import User

SEARCH_CAP = 1000
_USER = "/api/v2/users/{id}"


class UsersApi:
    """Handlers of `/api/v2/users*`."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._directory = tenant.directory

    def endpoints(self) -> list[Endpoint]:
        read, update = ("read:users",), ("update:users",)
        identities = f"{_USER}/identities"
        return [
            Endpoint("GET", "/api/v2/users", read, self.search),
            Endpoint("GET", "/api/v2/users-by-email", read, self.by_email),
            Endpoint("POST", "/api/v2/users", ("create:users",), self.create),
            Endpoint("GET", _USER, read, self.get),
            Endpoint("PATCH", _USER, ("update:users", "update:users_app_metadata"), self.patch),
            Endpoint("DELETE", _USER, ("delete:users",), self.delete),
            Endpoint("POST", identities, update, self.link),
            Endpoint("DELETE", identities + "/{provider}/{uid}", update, self.unlink),
        ]

    def get(self, call: Call) -> Answer:
        return Answer(_selected(self._directory.get(call.params["id"]), call.query))

    def create(self, call: Call) -> Answer:
        user = self._directory.create(call.body)
        if user.primary.provider == "auth0":
            self._tenant.journal.signed_up(user, self._tenant.journal.any_ip(), by_admin=True)
        return Answer(user, 201)

    def patch(self, call: Call) -> Answer:
        held = set(call.claims["scope"].split())
        if "update:users" not in held and set(call.body or ()) - {"app_metadata"}:
            raise insufficient_scope(("update:users",))
        return Answer(self._directory.patch(call.params["id"], call.body))

    def delete(self, call: Call) -> Answer:
        user = self._directory.delete(call.params["id"])
        if user is not None:
            self._tenant.journal.deleted(user)
        return Answer(status=204)

    def link(self, call: Call) -> Answer:
        primary = self._directory.link(call.params["id"], _secondary_id(required_body(call)))
        return Answer(primary.identities, 201)

    def unlink(self, call: Call) -> Answer:
        identity = f"{call.params['provider']}|{call.params['uid']}"
        return Answer(self._directory.unlink(call.params["id"], identity).identities)

    def by_email(self, call: Call) -> Answer:
        if "email" not in call.query:
            raise invalid_query("Missing required property: email")
        return Answer([_selected(user, call.query) for user in self._tenant.users.with_email(call.query["email"])])

    def search(self, call: Call) -> Answer:
        """Search v3: an index that lags, pages of at most 100, no result beyond the thousandth."""
        limits, query = self._tenant.search, call.query
        q = query.get("q")
        if q is not None and len(q) > limits.q_max:
            raise ApiError(414, "Request-URI Too Large")
        if query.get("search_engine", "v3") != "v3":
            raise invalid_query("Value is not one of: v3, on property search_engine")
        per_page = number_of(query, "per_page", 50, limits.per_page_max)
        page = number_of(query, "page", 0, None)
        if (page + 1) * per_page > SEARCH_CAP:
            raise ApiError(
                400,
                "You can only page through the first 1000 records. "
                "See https://auth0.com/docs/users/search/v3/view-search-results-by-page#limitation",
                "invalid_paging",
            )
        if limits.timeout_probability and self._tenant.chance.random() < limits.timeout_probability:
            raise ApiError(
                503, "The query exceeded the timeout. Please try refining your search criteria.", "query_timeout"
            )
        found = self._tenant.index.search(q, query.get("connection"), query.get("sort"))
        users = [_selected(user, query) for user in found[page * per_page : (page + 1) * per_page]]
        if query.get("include_totals") != "true":
            return Answer(users)
        shown = {"start": page * per_page, "limit": per_page, "length": len(users), "users": users, "total": len(found)}
        return Answer(shown)


def number_of(query: dict[str, str], name: str, default: int, maximum: int | None) -> int:
    text = query.get(name)
    if text is None:
        return min(default, maximum) if maximum is not None else default
    if not text.isdigit():
        raise invalid_query(f"Expected type integer but found type string on property {name}")
    if maximum is not None and int(text) > maximum:
        raise invalid_query(f"Value {text} is greater than maximum {maximum} on property {name}")
    return int(text)


def _selected(user: User, query: dict[str, str]) -> Any:
    """Show the profile, or the part of it that `fields` asks for (or, with `include_fields=false`, the rest)."""
    if not query.get("fields"):
        return user
    names = set(query["fields"].split(","))
    including = query.get("include_fields", "true") == "true"
    return {key: value for key, value in msgspec.to_builtins(user).items() if (key in names) is including}


def _secondary_id(body: dict[str, Any]) -> str:
    if "link_with" in body:
        try:
            return str(jwt.decode(body["link_with"], options={"verify_signature": False})["sub"])
        except (jwt.PyJWTError, KeyError, TypeError):
            raise ApiError(400, "Invalid link_with token", "invalid_body") from None
    if not isinstance(body.get("provider"), str) or not isinstance(body.get("user_id"), str | int):
        raise invalid_body("Missing required property: provider, user_id")
    user_id = str(body["user_id"])
    return user_id if user_id.startswith(f"{body['provider']}|") else f"{body['provider']}|{user_id}"
