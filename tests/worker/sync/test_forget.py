"""One person is erased from everything and stays so (docs/protocol.md P14), on a real database, with a tenant to ask."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Engine, event as events, text

from tests.worker.sync.forgetting import (
    ADA,
    ALIAS,
    BOB,
    LOOKALIKES,
    SOURCES,
    TOLERANCES,
    Copy,
    a_whole_life,
    alive,
    event,
    everywhere_but,
    profile,
    record,
)
from tests.worker.sync.radio import play
from worker.domain.users import on_search, on_strong
from worker.queue.plays import encode
from worker.store import users
from worker.store.forgotten import among
from worker.store.users import Claim
from worker.sync import backfill, lines
from worker.sync.answers import apply
from worker.sync.forget import Forget, StillThere, Unfinished


@pytest.fixture
def copy(engine: Engine) -> Copy:
    return Copy(engine)


def others(copy: Copy) -> dict[str, Any]:
    """What is kept of everybody else, and the sums."""
    return {
        "users": copy.sql(
            "SELECT user_id, profile, deleted_at FROM users WHERE NOT user_id = ANY(:ids) ORDER BY 1", ids=[ADA, ALIAS]
        ),
        "playlists": copy.sql("SELECT name, plays FROM playlists WHERE user_id = :b", b=BOB),
        "songs": copy.sql("SELECT songname FROM songs WHERE user_id = :b", b=BOB),
        "in playlists": copy.sql("SELECT * FROM playlist_songs WHERE playlist_id = 1"),
        "plays": copy.sql("SELECT count(*) FILTER (WHERE counted), count(*) FROM plays WHERE playlist_id = 1"),
        "theirs": copy.sql(
            "SELECT listener FROM plays WHERE NOT listener = ANY(:ids) AND listener <> '' ORDER BY 1", ids=[ADA, ALIAS]
        ),
        "tables": [
            copy.sql(f"SELECT user_id FROM {table} WHERE user_id = :b", b=BOB)  # noqa: S608
            for table in ("user_data", "wishes", "pushed", "sessions", "exported", "suspects")
        ],
    }


def test_nothing_is_left_of_a_person_and_everything_of_the_others(copy: Copy) -> None:
    a_whole_life(copy)
    assert everywhere_but(copy) == set(), "the test has nothing of her in these tables"
    del copy.auth0[ADA]
    before = others(copy)
    gone = copy.forget()
    assert copy.left() == {}
    assert others(copy) == before
    assert gone["plays_made_anonymous"] == 4
    assert copy.sql("SELECT count(*) FROM plays WHERE listener = ''") == [(4,)]
    for number, kept in (("2", 1), ("4", 1), ("5", 1), ("8", 1), ("13", 1), ("17", 1)):
        said = b"\n".join(copy.bodies("logs") + copy.bodies("pulled"))
        assert said.count(b'"log_id": "%s"' % number.encode()) == 2 * kept, (
            f"record {number} of somebody else's is gone"
        )
    assert copy.sql(
        "SELECT convert_from(record, 'UTF8') LIKE '%' || :other || '%' FROM parked", other=LOOKALIKES[0]
    ) == [(True,)]


def test_what_is_left_of_a_delivery_can_be_drained_again(copy: Copy) -> None:
    a_whole_life(copy)
    del copy.auth0[ADA]
    copy.forget()
    copy.sql("DELETE FROM parked")
    copy.sql("UPDATE inbox SET state = 'pending', attempts = 0")
    copy.drain()
    assert copy.sql("SELECT count(*) FROM inbox WHERE state <> 'done'") == [(0,)]
    assert copy.sql("SELECT count(*) FROM parked") == [(0,)]


@pytest.mark.parametrize("named", [ADA, ALIAS], ids=["by the primary", "by a linked id"])
@pytest.mark.parametrize("told", [False, True], ids=["live here", "a tombstone by now"])
def test_a_whole_person_is_forgotten_not_an_identity(copy: Copy, named: str, told: bool) -> None:
    a_whole_life(copy)
    del copy.auth0[ADA]
    if told:
        copy.news(ADA, strong=True, deletion_announced=True)
        copy.refresh()
        assert copy.sql("SELECT linked_ids FROM users WHERE user_id = :a AND deleted_at IS NOT NULL", a=ADA) == [
            (None,)
        ]
    copy.forget(named)
    assert copy.left() == {}
    assert copy.sql("SELECT count(*) FROM forgotten") == [(2,)]


def test_an_identity_that_stands_alone_again_is_nobody_elses(copy: Copy) -> None:
    alive(copy, ADA, ALIAS)
    copy.auth0.clear()
    copy.news(ADA, strong=True, deletion_announced=True)
    copy.refresh()
    alive(copy, ALIAS)
    copy.forget(ADA)
    assert copy.sql("SELECT user_id, deleted_at FROM users") == [(ALIAS, None)]


def test_no_tombstone_remembers_an_identity_that_stood_alone_again(copy: Copy) -> None:
    alive(copy, ADA, ALIAS)
    copy.auth0.clear()
    copy.news(ADA, strong=True, deletion_announced=True)
    copy.refresh()
    alive(copy, ALIAS)
    copy.auth0.clear()
    copy.forget(ALIAS)
    assert copy.left("507f1f77bcf86cd799439011") == {}
    assert copy.sql("SELECT user_id, former_ids FROM users") == [(ADA, None)]


def test_it_refuses_while_auth0_has_them_and_has_them_looked_at(copy: Copy) -> None:
    a_whole_life(copy)
    before = copy.left()
    with pytest.raises(StillThere, match="--keep-out"):
        copy.forget()
    assert copy.left() == before
    assert copy.sql("SELECT count(*) FROM forgotten") == [(0,)]
    assert copy.sql("SELECT strong FROM news WHERE user_id = :a", a=ADA) == [(True,)]


def test_who_comes_back_between_the_hash_and_the_read_is_known_again(copy: Copy) -> None:
    a_whole_life(copy)
    before = {table: len(hits) for table, hits in copy.left().items()}
    answers = iter([None, None, None, copy.auth0[ADA]])  # of both ids, twice
    with pytest.raises(StillThere):
        copy.forget(read=lambda _: next(answers))
    assert copy.sql("SELECT count(*) FROM forgotten") == [(0,)]
    assert {table: len(hits) for table, hits in copy.left().items()} == before
    assert copy.sql("SELECT strong FROM news WHERE user_id = :a", a=ADA) == [(True,)]


def test_who_is_kept_out_goes_though_auth0_has_them_and_never_comes_back(copy: Copy) -> None:
    a_whole_life(copy)
    copy.forget(keep_out=True)
    assert copy.reads == []
    assert copy.left() == {}
    for _ in range(2):
        copy.put("logs", record(ADA, "20", date="2026-11-28T10:00:00.000Z"), record(BOB, "21"))
        copy.put("events", event(copy.auth0[ADA]))
        copy.drain()
        assert copy.left() == {}
        copy.news(ADA, ALIAS, strong=True)
        copy.refresh()
    assert copy.left() == {}
    copy.forget()  # kept out is kept out: no refusal
    assert copy.sql("SELECT DISTINCT keep_out FROM forgotten") == [(True,)]


# Afterwards


@pytest.fixture
def afterwards(copy: Copy) -> Copy:
    """She was forgotten, and is not in the tenant."""
    alive(copy, BOB)
    alive(copy, ADA, ALIAS)
    del copy.auth0[ADA]
    copy.forget()
    assert copy.left() == {}
    return copy


def test_late_news_makes_a_bare_row_whose_404_erases_it(afterwards: Copy) -> None:
    copy = afterwards
    copy.put("logs", record(ADA, "1"), record(BOB, "2"))
    copy.drain()
    assert copy.left() == {"users": ["ada7mark"], "news": ["ada7mark"]}
    assert copy.sql("SELECT profile, synced_at FROM users WHERE user_id = :a", a=ADA) == [(None, None)]
    copy.refresh()
    assert copy.left() == {}


def test_news_that_comes_while_the_row_is_read_is_asked_about_too(afterwards: Copy) -> None:
    copy = afterwards
    copy.news(ADA)
    with copy.engine.begin() as connection:
        claims = users.claim(connection, "any", rows=9, lease=timedelta(0))
    copy.news(ADA)
    apply(copy.engine, [(claims[0], None)], on_strong, settle=None)
    assert copy.sql("SELECT count(*) FROM news WHERE user_id = :a", a=ADA) == [(1,)]
    copy.refresh()
    assert copy.left() == {}


def read_now(copy: Copy, user_id: str = ADA) -> Claim:
    """Begin a read."""
    with copy.engine.begin() as connection:
        found = users.claim_one(connection, user_id, lease=timedelta(0))
    assert found is not None
    return found


def is_forgotten(copy: Copy, user_id: str = ADA) -> bool:
    with copy.engine.connect() as connection:
        return user_id in among(connection, [user_id])


def test_who_signs_up_again_is_known_again_by_a_strong_read(afterwards: Copy) -> None:
    copy = afterwards
    copy.auth0[ADA] = profile(ADA, name="Ada")
    copy.put("logs", record(ADA))
    copy.drain()
    copy.refresh()
    assert copy.sql("SELECT name FROM live_users WHERE user_id = :a", a=ADA) == [("Ada",)]
    assert not is_forgotten(copy)


def test_a_read_that_began_before_the_hash_lifts_nothing_and_writes_nothing(copy: Copy) -> None:
    copy.news(ADA)  # a bare row, as the news after it makes another: their versions are equal
    early = read_now(copy)
    copy.forget()
    copy.news(ADA)
    apply(copy.engine, [(early, profile(ADA, name="Ada"))], on_strong, settle=None)
    assert is_forgotten(copy)
    assert copy.sql("SELECT profile, synced_at FROM users WHERE user_id = :a", a=ADA) == [(None, None)]
    assert copy.sql("SELECT strong FROM news WHERE user_id = :a", a=ADA) == [(True,)]


def test_a_search_an_event_and_an_export_only_ask(afterwards: Copy) -> None:
    copy = afterwards
    said = profile(ADA, ALIAS, name="Ada", updated_at=(datetime.now(UTC) + timedelta(hours=1)).isoformat())

    def asked() -> None:
        rows = copy.sql(
            "SELECT user_id, profile, synced_at, strong FROM users JOIN news USING (user_id) WHERE user_id <> :b", b=BOB
        )
        assert rows == [(ADA, None, None, True)]
        assert is_forgotten(copy)
        copy.refresh()
        assert copy.left() == {}

    copy.news(ADA)
    apply(copy.engine, [(read_now(copy), said)], partial(on_search, tolerances=TOLERANCES), settle=None)
    asked()
    copy.put("events", event(said))
    copy.drain()
    asked()
    backfill.load(copy.engine, lines.read([json.dumps(said).encode()]), None, TOLERANCES, datetime.now(UTC))
    asked()
    copy.news(ADA)
    backfill.load(copy.engine, lines.read([json.dumps(said).encode()]), None, TOLERANCES, datetime.now(UTC))
    asked()


def test_nothing_of_an_export_brings_in_who_is_kept_out(copy: Copy) -> None:
    copy.forget(keep_out=True)
    told = lines.read([json.dumps(one).encode() for one in (profile(ADA, ALIAS), profile(BOB))])
    backfill.load(copy.engine, told, None, TOLERANCES, datetime.now(UTC))
    assert copy.sql("SELECT user_id FROM users ORDER BY 1") == [(BOB,)]


def test_drain_cuts_their_records_from_every_source_before_it_is_done(afterwards: Copy) -> None:
    copy = afterwards
    copy.put("logs", record(ADA, "1"), record(BOB, "2"), record(ADA, "3", type="s", date="no date"))
    copy.put(
        "logs",
        body=json.dumps(record(ADA, "4")).encode()
        + b"\n"
        + b'{"log_id":"5","data":{"type":7,"user_id":"%s"}}' % ALIAS.encode(),
    )
    copy.put("pulled", record(ADA, "6"), record(BOB, "7"))
    copy.put("events", event(profile(ADA, ALIAS)), event(profile(BOB, updated_at="2026-11-21T10:00:00.000Z")))
    copy.put("plays", body=play_line(ADA) + b"\n" + play_line(BOB))
    copy.put("plays", body=b'{"listener": "%s"}' % ADA.encode())  # no play at all
    copy.drain()
    copy.refresh()
    assert copy.left() == {}
    assert [b"auth0|bob" in body for body in copy.bodies("logs")] == [True, False]
    assert copy.sql("SELECT count(*) FROM parked") == [(0,)]
    assert copy.sql("SELECT DISTINCT state FROM inbox") == [("done",)]


def test_a_delivery_that_cannot_be_read_is_not_kept_with_them_in_it(afterwards: Copy) -> None:
    copy = afterwards
    copy.put("logs", record(ADA, "1"))
    copy.sql("UPDATE inbox SET attempts = 4 WHERE state = 'pending'")
    copy.drain()
    assert copy.left() == {}
    assert copy.sql("SELECT state, length(body) FROM inbox WHERE state = 'parked'") == [("parked", 0)]
    assert copy.sql("SELECT name FROM conditions") == [("reconcile_wanted",)]


def test_their_late_plays_count_once_as_nobodys(copy: Copy) -> None:
    copy.sql("INSERT INTO playlists (user_id, name) VALUES (:b, 'his')", b=BOB)
    copy.put("plays", body=play_line(ADA, 1))
    copy.drain()
    copy.forget()
    copy.put("plays", body=play_line(ADA, 1) + b"\n" + play_line(ADA, 2))
    copy.drain()
    assert copy.sql("SELECT plays FROM playlists") == [(2,)]
    assert copy.sql("SELECT listener, counted FROM plays") == [("", True)] * 2
    assert copy.left() == {}


# What was under way


def test_what_is_pending_is_drained_and_cut_by_itself(copy: Copy) -> None:
    copy.put("logs", record(ADA, "1"), record(BOB, "2"))
    copy.forget()
    assert copy.left() == {}
    assert copy.sql("SELECT state FROM inbox") == [("done",)]
    assert copy.sql("SELECT user_id FROM news") == [(BOB,)]


def test_a_transaction_that_began_before_is_waited_for(copy: Copy, engine: Engine) -> None:
    """It looked before the hash was there, and writes after."""
    alive(copy, BOB)
    looked, go_on = threading.Event(), threading.Event()

    def draw() -> None:
        with engine.begin() as connection:
            connection.execute(text("SELECT count(*) FROM forgotten"))
            looked.set()
            go_on.wait(20)
            connection.execute(text("INSERT INTO users (user_id, profile) VALUES (:a, '{}')"), {"a": ADA})

    other = threading.Thread(target=draw)
    other.start()
    looked.wait(20)

    def say(sentence: str) -> None:
        copy.said.append(sentence)
        go_on.set()

    Forget(engine, copy.read, (), b"key", say).run(ADA)
    other.join()
    assert copy.said == ["waiting for 1 transactions that began before to end"]
    assert copy.left() == {}


@pytest.mark.parametrize(
    "lease",
    [
        "UPDATE news SET leased_until = now() + interval '1 min' WHERE user_id = :a",
        "INSERT INTO pushes (user_id, leased_until) VALUES (:a, now() + interval '1 min')",
        "INSERT INTO inbox (source, size, body, claimed_until) VALUES ('logs', 2, '[]', now() + interval '1 min')",
    ],
    ids=["a reader's", "a pusher's", "a drain's"],
)
def test_a_lease_is_waited_for(copy: Copy, lease: str) -> None:
    copy.news(ADA)
    copy.sql(lease, a=ADA) if ":a" in lease else copy.sql(lease)

    def end(_seconds: float) -> None:
        assert copy.left()["users"], "erased before its end"
        copy.sql("UPDATE news SET leased_until = NULL")
        copy.sql("UPDATE pushes SET leased_until = NULL")
        copy.sql("UPDATE inbox SET state = 'done', claimed_until = NULL")

    copy.forget(sleep=end)
    assert copy.said == ["waiting for 1 leases that were taken before to end"]
    assert copy.left() == {}


def test_it_says_what_has_not_ended_and_goes_on_when_run_again(copy: Copy) -> None:
    copy.news(ADA)
    copy.sql("UPDATE news SET leased_until = now() + interval '1 min'")
    with pytest.raises(Unfinished, match="1 leases that were taken before have not ended within 1 s"):
        copy.forget(patience=1, sleep=lambda _: None)
    copy.put("logs", record(BOB))
    copy.sql("UPDATE news SET leased_until = NULL")
    copy.sql("UPDATE inbox SET claimed_until = now() + interval '1 min'")
    with pytest.raises(Unfinished, match="leases that were taken before"):
        copy.forget(patience=1, sleep=lambda _: None)
    copy.sql("UPDATE inbox SET claimed_until = NULL")
    copy.forget()
    assert copy.left() == {}


def test_what_moves_between_the_read_and_the_erasure_is_read_again(copy: Copy) -> None:
    copy.news(ADA)
    answers: list[Any] = []

    def read(user_id: str) -> None:
        answers.append(user_id)
        if len(answers) == 2:  # after the hash: somebody tells of her, perhaps that she is back
            copy.news(ADA)

    copy.forget(read=read)
    assert len(answers) == 4  # before the hash, the one that was overtaken, the one that stood, the last
    assert copy.left() == {}


def test_a_read_that_began_before_somebody_else_forgot_them_takes_nothing_back(copy: Copy) -> None:
    alive(copy, ADA, ALIAS)

    def read(user_id: str) -> Any:
        found = copy.read(user_id)
        if found is not None:
            copy.auth0.clear()
            copy.forget()
        return found

    with pytest.raises(StillThere):
        copy.forget(read=read)
    assert copy.sql("SELECT count(*) FROM forgotten") == [(2,)]
    copy.refresh()
    assert copy.left() == {}


def test_who_is_linked_meanwhile_is_there_as_somebody_else(copy: Copy) -> None:
    """What looks like a deletion was a link: the person lives, under another id."""
    alive(copy, ALIAS)
    copy.put("logs", record(ALIAS))
    copy.drain()
    copy.sql("INSERT INTO songs (user_id, songname) VALUES (:alias, 'y')", alias=ALIAS)
    looks = iter(range(100))

    def read(user_id: str) -> Any:
        if next(looks) == 0:
            copy.auth0.clear()
            alive(copy, ADA, ALIAS)
        return copy.read(user_id)

    with pytest.raises(StillThere):
        copy.forget(ALIAS, read=read)
    assert copy.sql("SELECT songname FROM songs") == [("y",)]
    assert copy.sql("SELECT count(*) FROM forgotten") == [(0,)]


def test_who_is_kept_out_and_linked_meanwhile_is_kept_out_whole(copy: Copy) -> None:
    alive(copy, ALIAS)
    alive(copy, ADA)
    copy.put("logs", record(ADA))
    copy.drain()
    copy.refresh()

    class Overtaken(Forget):
        def _erase(self, ids: Sequence[str], *, keep_out: bool) -> Counter[str] | None:
            gone = super()._erase(ids, keep_out=keep_out)
            if copy.auth0.pop(ALIAS, None):
                alive(copy, ADA, ALIAS)
            return gone

    Overtaken(copy.engine, copy.read, SOURCES, b"key").run(ALIAS, keep_out=True)
    assert copy.left() == {}
    assert copy.sql("SELECT count(*), bool_and(keep_out) FROM forgotten") == [(2, True)]


def test_what_others_wrote_of_what_they_had_read_is_found_too(copy: Copy, engine: Engine) -> None:
    """Between the hash and the erasure they read her row; what they write of it they commit after."""
    alive(copy, ADA)
    del copy.auth0[ADA]
    looks = iter(range(100))
    with engine.connect() as slow:

        def read(_user_id: str) -> None:
            if next(looks) == 1:  # the hash stands, her row too
                slow.execute(text("SELECT FROM users"))

        def finish(_sentence: str = "") -> None:
            if slow.in_transaction():
                slow.execute(text("INSERT INTO sweep (position) VALUES (:a)"), {"a": ADA})
                slow.commit()

        loop = copy.forgetting(read=read)
        loop.say = finish
        loop.run(ADA)
        finish()
    assert copy.left() == {}


def test_who_is_found_again_by_another_reader_is_not_erased(copy: Copy) -> None:
    a_whole_life(copy)
    del copy.auth0[ADA]
    looks = iter(range(100))

    def read(_user_id: str) -> None:
        if next(looks) == 3:
            copy.auth0[ADA] = profile(ADA, name="back")
            copy.news(ADA)
            copy.refresh()

    with pytest.raises(StillThere, match="again"):
        copy.forget(read=read)
    assert copy.sql("SELECT name FROM users WHERE user_id = :a", a=ADA) == [("back",)]
    assert copy.sql("SELECT songname FROM songs WHERE user_id = :a", a=ADA) == [("x",)]


def play_line(listener: str, number: int = 1) -> bytes:
    return encode(play(number, listener, 1, BOB))


# Killed anywhere


class Killed(BaseException):
    """As SIGKILL does: nothing after it runs, and what was not committed is gone."""


def test_killed_at_any_statement_and_run_again_it_ends_the_same(copy: Copy, engine: Engine) -> None:
    statements = 0
    die_at = 0

    def count(*_: Any) -> None:
        nonlocal statements
        statements += 1
        if statements == die_at:
            raise Killed

    def outcome() -> list[Any]:
        return [copy.left(), others(copy), copy.sql("SELECT count(*), bool_or(keep_out) FROM forgotten")]

    wanted: list[Any] = []
    deaths = 0
    while True:
        live_again(copy)
        die_at = deaths * STEP + 1 if wanted else 0
        statements = 0
        events.listen(engine, "before_cursor_execute", count)
        try:
            copy.forget()
        except Killed:
            killed = True
        else:
            killed = False
        finally:
            events.remove(engine, "before_cursor_execute", count)
        if killed:  # the workers go on
            copy.sql("UPDATE inbox SET claimed_until = NULL")
            copy.drain()
            copy.refresh()
            copy.forget()
        if not wanted:
            wanted = outcome()
            assert wanted[0] == {}
            continue
        assert outcome() == wanted, f"killed at statement {die_at}"
        deaths += 1
        if not killed:
            break
    assert deaths > 12


# Every so many statements: each death begins with a whole life.
STEP = 6


def live_again(copy: Copy) -> None:
    copy.sql(
        "TRUNCATE users, news, inbox, parked, counters, conditions, user_data, songs, playlists, playlist_songs, plays, play_days, "
        "wishes, pushes, pushed, sessions, sweep, exported, suspects, forgotten RESTART IDENTITY"
    )
    copy.auth0.clear()
    a_whole_life(copy)
    copy.put("logs", record(ADA, "30"), record(BOB, "31"))
    del copy.auth0[ADA]
