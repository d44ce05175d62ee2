"""What plays add up to, clause by clause, on a real database (docs/protocol.md P25)."""

import json
import random
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import Engine, create_engine, text

from tests.worker.sync.radio import NOON, OWNER, Radio, play
from worker.queue.plays import encode
from worker.store import plays as store
from worker.sync.count import clean_plays

BEFORE_MIDNIGHT = datetime(2026, 11, 20, 23, 59, 59, 900_000, tzinfo=UTC)
AFTER_MIDNIGHT = datetime(2026, 11, 21, 0, 0, 0, 100_000, tzinfo=UTC)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    # Far from UTC, so that a day by the connection's clock would show.
    options = {"options": "-c timezone=Pacific/Auckland"}
    engine = create_engine(
        database_url.replace("postgresql:", "postgresql+psycopg:"), pool_size=10, connect_args=options
    )
    yield engine
    engine.dispose()


@pytest.fixture
def radio(engine: Engine) -> Radio:
    radio = Radio(engine)
    radio.makes_playlists(OWNER, OWNER)
    return radio


def test_a_play_is_kept_and_counted(radio: Radio) -> None:
    radio.hears(play())
    assert radio.counts() == 1
    assert radio.sums() == {1: 1, 2: 0}
    assert radio.ask("SELECT playlist_id, listener, play_id, played_at, counted FROM plays") == [
        (1, "auth0|bob", UUID(int=1), NOON, True)
    ]
    assert radio.ask("SELECT state FROM inbox") == [("done",)]


def test_a_play_counts_once_whatever_is_retried(radio: Radio) -> None:
    radio.hears(play(), play())
    radio.hears(play())
    radio.counts()
    radio.hears(play())
    radio.counts()
    assert radio.sums() == {1: 1, 2: 0}
    assert radio.ask("SELECT counted FROM play_days") == [(1,)]


def test_the_same_id_from_another_listener_is_another_play(radio: Radio) -> None:
    for listener in ("auth0|bob", "auth0|cy"):
        radio.hears(play(listener=listener))
        radio.counts()
    assert radio.sums() == {1: 2, 2: 0}


def test_the_same_id_for_another_playlist_is_another_play(radio: Radio) -> None:
    for playlist_id in (1, 2):
        radio.hears(play(playlist_id=playlist_id))
        radio.counts()
    assert radio.sums() == {1: 1, 2: 1}


def test_the_owners_own_plays_are_kept_and_not_counted(radio: Radio) -> None:
    radio.hears(play(1, listener=OWNER), play(2))
    radio.counts()
    assert radio.sums() == {1: 1, 2: 0}
    assert radio.ask("SELECT listener, counted FROM plays ORDER BY 1") == [(OWNER, False), ("auth0|bob", True)]


def test_whose_the_playlist_is_was_settled_when_the_request_arrived(radio: Radio) -> None:
    with radio.engine.begin() as connection:
        connection.execute(text("UPDATE playlists SET user_id = 'sms|1'"))  # an alias of hers, as it was made
    radio.hears(play(1, listener=OWNER, owner=OWNER), play(2, listener="sms|1", owner=OWNER))
    radio.counts()
    assert radio.ask("SELECT listener, counted FROM plays ORDER BY 1") == [(OWNER, False), ("sms|1", True)]


def test_beyond_the_cap_plays_are_kept_and_not_counted(radio: Radio) -> None:
    radio.hears(*(play(number) for number in range(7)))
    radio.counts()
    radio.hears(*(play(number) for number in range(7, 15)))
    radio.counts()
    assert radio.sums() == {1: 10, 2: 0}
    assert radio.ask("SELECT count(*), count(*) FILTER (WHERE counted) FROM plays") == [(15, 10)]
    assert radio.ask("SELECT counted FROM play_days") == [(10,)]


def test_the_cap_is_a_listeners(radio: Radio) -> None:
    for listener in ("auth0|bob", "auth0|cy"):
        radio.hears(*(play(number, listener) for number in range(12)))
    radio.counts()
    assert radio.sums() == {1: 20, 2: 0}


def test_the_cap_is_a_playlists(radio: Radio) -> None:
    radio.hears(*(play(number, playlist_id=playlist_id) for number in range(12) for playlist_id in (1, 2)))
    radio.counts()
    assert radio.sums() == {1: 10, 2: 10}


def test_the_cap_is_a_days_by_utc(radio: Radio) -> None:
    radio.hears(*(play(number) for number in range(12)), at=BEFORE_MIDNIGHT)
    radio.hears(*(play(number) for number in range(12, 24)), at=AFTER_MIDNIGHT)
    radio.counts()
    assert radio.sums() == {1: 20, 2: 0}
    assert radio.ask("SELECT day::text, counted FROM play_days ORDER BY 1") == [("2026-11-20", 10), ("2026-11-21", 10)]


def test_plays_before_and_after_noon_share_a_days_cap(radio: Radio) -> None:  # midnight elsewhere is none
    radio.hears(*(play(number) for number in range(8)), at=NOON - timedelta(hours=11))
    radio.hears(*(play(number) for number in range(8, 16)), at=NOON + timedelta(hours=11))
    radio.counts()
    assert radio.sums() == {1: 10, 2: 0}


def test_a_play_counts_for_the_day_it_arrived_however_late_it_is_counted(radio: Radio) -> None:
    radio.hears(*(play(number) for number in range(10)), at=BEFORE_MIDNIGHT)
    radio.counts()
    radio.hears(play(99), at=BEFORE_MIDNIGHT)
    radio.counts()
    assert radio.sums() == {1: 10, 2: 0}


@pytest.mark.parametrize("second", [AFTER_MIDNIGHT, BEFORE_MIDNIGHT])
@pytest.mark.parametrize("together", [True, False])
def test_a_play_retried_across_midnight_counts_once(radio: Radio, second: datetime, together: bool) -> None:
    first = BEFORE_MIDNIGHT if second == AFTER_MIDNIGHT else AFTER_MIDNIGHT
    radio.hears(play(), at=first)
    if not together:
        radio.counts()
    radio.hears(play(), at=second)
    radio.counts()
    assert radio.sums() == {1: 1, 2: 0}
    assert radio.ask("SELECT counted FROM play_days") == [(1,)]


def test_the_owners_own_plays_take_nobodys_place(radio: Radio) -> None:
    # His playlist when the first ten arrived; a link made between the requests would do that.
    radio.hears(*(play(number, owner="auth0|bob") for number in range(10)))
    radio.hears(*(play(number) for number in range(10, 20)))
    radio.counts()
    assert radio.sums() == {1: 10, 2: 0}


def test_a_cap_of_none_counts_nothing_and_keeps_all(engine: Engine) -> None:
    radio = Radio(engine, cap=0)
    radio.makes_playlists(OWNER)
    radio.hears(play())
    radio.counts()
    assert radio.sums() == {1: 0}
    assert radio.ask("SELECT counted FROM plays") == [(False,)]


def test_a_play_whose_playlist_is_gone_is_counted_as_dropped_and_not_parked(radio: Radio) -> None:
    radio.hears(play(1, playlist_id=77), play(2, playlist_id=1))
    radio.counts()
    assert radio.sums() == {1: 1, 2: 0}
    assert radio.ask("SELECT name, value FROM counters WHERE name LIKE 'plays%' ORDER BY 1") == [
        ("plays_counted", 1),
        ("plays_dropped", 1),
    ]
    assert radio.ask("SELECT playlist_id FROM plays") == [(1,)]
    assert radio.ask("SELECT state, error FROM inbox") == [("done", None)]
    assert radio.ask("SELECT * FROM parked") == []


def test_owners_whose_sums_changed_are_marked_for_a_push_once_a_batch(radio: Radio) -> None:
    radio.makes_playlists("auth0|cy", "auth0|dot")
    radio.hears(*(play(number, playlist_id=place) for number in range(5) for place in (1, 2)))
    radio.hears(play(6, playlist_id=3, owner="auth0|cy"))
    radio.hears(play(7, listener="auth0|dot", playlist_id=4, owner="auth0|dot"))
    radio.counts()
    assert radio.ask("SELECT user_id FROM pushes ORDER BY 1") == [(OWNER,), ("auth0|cy",)]
    with radio.engine.begin() as connection:
        connection.execute(text("DELETE FROM pushes"))
    radio.hears(play(1))
    radio.counts()
    assert radio.ask("SELECT user_id FROM pushes") == [], "a retry changed nothing, yet somebody is looked at"


_GOOD = json.loads(encode(play()))
BAD = {
    "nothing": b"null",
    "html": b"<html>",
    "truncated": encode(play())[:-9],
    "an array": b"[" + encode(play()) + b"]",
    "no UTF-8": encode(play(listener="auth0|bob")).replace(b"bob", b"\xff\xfe"),
    "deep": b'{"listener":' + b"[" * 100_000,
    "empty object": b"{}",
    "no listener": json.dumps({name: value for name, value in _GOOD.items() if name != "listener"}).encode(),
    "no play_id": json.dumps({name: value for name, value in _GOOD.items() if name != "play_id"}).encode(),
    "null owner": json.dumps(_GOOD | {"owner": None}).encode(),
    "owner a number": json.dumps(_GOOD | {"owner": 5}).encode(),
    "a machine listens": json.dumps(_GOOD | {"listener": "app@clients"}).encode(),
    "listener empty": json.dumps(_GOOD | {"listener": ""}).encode(),
    "listener with NUL": json.dumps(_GOOD | {"listener": "auth0|\0"}).encode(),
    "half a character": json.dumps(_GOOD | {"listener": "auth0|\ud800"}).encode(),
    "listener too long": json.dumps(_GOOD | {"listener": "auth0|" + "é" * 600}).encode(),
    "playlist as text": json.dumps(_GOOD | {"playlist_id": "1"}).encode(),
    "playlist 0": json.dumps(_GOOD | {"playlist_id": 0}).encode(),
    "playlist beyond bigint": json.dumps(_GOOD | {"playlist_id": 2**63}).encode(),
    "playlist a fraction": json.dumps(_GOOD | {"playlist_id": 1.5}).encode(),
    "play_id no UUID": json.dumps(_GOOD | {"play_id": "x" * 36}).encode(),
    "play_id a number": json.dumps(_GOOD | {"play_id": 1}).encode(),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_line_is_parked_with_its_bytes_and_its_neighbours_count(radio: Radio, name: str) -> None:
    radio.hears_bytes(encode(play(1)) + b"\n" + BAD[name] + b"\n" + encode(play(2)))
    radio.hears(play(3))
    assert radio.counts() == 2
    assert radio.sums() == {1: 3, 2: 0}
    [(source, position, reason, record)] = radio.ask("SELECT source, position, reason, record FROM parked")
    assert (source, position, bytes(record)) == ("plays", 1, BAD[name])
    assert "auth0" not in reason
    assert radio.ask("SELECT DISTINCT state FROM inbox") == [("done",)]


@pytest.mark.parametrize(
    "listener", ["oidc|a|b|c", 'auth0|o\'clock "%s" \\', "ad|🎵|é", "email|a@b.test", "x|" + "y" * 1000]
)
def test_ids_as_tenants_have_them_count(radio: Radio, listener: str) -> None:
    radio.hears(play(listener=listener))
    radio.counts()
    assert radio.sums() == {1: 1, 2: 0}
    assert radio.ask("SELECT listener FROM plays") == [(listener,)]


def test_a_delivery_counted_by_two_workers_counts_once(radio: Radio) -> None:  # the first one's lease ran out
    radio.hears(*(play(number) for number in range(6)))
    first = radio.claims(9, lease=timedelta(0))
    second = radio.claims(9)
    assert first[0].id == second[0].id
    radio.ends(second)
    radio.ends(first)
    assert radio.sums() == {1: 6, 2: 0}
    assert radio.ask("SELECT counted FROM play_days") == [(6,)]


def test_what_a_playlist_loses_to_a_deletion_meanwhile_is_dropped(radio: Radio) -> None:
    radio.hears(*(play(number) for number in range(3)))
    with radio.engine.connect() as deleting:
        deleting.execute(text("DELETE FROM playlists WHERE playlist_id = 1"))
        counting = threading.Thread(target=radio.counts)
        counting.start()
        _wait_until_blocked(radio)
        deleting.commit()
        counting.join()
    assert radio.ask("SELECT * FROM plays") == []
    assert radio.ask("SELECT * FROM play_days") == []
    assert radio.ask("SELECT value FROM counters WHERE name = 'plays_dropped'") == [(3,)]


def test_a_deletion_waits_for_a_count_under_way(radio: Radio) -> None:
    def delete() -> None:
        with radio.engine.begin() as connection:
            connection.execute(text("DELETE FROM playlists WHERE playlist_id = 1"))

    radio.hears(play())
    with radio.engine.connect() as counting:
        store.lock(counting, [1])
        deleting = threading.Thread(target=delete)
        deleting.start()
        _wait_until_blocked(radio)
        counting.rollback()
    deleting.join()


def test_many_workers_count_the_same_plays_exactly(engine: Engine) -> None:
    radio = Radio(engine, cap=5)
    radio.makes_playlists(*(f"auth0|owner{number}" for number in range(8)))
    plays = [
        play(number, f"auth0|{listener}", playlist, f"auth0|owner{playlist - 1}")
        for listener in range(10)
        for playlist in range(1, 9)
        for number in range(8)
    ]
    for turn in range(3):  # everything arrives three times, each time in another order
        order = random.Random(turn).sample(plays, len(plays))  # noqa: S311 the same orders each time
        for place in range(0, len(order), 16):
            radio.hears(*order[place : place + 16])

    def work() -> None:
        while claimed := radio.claims(7):
            radio.ends(claimed)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert radio.sums() == dict.fromkeys(range(1, 9), 10 * 5)
    assert radio.ask("SELECT count(*), count(*) FILTER (WHERE counted) FROM plays") == [(640, 400)]
    assert radio.ask("SELECT min(counted), max(counted), count(*) FROM play_days") == [(5, 5, 80)]
    assert radio.ask("SELECT DISTINCT state FROM inbox") == [("done",)]


def test_plays_of_a_deleted_playlist_are_cleaned_away(radio: Radio) -> None:
    radio.hears(play(1), play(2), play(3, playlist_id=2))
    radio.counts()
    with radio.engine.begin() as connection:
        connection.execute(text("DELETE FROM playlists WHERE playlist_id = 1"))
    clean_plays(radio.engine, go_on=lambda: True)
    assert radio.ask("SELECT playlist_id FROM plays") == [(2,)]


def test_cleaning_goes_on_where_a_batch_ends(radio: Radio) -> None:
    radio.makes_playlists(*[OWNER] * 8)
    radio.hears(*(play(number, playlist_id=place) for number in range(5) for place in range(1, 11)))
    radio.counts()
    with radio.engine.begin() as connection:
        connection.execute(text("DELETE FROM playlists WHERE playlist_id % 2 = 0"))
        after: int | None = 0
        found = []
        while after is not None:
            after, gone = store.gone(connection, after, playlists=3)
            found += gone
        assert found == [2, 4, 6, 8, 10]
        assert [store.clean(connection, found, rows=20) for _ in range(3)] == [20, 5, 0]
    assert radio.ask("SELECT count(*) FROM plays") == [(25,)]


def test_days_are_cleaned_once_nothing_can_count_against_them(radio: Radio) -> None:
    today = datetime.now(UTC)
    for days in range(4):
        radio.hears(play(days), at=today - timedelta(days=days))
    radio.counts()
    radio.hears(play(9), at=today - timedelta(days=2))  # waits
    assert _days_left(radio) == 4
    radio.counts()
    assert _days_left(radio) == 2


def _days_left(radio: Radio) -> int:
    with radio.engine.begin() as connection:
        store.clean_days(connection)
    return int(radio.ask("SELECT count(*) FROM play_days")[0][0])


def _wait_until_blocked(radio: Radio) -> None:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    while radio.ask(waiting) != [(1,)]:
        time.sleep(0.01)
