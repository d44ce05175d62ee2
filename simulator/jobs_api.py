"""Management API: exports and imports of users, and how far they are."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from simulator import exports, imports
from simulator.errors import ApiError, invalid_body
from simulator.management import Answer, Call, Endpoint, required_body
from simulator.tenant import Tenant

_JOB = "/api/v2/jobs/{id}"


class JobsApi:
    """Handlers of `/api/v2/jobs*`."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._jobs = tenant.jobs

    def endpoints(self) -> list[Endpoint]:
        either = ("create:users", "read:users")
        return [
            Endpoint("POST", "/api/v2/jobs/users-exports", ("read:users",), self.export),
            Endpoint("POST", "/api/v2/jobs/users-imports", ("create:users",), self.import_users),
            Endpoint("GET", _JOB, either, self.get),
            Endpoint("GET", _JOB + "/errors", either, self.errors),
        ]

    def export(self, call: Call) -> Answer:
        """Begin an export of all users, or of one connection's."""
        body = call.body if call.body is not None else {}
        if not isinstance(body, dict) or set(body) - {"connection_id", "format", "limit", "fields"}:
            raise invalid_body("Additional properties not allowed")
        format_, limit = body.get("format", "json"), body.get("limit")
        if format_ not in {"json", "csv"}:
            raise invalid_body("No enum match for: format")
        if limit is not None and (not isinstance(limit, int) or limit < 1):
            raise invalid_body("Value is less than minimum 1 on property limit")
        columns = exports.columns_of(body.get("fields"), format_)
        connection = self._connection_name(body.get("connection_id"))
        named = {"connection": connection} if connection is not None else {}
        job = self._jobs.new("users_export", {**body, "format": format_, **named})
        self._jobs.run(exports.export(self._tenant, job, columns, connection=connection, limit=limit))
        return Answer(job.as_dict())

    def import_users(self, call: Call) -> Answer:
        form = required_body(call)
        file = form.get("users")
        if not isinstance(file, bytes) or not form.get("connection_id"):
            raise invalid_body("Missing required property: users, connection_id")
        connection = self._tenant.connections.with_id(str(form["connection_id"]))
        if not connection.is_database:
            raise ApiError(400, "Users can be imported into database connections alone.", "operation_not_supported")
        records = imports.records_of(file)
        if self._jobs.active("users_import") >= imports.MAX_ACTIVE:
            raise ApiError(429, "There are 2 active import users jobs, please wait until some of them are finished before creating new ones.", "too_many_jobs")  # fmt: skip
        asked = {"connection_id": connection.id, "connection": connection.name}
        named = {"external_id": form["external_id"]} if form.get("external_id") else {}
        job = self._jobs.new("users_import", {**asked, **named})
        upsert = str(form.get("upsert", "false")).lower() == "true"
        self._jobs.run(imports.import_users(self._tenant, job, connection, records, upsert=upsert))
        return Answer(job.as_dict(), 202)

    def get(self, call: Call) -> Answer:
        """How far the job is; for a finished export with a new link each time."""
        job = self._jobs.get(call.params["id"])
        told = job.as_dict(self._jobs.seconds_left(job))
        if job.status == "completed" and job.file is not None:
            query = urlencode({"key": self._jobs.new_link(job)})
            told["location"] = f"{self._tenant.authority.issuer}exports/{job.file.name}?{query}"
        return Answer(told)

    def errors(self, call: Call) -> Answer:
        job = self._jobs.get(call.params["id"])
        return Answer(job.errors) if job.errors else Answer(status=204)

    def _connection_name(self, connection_id: Any) -> str | None:
        return self._tenant.connections.with_id(str(connection_id)).name if connection_id is not None else None
