"""Management API: connections, and the deletions that take users with them."""

from __future__ import annotations

from typing import Any

from simulator.connections import Connection
from simulator.errors import invalid_query
from simulator.management import Answer, Call, Endpoint
from simulator.tenant import Tenant

_CONNECTION = "/api/v2/connections/{id}"


class ConnectionsApi:
    """Handlers of `/api/v2/connections*`."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant

    def endpoints(self) -> list[Endpoint]:
        read, delete = ("read:connections",), ("delete:connections",)
        return [
            Endpoint("GET", "/api/v2/connections", read, self.list),
            Endpoint("GET", _CONNECTION, read, self.get),
            Endpoint("DELETE", _CONNECTION, delete, self.delete),
            Endpoint("DELETE", _CONNECTION + "/users", ("delete:users",), self.delete_user),
        ]

    def list(self, call: Call) -> Answer:
        wanted = call.query.get("name"), call.query.get("strategy")
        found = [c for c in self._tenant.connections if wanted[0] in (None, c.name) and wanted[1] in (None, c.strategy)]
        return Answer([_shown(connection) for connection in found])

    def get(self, call: Call) -> Answer:
        return Answer(_shown(self._tenant.connections.with_id(call.params["id"])))

    def delete(self, call: Call) -> Answer:
        """All its users go with it, and no `sdu` says so."""
        self._tenant.directory.delete_connection(self._tenant.connections.with_id(call.params["id"]))
        return Answer(status=204)

    def delete_user(self, call: Call) -> Answer:
        """One user of a database connection, named by e-mail alone."""
        connection = self._tenant.connections.with_id(call.params["id"])
        if "email" not in call.query:
            raise invalid_query("Missing required property: email")
        for user in self._tenant.users.with_email(call.query["email"].lower()):
            if user.primary.connection == connection.name:
                self._tenant.directory.delete(user.user_id)
        return Answer(status=204)


def _shown(connection: Connection) -> dict[str, Any]:
    return {
        "id": connection.id,
        "name": connection.name,
        "strategy": connection.strategy,
        "options": {},
        "enabled_clients": [],
        "realms": [connection.name],
        "is_domain_connection": False,
    }
