"""`understudy parked`, run as an operator runs it, over what drain parks by itself."""

from __future__ import annotations

import json
import subprocess
import sysconfig
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import zstandard
from sqlalchemy import Engine, text

from tests.api.web import environment
from worker.sync.count import Plays
from worker.sync.drain import Source, drain
from worker.sync.learn import LogRecords

UNDERSTUDY = Path(sysconfig.get_path("scripts")) / "understudy"
GOOD = b'{"log_id":"1","data":{"type":"s","date":"2026-11-23T10:00:00.000Z","user_id":"auth0|good","log_id":"1"}}'
ODD = b'{"log_id":"2","data":{"type":17,"user_id":"auth0|odd.marker","log_id":"2"}}'

Understudy = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def understudy(database_url: str, redis_url: str) -> Understudy:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [UNDERSTUDY, "parked", *arguments],
            env=environment(database_url, redis_url),
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def put(engine: Engine, body: bytes, source: str = "logs", received_at: datetime | None = None) -> None:
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO inbox (source, size, body, received_at) VALUES (:source, :size, :body, coalesce(:at, now()))"
            ),
            {"source": source, "size": len(body), "body": zstandard.compress(body), "at": received_at},
        )


def rows(engine: Engine, statement: str) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(statement))]


def drained(engine: Engine, source: Source[Any] | None = None) -> int:
    return drain(engine, source or LogRecords(), go_on=lambda: True)


def listed(understudy: Understudy, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(understudy("list", "--json", *arguments).stdout)
    return found


def test_what_failed_is_listed_with_why_and_since_when_and_without_its_bytes(
    engine: Engine, understudy: Understudy
) -> None:
    assert understudy("list").stdout == "nothing is parked\n"
    arrived = datetime(2026, 11, 20, 8, tzinfo=UTC)
    put(engine, GOOD + b"\n" + ODD, received_at=arrived)
    drained(engine)
    (one,) = listed(understudy)
    assert one == {
        "id": "r1",
        "source": "logs",
        "since": arrived.isoformat(),
        "bytes": len(ODD),
        "why": "its type is not text",
        "kept": True,
    }
    said = understudy("list").stdout
    assert "its type is not text" in said
    assert "marker" not in said
    shown = understudy("show", "r1")
    assert shown.stdout == ODD.decode()
    assert "its type is not text" in shown.stderr


def test_pushes_that_are_parked_are_told_of_beside_the_list(engine: Engine, understudy: Understudy) -> None:
    with engine.begin() as connection:
        connection.execute(
            text(
                """INSERT INTO pushes (user_id, parked) VALUES ('auth0|marker', '{"name": {"for": "x", "reason": "y"}}')"""
            )
        )
    done = understudy("list")
    assert done.stdout == "nothing else is parked\n"
    assert done.stderr == "1 pushes are parked, since Auth0 does not take them: the table pushes says why\n"
    assert listed(understudy) == []


def test_a_whole_delivery_is_listed_shown_and_drained_again(engine: Engine, understudy: Understudy) -> None:
    put(engine, GOOD)
    with engine.begin() as connection:
        connection.execute(text("UPDATE inbox SET attempts = 4"))
    drained(engine)
    (one,) = listed(understudy)
    assert (one["id"], one["kept"]) == ("d1", True)
    assert "given up after 4 attempts" in one["why"]
    assert understudy("show", "d1").stdout == GOOD.decode()
    assert understudy("replay", "d1").stdout == "1 will be drained again\n"
    assert rows(engine, "SELECT state, attempts, error FROM inbox") == [("pending", 0, None)]
    assert drained(engine) == 1
    assert rows(engine, "SELECT user_id FROM users") == [("auth0|good",)]
    assert listed(understudy) == []


def test_a_record_that_is_still_bad_is_parked_again_once_and_keeps_its_time(
    engine: Engine, understudy: Understudy
) -> None:
    arrived = datetime(2026, 11, 20, 8, tzinfo=UTC)
    put(engine, ODD + b"\n" + GOOD + b"\n" + ODD, received_at=arrived)
    drained(engine)
    assert understudy("replay", "--all").stdout == "2 will be drained again\n"
    assert rows(engine, "SELECT count(*) FROM parked") == [(0,)]
    assert drained(engine) == 2
    again = listed(understudy)
    assert [(one["why"], one["since"], one["bytes"]) for one in again] == [
        ("its type is not text", arrived.isoformat(), len(ODD))
    ] * 2
    assert understudy("show", again[0]["id"]).stdout == ODD.decode()


def test_a_record_that_can_be_read_now_takes_effect(engine: Engine, understudy: Understudy) -> None:
    put(engine, ODD)
    drained(engine)
    with engine.begin() as connection:  # as if a release had learned to read it
        connection.execute(text("UPDATE parked SET record = :record"), {"record": GOOD})
    assert understudy("replay", "r1").returncode == 0
    drained(engine)
    assert rows(engine, "SELECT user_id FROM users") == [("auth0|good",)]
    assert listed(understudy) == []


def test_a_play_counts_for_the_day_it_arrived_and_once(engine: Engine, understudy: Understudy) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    play = b'{"listener":"auth0|l","owner":"auth0|o","playlist_id":1,"play_id":"11111111-1111-4111-8111-111111111111"}'
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO users (user_id) VALUES ('auth0|l'), ('auth0|o')"))
        connection.execute(text("INSERT INTO playlists (user_id, name) VALUES ('auth0|o', 'mine')"))
    put(engine, b"no play", source="plays", received_at=yesterday)
    drained(engine, Plays(10))
    with engine.begin() as connection:
        connection.execute(text("UPDATE parked SET record = :record"), {"record": play})
    assert understudy("replay", "--source", "plays").stdout == "1 will be drained again\n"
    assert understudy("replay", "--source", "plays").stdout == "0 will be drained again\n"
    drained(engine, Plays(10))
    assert rows(engine, "SELECT plays FROM playlists") == [(1,)]
    assert rows(engine, "SELECT day FROM play_days") == [(yesterday.date(),)]


def test_a_line_of_an_export_makes_the_tenant_be_asked(engine: Engine, understudy: Understudy) -> None:
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO parked (source, inbox_id, position, reason, record) VALUES "
                "('export', 1, 0, 'of an older release', :good), ('export', 1, 1, 'of an older release', :bad)"
            ),
            {"good": b'{"user_id":"auth0|exported"}', "bad": b"[]"},
        )
    said = understudy("replay", "--all").stdout
    assert "1 users of an export will be asked for, 1 of its lines are still bad" in said
    assert rows(engine, "SELECT user_id, strong FROM news") == [("auth0|exported", True)]
    assert [(one["id"], one["why"]) for one in listed(understudy)] == [("r2", "a line of the export is no JSON object")]


def test_what_was_too_large_cannot_be_replayed_but_dropped(engine: Engine, understudy: Understudy) -> None:
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO inbox (source, state, size, error) VALUES ('logs', 'parked', 99, 'oversize, not kept')")
        )
    (one,) = listed(understudy)
    assert (one["id"], one["kept"], one["bytes"]) == ("d1", False, 99)
    shown = understudy("show", "d1")
    assert (shown.returncode, "MAX_DELIVERY_BYTES" in shown.stderr, "Traceback" in shown.stderr) == (2, True, False)
    assert "nothing to replay" in understudy("replay", "--all").stdout
    assert listed(understudy) == [one]
    assert understudy("drop", "d1").stdout == "d1 is dropped\n"
    assert rows(engine, "SELECT count(*) FROM inbox") == [(0,)]


def test_dropping_takes_one_and_nothing_beside_it(engine: Engine, understudy: Understudy) -> None:
    put(engine, ODD + b"\n" + ODD)
    drained(engine)
    assert understudy("drop", "r1").returncode == 0
    assert [one["id"] for one in listed(understudy)] == ["r2"]
    assert rows(engine, "SELECT state FROM inbox") == [("done",)]


@pytest.mark.parametrize(
    "arguments",
    [("show", "r9"), ("drop", "d1"), ("replay", "12"), ("replay",), ("replay", "r1", "--all")],
    ids=" ".join,
)
def test_what_makes_no_sense_gets_a_sentence(
    engine: Engine, understudy: Understudy, arguments: tuple[str, ...]
) -> None:
    put(engine, GOOD)  # pending: not parked, so not to be dropped
    done = understudy(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("understudy: ")
    assert done.stderr.count("\n") == 1
    assert rows(engine, "SELECT state FROM inbox") == [("pending",)]


def test_a_long_list_says_how_much_more_there_is(engine: Engine, understudy: Understudy) -> None:
    put(engine, b"\n".join([ODD] * 60))
    drained(engine)
    said = understudy("list").stdout
    assert "and 10 more" in said
    assert len(listed(understudy, "--most", "100")) == 60
    assert listed(understudy, "--source", "plays") == []


def test_two_replays_at_once_double_nothing(engine: Engine) -> None:
    put(engine, b"\n".join([ODD] * 200))
    drained(engine)
    start = partial(
        subprocess.Popen,
        [UNDERSTUDY, "parked", "replay", "--all"],
        env=environment(
            str(engine.url.render_as_string(hide_password=False)).replace("+psycopg", ""), "redis://127.0.0.1:1"
        ),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for process in [start(), start()]:
        process.wait()
    assert rows(engine, "SELECT count(*) FROM inbox WHERE state = 'pending'") == [(200,)]
    assert rows(engine, "SELECT count(*) FROM parked") == [(0,)]
