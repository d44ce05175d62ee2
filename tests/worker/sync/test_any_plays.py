"""Any order, repetition and batching of plays, spread over two workers that die and come back late, adds up to the same sums (P25)."""

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from sqlalchemy import Engine, text

from tests.worker.sync.radio import NOON, OWNER, Radio, play
from worker.queue.plays import Play
from worker.store.inbox import Claimed
from worker.sync.drain import Delivery

CAP = 3
LISTENERS = ("auth0|bob", "auth0|cy", OWNER)
# One more than there are: plays of playlist 3 are dropped.
PLAYLISTS = (1, 2, 3)

PLAYS = st.builds(
    lambda listener, playlist, number: play(number, listener, playlist),
    st.sampled_from(LISTENERS),
    st.sampled_from(PLAYLISTS),
    st.integers(0, 9),
)
# How a claim goes: it is counted; or its worker dies before the commit; or its lease runs out, another worker counts
# the same, and the first one comes back.
FATES = st.sampled_from(["counted", "counted", "died", "late"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("hear"), st.lists(PLAYS, min_size=1, max_size=8)),
        st.tuples(st.just("again"), st.integers(0, 20)),
        st.tuples(st.just("claim"), st.tuples(st.integers(1, 3), FATES)),
        st.tuples(st.just("end"), st.integers(0, 3)),
    ),
    max_size=25,
)


def day(one: Play) -> int:
    """A play arrives on one day, today or tomorrow: only a retry across midnight may change the sums, and there is none."""
    return one.play_id.int % 2


class Died(Exception):
    """The worker is gone; PostgreSQL rolls back what it had not committed."""


class World:
    """What was heard, and the claims of both workers."""

    def __init__(self, engine: Engine) -> None:
        self.radio = Radio(engine, CAP)
        self.radio.makes_playlists(OWNER, OWNER)
        self.heard: list[Play] = []
        self.claimed: list[tuple[list[Claimed], str]] = []

    def step(self, step: str, how: Any) -> None:
        if step == "hear":
            self.hear(how)
        elif step == "again" and self.heard:
            self.hear([self.heard[how % len(self.heard)]])
        elif step == "claim":
            rows, fate = how
            if self.radio.ask("SELECT FROM inbox WHERE state = 'pending' AND attempts > 2"):
                return  # how often a body may be tried is P21's
            lease = timedelta(0) if fate == "late" else timedelta(minutes=1)
            self.claimed.append((self.radio.claims(rows, lease=lease), fate))
        elif step == "end" and self.claimed:
            self.end(*self.claimed.pop(how % len(self.claimed)))

    def hear(self, plays: Sequence[Play]) -> None:
        self.heard += plays
        for number in (0, 1):
            together = [one for one in plays if day(one) == number]
            if together:
                self.radio.hears(*together, at=NOON + timedelta(days=number))

    def end(self, claimed: list[Claimed], fate: str) -> None:
        if fate != "died":
            self.radio.ends(claimed)
            return
        deliveries = [Delivery(one, *self.radio.source.decode(one.content())) for one in claimed]
        with pytest.raises(Died):
            self.radio.source.prepare(deliveries, NOON)(self.radio.engine, die)
        with self.radio.engine.begin() as connection:  # its lease runs out
            connection.execute(text("UPDATE inbox SET claimed_until = NULL, attempts = 0 WHERE state = 'pending'"))

    def run_dry(self) -> None:
        while self.claimed:
            self.end(*self.claimed.pop())
        with self.radio.engine.begin() as connection:
            connection.execute(text("UPDATE inbox SET claimed_until = NULL, attempts = 0 WHERE state = 'pending'"))
        self.radio.counts()

    def right(self) -> Mapping[int, int]:
        """Return the sums that the plays add up to, told apart by what P25 says and nothing else."""
        different: dict[tuple[int, str, int], set[int]] = defaultdict(set)
        for one in self.heard:
            if one.listener != OWNER:
                different[one.playlist_id, one.listener, day(one)].add(one.play_id.int)
        sums = dict.fromkeys((1, 2), 0)
        for (playlist, _, _), numbers in different.items():
            if playlist in sums:
                sums[playlist] += min(CAP, len(numbers))
        return sums


def die(*_: object) -> None:
    """End a batch as SIGKILL does."""
    raise Died


@settings(
    max_examples=int(os.environ.get("EXAMPLES", "100")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(steps=STEPS)
def test_any_schedule_adds_up_to_the_same_sums(engine: Engine, steps: list[Any]) -> None:
    with engine.begin() as connection:
        connection.execute(
            text(
                "TRUNCATE inbox, parked, counters, playlists, playlist_songs, plays, play_days, pushes RESTART IDENTITY"
            )
        )
    world = World(engine)
    for step, how in steps:
        world.step(step, how)
    world.run_dry()
    assert world.radio.sums() == world.right()
    kept = {(one.playlist_id, one.listener, one.play_id) for one in world.heard if one.playlist_id != 3}
    assert set(world.radio.ask("SELECT playlist_id, listener, play_id FROM plays")) == kept
    assert world.radio.ask("SELECT coalesce(sum(counted), 0) FROM play_days") == [(sum(world.right().values()),)]
    assert world.radio.ask("SELECT count(*) FROM inbox WHERE state <> 'done'") == [(0,)]
