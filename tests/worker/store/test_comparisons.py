"""Lines that say what we hold are noted by PostgreSQL alone; all others are handed back to be looked at."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from worker.store import comparisons, forgotten, users
from worker.sync.lines import without_alike

ADA, BOB, CY = ({"user_id": f"auth0|{name}", "name": name, "locale": "de"} for name in ("ada", "bob", "cy"))
COVERS = frozenset({"user_id", "name"})


@pytest.fixture
def copy(engine: Engine) -> Engine:
    """A copy that holds these three."""
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO tenant (domain) VALUES ('t.example.com') ON CONFLICT DO NOTHING"))
        users.insert_new(connection, {said["user_id"]: said for said in (ADA, BOB, CY)})
    return engine


def line(**said: Any) -> bytes:
    return json.dumps(said).encode()


def noted(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return sorted(connection.execute(text("SELECT user_id FROM exported WHERE run_id = 1")).scalars())


def others(engine: Engine, lines: list[bytes], covers: frozenset[str] | None = None) -> list[int]:
    with engine.begin() as connection:
        return list(comparisons.note_alike(connection, 1, lines, covers))


def test_who_is_as_we_hold_them_is_noted_and_all_others_are_told(copy: Engine) -> None:
    lines = [
        line(**ADA),
        line(**{**BOB, "name": "Robert"}),
        line(user_id="auth0|new", name="new"),
        line(**{**CY, "email": None}),  # null is as good as absent
        b"[]",
        b'"auth0|ada"',
        line(user_id=7),
        line(name="nobody"),
    ]
    assert others(copy, lines) == [1, 2, 4, 5, 6, 7]
    assert noted(copy) == ["auth0|ada", "auth0|cy"]


def test_only_what_the_source_covers_is_compared(copy: Engine) -> None:
    lines = [line(user_id=said["user_id"], name=said["name"]) for said in (ADA, BOB, CY)]
    assert others(copy, lines) == [0, 1, 2]
    assert others(copy, lines, COVERS) == []


def test_lines_are_told_apart_though_white_space_within_them_breaks(copy: Engine) -> None:
    assert others(copy, [json.dumps(ADA, indent=1).encode(), line(**{**BOB, "name": "Robert"}), line(**CY)]) == [1]
    assert others(copy, []) == []


def test_whoever_is_in_doubt_is_looked_at(copy: Engine) -> None:
    with copy.begin() as connection:
        connection.execute(text("UPDATE users SET deletion_seen_at = now() WHERE user_id = 'auth0|ada'"))
        connection.execute(text("UPDATE users SET deleted_at = now() WHERE user_id = 'auth0|bob'"))
        connection.execute(text("INSERT INTO news (user_id, deletion_seen_at) VALUES ('auth0|cy', now())"))
    assert others(copy, [line(**ADA), line(**BOB), line(**CY)]) == [0, 1, 2]


def test_nobody_who_was_forgotten_is_noted(copy: Engine) -> None:  # P14
    with copy.begin() as connection:
        forgotten.remember(connection, ["auth0|bob"], keep_out=False)
    assert others(copy, [line(**ADA), line(**BOB)]) == [1]
    assert noted(copy) == ["auth0|ada"]


@pytest.mark.parametrize(
    "odd",
    [b"{", b'{"user_id":"auth0|x","name":"\\u0000"}', b'{"user_id":"auth0|x","name":"\\ud83d"}', b"\xff", b"\0", b""],
    ids=["torn", "nul", "half a character", "no utf-8", "raw nul", "empty"],
)
def test_where_one_line_is_odd_every_line_is_handed_back(copy: Engine, odd: bytes) -> None:
    lines = [line(**ADA), odd, line(**BOB)]
    with pytest.raises((DBAPIError, UnicodeError)):
        others(copy, lines)
    assert without_alike(copy, 1, lines, None) == lines
    assert noted(copy) == []


def test_a_suspect_is_suspected_once(copy: Engine) -> None:
    with copy.begin() as connection:
        assert comparisons.suspect(connection, 1, {}, []) == set()
        assert comparisons.suspect(connection, 1, {"b": "stale", "a": "missing"}, ["b"]) == {"a", "b"}
        assert comparisons.suspect(connection, 1, {"b": "missing", "c": "stale"}, ["b", "c"]) == {"c"}
        assert comparisons.suspects(connection, 1, "", 10) == [("a", "missing")]
        assert comparisons.suspects(connection, 1, "a", 10) == []
