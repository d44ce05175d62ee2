"""User imports: a file of profiles into a database connection (Bulk User Imports, Auth0 docs)."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from simulator import metadata
from simulator.clock import iso
from simulator.connections import Connection
from simulator.errors import ApiError, invalid_body
from simulator.jobs import Job
from simulator.tenant import Tenant
from simulator.users import Identity, Metadata, User

MAX_FILE_BYTES = 500 * 1024
MAX_ACTIVE = 2

_PROFILE = frozenset(
    [
        "email", "email_verified", "user_id", "username", "given_name", "family_name", "name", "nickname", "picture",
        "blocked", "phone_number", "phone_verified", "user_metadata", "app_metadata",
    ]
)  # fmt: skip
_SECRETS = frozenset({"password_hash", "custom_password_hash", "mfa_factors"})


def records_of(file: bytes) -> list[Any]:
    """Read the file. ApiError 413 when it is too large, 400 when it holds no array."""
    if len(file) > MAX_FILE_BYTES:
        raise ApiError(413, f"Payload content length greater than maximum allowed: {MAX_FILE_BYTES}")
    try:
        records = msgspec.json.decode(file)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise invalid_body("Users file is not JSON") from None
    if not isinstance(records, list):
        raise invalid_body("Users file holds no array")
    return records


async def import_users(tenant: Tenant, job: Job, connection: Connection, records: list[Any], *, upsert: bool) -> None:
    """Insert or update each; the tenant log says `sui`, or `fui` when nobody could be, and names none of them."""
    await asyncio.sleep(tenant.jobs.pace.import_seconds)
    counts = {"failed": 0, "updated": 0, "inserted": 0, "total": len(records)}
    for number, record in enumerate(records):
        if number % 100 == 0:
            await asyncio.sleep(0)
        try:
            counts[_take(tenant, connection, record, upsert=upsert)] += 1
        except ApiError as error:
            counts["failed"] += 1
            code = "DUPLICATED_USER" if error.status == 409 else "INVALID_FORMAT"
            known = record if isinstance(record, dict) else {}
            job.errors.append({"user": known, "errors": [{"code": code, "message": error.body["message"]}]})
    job.summary = counts
    job.status = "failed" if records and counts["failed"] == len(records) else "completed"
    tenant.journal.imported(connection.name, failed=job.status == "failed")


def _take(tenant: Tenant, connection: Connection, record: Any, *, upsert: bool) -> str:
    """Answer what became of one record: `inserted` or `updated`."""
    if not isinstance(record, dict):
        raise invalid_body("Expected type object")
    metadata.check({key: value for key, value in record.items() if key not in _SECRETS}, _PROFILE)
    fields = {key: value for key, value in record.items() if key not in _SECRETS and value is not None}
    if not fields.get("email"):
        raise invalid_body("Missing required property: email")
    fields["email"] = fields["email"].lower()
    known = _known(tenant, connection, fields)
    if known is None:
        given = fields.pop("user_id", None)
        identity = connection.new_identity(tenant.rng, fields["email"])
        identity = replace(identity, user_id=given) if isinstance(given, str) else identity
        tenant.directory.add(connection, identity, fields)
        return "inserted"
    if not upsert:
        raise ApiError(409, "The user already exist and upsert parameter is false")
    _overwrite(tenant, known, fields)
    return "updated"


def _known(tenant: Tenant, connection: Connection, fields: Metadata) -> User | None:
    if isinstance(fields.get("user_id"), str):
        identity = Identity(user_id=fields["user_id"], provider=connection.strategy, connection=connection.name, is_social=False)  # fmt: skip
        found = tenant.users.get(identity.full_id)
        if found is not None:
            return found
    return next((u for u in tenant.users.with_email(fields["email"]) if u.primary.connection == connection.name), None)


def _overwrite(tenant: Tenant, user: User, fields: Metadata) -> None:
    """Metadata is replaced whole, not merged as a PATCH does; a changed address is unverified unless the file says otherwise."""
    changes: dict[str, Any] = {key: value for key, value in fields.items() if key != "user_id"}
    if user.email is UNSET or user.email != fields["email"]:
        changes.setdefault("email_verified", False)
    changed = replace(user, **changes, updated_at=iso(tenant.clock()))
    metadata.check_size(changed)
    tenant.users.put(changed)
