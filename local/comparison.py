"""Compares the tenant with the local copy, attribute by attribute: the simulator's truth by HTTP, `users` by SQL.

Written without a look at how the product compares: docs/protocol.md (P2, "What equal means") is all they share. What a
profile lacks is null, a missing `isSocial` is false, integer ids are text, the order of keys means nothing, dates are
instants. Our own bookkeeping is not compared; users that are tombstones here must not be there, and the other way round.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row

_DATES = frozenset({"created_at", "updated_at", "last_login"})
_ATTRIBUTES = (
    "email",
    "email_verified",
    "username",
    "phone_number",
    "phone_verified",
    "name",
    "given_name",
    "family_name",
    "nickname",
    "picture",
    "blocked",
    "created_at",
    "updated_at",
    "last_login",
    "last_ip",
    "logins_count",
    "identities",
    "user_metadata",
    "app_metadata",
    "multifactor",
)  # fmt: skip

_LIVE = "SELECT * FROM users WHERE deleted_at IS NULL"


@dataclass(frozen=True)
class Difference:
    """One attribute of one user that is not the same, or a user that only one side has (attribute `user_id`)."""

    user_id: str
    attribute: str
    tenant: object
    copy: object

    def __str__(self) -> str:
        return f"{self.user_id}: {self.attribute} is {self.tenant!r} in the tenant, {self.copy!r} in the copy"


def compare(truth: Iterable[dict[str, Any]], database_url: str) -> tuple[int, list[Difference]]:
    """Return how many live users the tenant has, and every difference, in order of user ids."""
    tenant = {user["user_id"]: user for user in truth}
    with psycopg.connect(database_url, row_factory=dict_row) as connection:
        copy = {row["user_id"]: row for row in connection.execute(_LIVE)}
    differences: list[Difference] = []
    for user_id in sorted(tenant.keys() | copy.keys()):
        if user_id not in copy:
            differences.append(Difference(user_id, "user_id", user_id, None))
        elif user_id not in tenant:
            differences.append(Difference(user_id, "user_id", None, user_id))
        else:
            differences.extend(_of_one(tenant[user_id], copy[user_id]))
    return len(tenant), differences


def _of_one(profile: dict[str, Any], row: dict[str, Any]) -> Iterator[Difference]:
    """Compare each column, and in `profile` the whole snapshot, attributes without a column included."""
    for attribute in _ATTRIBUTES:
        expected, found = (_canonical(attribute, side.get(attribute)) for side in (profile, row))
        if not _equal(expected, found):
            yield Difference(row["user_id"], attribute, expected, found)
    snapshot = row["profile"] or {}
    for attribute in sorted(profile.keys() | snapshot.keys()):
        expected, found = (_canonical(attribute, side.get(attribute)) for side in (profile, snapshot))
        if not _equal(expected, found):
            yield Difference(row["user_id"], f"profile.{attribute}", expected, found)


def _canonical(attribute: str, value: Any) -> Any:
    if value is None:
        return None
    if attribute in _DATES:
        return _instant(value)
    if attribute == "identities":
        return [_identity(identity) for identity in value]
    return value


def _instant(value: str | datetime) -> datetime:
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment.astimezone(UTC)


def _identity(identity: dict[str, Any]) -> dict[str, Any]:
    return {**identity, "isSocial": bool(identity.get("isSocial")), "user_id": str(identity["user_id"])}


def _equal(one: Any, other: Any) -> bool:
    """Compare as JSON does: unlike Python, true is not 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)
