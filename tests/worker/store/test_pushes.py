"""Marks of users who must be looked at for a push, and wishes, in the tables."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, text

from worker.store import pushes, wishes

LINKED = """[{"provider": "auth0", "user_id": "ada"}, {"provider": "sms", "user_id": "1"}]"""


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    engine = create_engine(database_url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def rows(connection: Connection, columns: str) -> list[Any]:
    return [tuple(row) for row in connection.execute(text(f"SELECT {columns} FROM pushes ORDER BY user_id"))]  # noqa: S608 (columns of ours)


def live(connection: Connection, user_id: str, identities: str = "[]") -> None:
    connection.execute(
        text("INSERT INTO users (user_id, identities, synced_at) VALUES (:id, CAST(:identities AS jsonb), now())"),
        {"id": user_id, "identities": identities},
    )


def test_an_alias_is_marked_as_its_primary(connection: Connection) -> None:  # P13
    live(connection, "auth0|ada", LINKED)
    pushes.mark(connection, ["sms|1", "auth0|ada", "auth0|bob"])
    assert rows(connection, "user_id") == [("auth0|ada",), ("auth0|bob",)]


def test_a_live_row_is_never_an_alias(connection: Connection) -> None:  # P13
    live(connection, "auth0|ada", LINKED)
    live(connection, "sms|1")
    pushes.mark(connection, ["sms|1"])
    assert rows(connection, "user_id") == [("sms|1",)]


def test_marks_upon_marks_write_nothing_until_somebody_has_claimed_it(connection: Connection) -> None:
    pushes.mark(connection, ["auth0|ada"])
    [(first,)] = rows(connection, "number")
    pushes.mark(connection, ["auth0|ada"])
    assert rows(connection, "number") == [(first,)]
    connection.execute(text("UPDATE pushes SET leased_until = now()"))
    pushes.mark(connection, ["auth0|ada"])
    assert rows(connection, "number > " + str(first)) == [(True,)]


def test_a_mark_wakes_what_waits_for_a_change_and_shortens_no_rest(connection: Connection) -> None:
    pushes.mark(connection, ["auth0|ada"])
    connection.execute(text("UPDATE pushes SET due_at = 'infinity', rests_until = now() + interval '1 h'"))
    pushes.mark(connection, ["auth0|ada"], after=timedelta())
    assert rows(connection, "due_at <= now(), rests_until > now()") == [(True, True)]


def test_a_reason_to_hurry_takes_a_default_name_out_of_the_last_class(connection: Connection) -> None:  # P17
    pushes.mark(connection, [], last=["auth0|ada"])
    pushes.mark(connection, ["auth0|ada"])
    assert rows(connection, "last") == [(False,)]
    pushes.mark(connection, [], last=["auth0|ada"])
    assert rows(connection, "last") == [(False,)]


def test_a_wish_is_fulfilled_only_while_its_number_is_what_it_was_and_the_row_shows_it(
    connection: Connection,
) -> None:  # P17
    live(connection, "auth0|ada")
    wishes.wish(connection, "auth0|ada", "displayName", "Ada")
    first = connection.execute(text("SELECT number FROM wishes")).scalar_one()
    wishes.fulfil(connection, "auth0|ada", {"displayName": first})
    assert connection.execute(text("SELECT value FROM wishes")).all() == [("Ada",)], "the row does not show it"
    connection.execute(text("""UPDATE users SET user_metadata = '{"displayName": "Ada"}'"""))
    wishes.wish(connection, "auth0|ada", "displayName", "Ada")
    wishes.fulfil(connection, "auth0|ada", {"displayName": first})
    second = connection.execute(text("SELECT number FROM wishes")).scalar_one()
    wishes.fulfil(connection, "auth0|ada", {"displayName": second})
    assert connection.execute(text("SELECT count(*) FROM wishes")).scalar_one() == 0
