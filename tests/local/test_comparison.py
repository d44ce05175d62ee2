"""The demo's judge: what it lets pass, and what it must not."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from local.comparison import compare

PROFILE: dict[str, Any] = {
    "user_id": "auth0|1",
    "email": "ada@example.com",
    "email_verified": True,
    "created_at": "2026-01-01T00:00:00.000Z",
    "last_login": "2026-01-02T00:00:00.500Z",
    "logins_count": 1,
    "identities": [{"provider": "auth0", "user_id": "1", "connection": "db", "isSocial": False}],
    "app_metadata": {"a": 1, "b": {"c": [True, None]}},
    "favourite": "unknown to us",
}


def keep(database_url: str, profile: dict[str, Any], **columns: Any) -> None:
    """Store a row as a copy would."""
    structured = ("identities", "user_metadata", "app_metadata", "multifactor")
    values = {key: value for key, value in profile.items() if key != "favourite"}
    values |= {"profile": profile, **columns}
    values = {k: json.dumps(v) if k in structured or k == "profile" else v for k, v in values.items()}
    names, places = ", ".join(values), ", ".join(f"%({name})s" for name in values)
    with psycopg.connect(database_url) as connection:
        connection.execute(f"INSERT INTO users ({names}) VALUES ({places})", values)  # noqa: S608


def differing(database_url: str, *truth: dict[str, Any]) -> list[str]:
    return [f"{difference.user_id} {difference.attribute}" for difference in compare(truth, database_url)[1]]


def test_the_same_is_the_same(database_url: str) -> None:
    keep(database_url, PROFILE)
    assert compare([PROFILE], database_url) == (1, [])


def test_spellings_that_mean_the_same_are_no_difference(database_url: str) -> None:
    identity = {"connection": "db", "user_id": 1, "provider": "auth0"}
    spelled = {**PROFILE, "identities": [identity], "created_at": "2026-01-01T01:00:00+01:00", "blocked": None}
    keep(database_url, spelled)
    assert differing(database_url, PROFILE) == []


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("email", "bob@example.com"),
        ("email", None),
        ("email_verified", False),
        ("blocked", False),
        ("last_login", "2026-01-02T00:00:00.501Z"),
        ("logins_count", 2),
        ("identities", []),
        ("app_metadata", {"a": True, "b": {"c": [True, None]}}),
    ],
)
def test_a_wrong_attribute_is_named(database_url: str, attribute: str, value: object) -> None:
    keep(database_url, {**PROFILE, attribute: value})
    assert differing(database_url, PROFILE) == [f"auth0|1 {attribute}", f"auth0|1 profile.{attribute}"]


def test_an_attribute_without_a_column_counts_too(database_url: str) -> None:
    keep(database_url, {**PROFILE, "favourite": "something else"})
    assert differing(database_url, PROFILE) == ["auth0|1 profile.favourite"]


def test_users_that_one_side_lacks_are_named(database_url: str) -> None:
    keep(database_url, PROFILE)
    assert differing(database_url, {**PROFILE, "user_id": "auth0|2"}) == ["auth0|1 user_id", "auth0|2 user_id"]


def test_a_tombstone_is_nobody(database_url: str) -> None:
    keep(database_url, PROFILE, deleted_at="2026-01-03T00:00:00Z")
    assert differing(database_url, PROFILE) == ["auth0|1 user_id"]
    assert differing(database_url) == []
