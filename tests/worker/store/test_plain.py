"""A profile that PostgreSQL takes as it is becomes the row that it becomes decoded; what it could not take is told apart before."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import Engine, text

from worker.store import plain, users

ID = "auth0|a"
FITTING: list[dict[str, Any]] = [
    {},
    {"email": None, "blocked": None, "logins_count": None, "identities": None, "user_metadata": {}},
    {"email": "a@example.com", "email_verified": True, "logins_count": 2**63 - 1, "blocked": False},
    {"created_at": "2024-02-29T23:59:59.999Z", "updated_at": "2024-03-01T00:00:00+02:00", "last_login": None},
    {"user_metadata": {"displayName": "Zoë 🎵", "nested": [1, 2.50, {"a": None}]}, "app_metadata": {"roles": ["x", 1]}},
    {"identities": [{"provider": "auth0", "user_id": "a"}, {"provider": "sms", "user_id": 7}], "locale": "de"},
    {"name": 'quotes " and \\ and \t', "multifactor": ["guardian"], "picture": "x" * 5_000},
]
ODD: list[dict[str, Any]] = [
    {"email_verified": "true"},
    {"email": 5},
    {"created_at": "yesterday"},
    {"created_at": "2024-01-01T00:00:00"},
    {"created_at": "0001-01-01T00:00:00+14:00"},
    {"last_login": "9999-12-31T23:59:59-14:00"},
    {"logins_count": 2**63},
    {"logins_count": "3"},
    {"user_metadata": {"note": "a\x00b"}},
    {"user_metadata": {"note": "\ud83d"}},
    {"name": 7},
]
_ROW = text(f"SELECT {', '.join(users.COLUMNS)}, display_name, roles, linked_ids, version FROM users")  # noqa: S608 ours


def test_what_fits_becomes_the_same_row_either_way(engine: Engine) -> None:
    for said in FITTING:
        profile = {"user_id": ID, **said}
        found = plain.fitting(json.dumps(profile, ensure_ascii=False).encode())
        assert found is not None
        with engine.connect() as connection:
            assert plain.insert_new(connection, dict([found]))[0] == 1
            as_it_is = connection.execute(_ROW).one()
            assert plain.unlike(connection, dict([found]), None) == set()
            connection.rollback()
            users.insert_new(connection, {ID: profile})
            assert connection.execute(_ROW).one() == as_it_is
            connection.rollback()


@pytest.mark.parametrize("said", ODD, ids=str)
def test_what_a_column_could_not_take_does_not_fit(said: dict[str, Any]) -> None:
    assert plain.fitting(json.dumps({"user_id": ID, **said}).encode()) is None


def test_whoever_has_a_row_is_left_as_they_are(engine: Engine) -> None:
    line = json.dumps({"user_id": ID, "name": "new"})
    with engine.connect() as connection:
        users.insert_new(connection, {ID: {"user_id": ID, "name": "old"}})
        assert plain.insert_new(connection, {ID: line}) == (0, [])
        assert plain.unlike(connection, {ID: line}, None) == {ID}
        assert plain.known(connection, {ID: line, "auth0|b": line}) == {ID}


def test_only_what_is_covered_is_compared_and_null_is_absent(engine: Engine) -> None:
    line = json.dumps({"user_id": ID, "name": "n", "email": None})
    with engine.connect() as connection:
        users.insert_new(connection, {ID: {"user_id": ID, "name": "n", "locale": "de"}})
        assert plain.unlike(connection, {ID: line}, frozenset(["user_id", "name", "email"])) == set()
        assert plain.unlike(connection, {ID: line}, None) == {ID}


def test_a_row_in_doubt_is_looked_at_whatever_it_holds(engine: Engine) -> None:
    profile = {"user_id": ID, "name": "n"}
    with engine.connect() as connection:
        users.insert_new(connection, {ID: profile})
        connection.execute(text("UPDATE users SET deletion_seen_at = now()"))
        assert plain.unlike(connection, {ID: json.dumps(profile)}, None) == {ID}
