"""Sources take turns: a heap of one holds up nobody's next batch, nor does one that fails (docs/protocol.md P22)."""

import pytest
from sqlalchemy import Engine, text

from tests.worker.sync.radio import OWNER, Radio, play
from worker.queue.plays import encode
from worker.sync.count import Plays
from worker.sync.drain import BATCH_ROWS, Writer, take_turns
from worker.sync.learn import LogRecords

SOURCES = (Plays(10), LogRecords())


@pytest.fixture
def radio(engine: Engine) -> Radio:
    radio = Radio(engine)
    radio.makes_playlists(OWNER)
    return radio


def resume_stream(engine: Engine, deliveries: int) -> None:
    """Put a week of log records into the inbox."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO inbox (source, encoding, size, body) SELECT 'logs', 'identity', 2, '[]' FROM generate_series(1, :n)"
            ),
            {"n": deliveries},
        )


def waiting(radio: Radio) -> dict[str, int]:
    return dict(radio.ask("SELECT source, count(*) FROM inbox WHERE state = 'pending' GROUP BY source"))


def test_plays_do_not_wait_behind_a_heap_of_log_records(engine: Engine, radio: Radio) -> None:
    resume_stream(engine, BATCH_ROWS + 1)
    radio.hears(play())
    rounds = iter([True, False])
    rung: list[str] = []
    take_turns(engine, SOURCES, go_on=lambda: next(rounds), ring=rung.append)
    assert waiting(radio) == {"logs": 1}
    assert radio.sums() == {1: 1}
    assert rung == sorted({source.rings for source in SOURCES})


def test_plays_that_come_while_records_are_drained_have_the_next_turn(engine: Engine, radio: Radio) -> None:
    resume_stream(engine, 2 * BATCH_ROWS + 1)
    rounds = iter([True, True, False])

    def go_on() -> bool:
        on = next(rounds)
        if on and waiting(radio)["logs"] <= BATCH_ROWS + 1:
            radio.hears(play())
        return on

    take_turns(engine, SOURCES, go_on=go_on, ring=lambda _: None)
    assert waiting(radio) == {"logs": 1}
    assert radio.sums() == {1: 1}


class Broken(Plays):
    """A source with a bug."""

    def prepare(self, *_: object) -> Writer:
        """Raise what nobody foresaw."""
        raise ZeroDivisionError


def test_a_source_that_fails_ends_its_own_turns_and_no_others(engine: Engine, radio: Radio) -> None:
    resume_stream(engine, BATCH_ROWS + 1)
    radio.hears(play())
    rung: list[str] = []
    with pytest.raises(ZeroDivisionError):
        take_turns(engine, (Broken(10), LogRecords()), go_on=lambda: True, ring=rung.append)
    assert waiting(radio) == {"plays": 1}
    assert rung == ["refresh"]


def test_it_ends_when_nothing_is_pending(engine: Engine, radio: Radio) -> None:
    radio.hears(play())
    take_turns(engine, SOURCES, go_on=lambda: True, ring=lambda _: None)
    assert waiting(radio) == {}


def test_plays_that_come_meanwhile_are_left_to_grow(radio: Radio) -> None:
    radio.hears(play(1))
    rounds: list[int] = []

    def go_on() -> bool:
        if rounds:
            radio.hears(play(2))
        rounds.append(1)
        return True

    take_turns(radio.engine, SOURCES[:1], go_on=go_on, ring=lambda _: None)
    assert rounds == [1]
    assert radio.sums() == {1: 1}


def test_more_plays_than_a_batch_holds_are_counted_in_one_run(radio: Radio) -> None:
    bodies = [encode(play(number, f"auth0|{number}")) for number in range(2 * BATCH_ROWS + 1)]
    with radio.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO inbox (source, encoding, size, body) "
                "SELECT 'plays', 'identity', octet_length(body), body FROM unnest(CAST(:bodies AS bytea[])) AS body"
            ),
            {"bodies": bodies},
        )
    take_turns(radio.engine, SOURCES[:1], go_on=lambda: True, ring=lambda _: None)
    assert radio.sums() == {1: 2 * BATCH_ROWS + 1}


def test_what_is_drained_last_has_its_turn_though_new_plays_keep_coming(radio: Radio) -> None:  # P21
    for number in (1, 2):
        radio.hears(play(number))
    with radio.engine.begin() as connection:
        connection.execute(text("UPDATE inbox SET attempts = 3"))
    radio.hears(play(3))
    take_turns(radio.engine, SOURCES[:1], go_on=lambda: True, ring=lambda _: None)
    assert radio.sums() == {1: 3}
