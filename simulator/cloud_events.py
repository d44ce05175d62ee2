"""What happened to a user, and the CloudEvent that tells it (Event Catalog, Auth0 docs)."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET

from simulator import connections
from simulator.users import User

USER_TYPES = ("user.created", "user.updated", "user.deleted")
TYPES = frozenset(USER_TYPES) | frozenset(
    [
        "organization.created", "organization.updated", "organization.deleted", "organization.member.added",
        "organization.member.deleted", "organization.member.role.assigned", "organization.member.role.deleted",
        "organization.connection.added", "organization.connection.updated", "organization.connection.removed",
        "organization.group.role.assigned", "organization.group.role.deleted", "group.created", "group.updated",
        "group.deleted", "group.member.added", "group.member.deleted", "group.role.assigned", "group.role.deleted",
        "connection.created", "connection.updated", "connection.deleted",
    ]
)  # fmt: skip
"""What a stream can subscribe to. Only the first three happen by themselves here; the control plane makes the others."""

_COVERED = (
    "user_id", "email", "email_verified", "username", "phone_number", "phone_verified", "created_at", "updated_at",
    "app_metadata", "user_metadata", "picture", "name", "nickname", "given_name", "family_name", "multifactor", "last_ip",
    "last_login", "logins_count", "blocked",
)  # fmt: skip
"""The attributes that the catalog lists for a user; `locale` and `last_password_reset` are not among them."""


class Event(msgspec.Struct, frozen=True, gc=False):
    """One thing that happened: a user before and after it, or a CloudEvent given whole (`raw`)."""

    number: int
    id: str
    type: str
    time: str
    user: User | None = None
    previous: User | None = None
    """Told as `previous_object`."""
    with_context: bool = False
    with_social_false: bool = False
    """Whether `isSocial: false` is written out; real deliveries leave it away, examples in the docs do not."""
    bare: bool = False
    """A deletion as it was told formerly: by `user_id` and `deleted_at` alone."""
    raw: dict[str, Any] | None = None
    is_test: bool = False


def as_dict(event: Event, tenant: str, stream_id: str | None = None) -> dict[str, Any]:
    """Write the CloudEvent. Pushed ones name their stream, and their `source` is cut short as in real deliveries."""
    head: dict[str, Any] = {
        "id": event.id,
        "source": "urn:auth0:" if stream_id else f"urn:auth0:{tenant}.auth0.com",
        "specversion": "1.0",
        "type": event.type,
        "time": event.time,
        "data": _data(event, tenant),
        "a0tenant": tenant,
    }
    whole = {**head, **(event.raw or {})}
    if stream_id:
        whole["a0stream"] = stream_id
    return {**whole, "a0purpose": "test"} if event.is_test else whole


def encoded(event: Event, tenant: str, stream_id: str | None = None) -> bytes:
    return msgspec.json.encode(as_dict(event, tenant, stream_id))


def _data(event: Event, tenant: str) -> dict[str, Any]:
    if event.user is None:
        return {"object": {}}
    told = _profile(event.user, with_social_false=event.with_social_false)
    if event.type == "user.deleted":
        told = {"user_id": event.user.user_id} if event.bare else told
        told["deleted_at"] = event.time
    data: dict[str, Any] = {"object": told}
    if event.previous is not None:
        data["previous_object"] = _profile(event.previous, with_social_false=event.with_social_false)
    if event.with_context:
        data["context"] = _context(event.user, tenant)
    return data


def _profile(user: User, *, with_social_false: bool) -> dict[str, Any]:
    """The whole profile; what is unset is absent."""
    told = {name: value for name in _COVERED if (value := getattr(user, name)) is not UNSET}
    told["identities"] = identities = []
    for identity in user.identities:
        shown: dict[str, Any] = {
            "connection": identity.connection, "provider": identity.provider, "user_id": identity.user_id
        }  # fmt: skip
        if identity.is_social or with_social_false:
            shown["isSocial"] = identity.is_social
        if identity.profile_data is not UNSET:
            shown["profileData"] = identity.profile_data
        identities.append(shown)
    return told


def _context(user: User, tenant: str) -> dict[str, Any]:
    connection = connections.of_identity(user.primary)
    return {
        "connection": {"id": connection.id, "name": connection.name, "strategy": connection.strategy},
        "request": {
            "geo": {"country_code": "PT", "country_name": "Portugal", "city_name": "Lisbon"},
            "hostname": f"{tenant}.example.com",
            "ip": user.last_ip if user.last_ip is not UNSET else "203.0.113.9",
            "method": "POST",
            "user_agent": "Mozilla/5.0",
        },
        "tenant": {"id": tenant},
    }
