"""Any order, any repetition, any batching of the same history ends in the tenant's own state, on a real database.

A model tenant lives: people log in, change, are deleted, come back, are linked and unlinked, several acts in one
millisecond. Its log records are dated seconds off; they and its events arrive in any order, some twice, in any batches,
or only one of the two feeds is connected at all. Reads begin and end whenever they like: strong ones answer with the state of some moment in between, searches with one up to a minute
old; leases run out, holders come back late; some are forgotten meanwhile, if the tenant does not have them, or are kept
out though it has (P14). In the end everything is delivered and the loops run dry.
"""

import contextlib
import copy
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, Phase, given, settings, strategies as st
from sqlalchemy import Engine, text

from tests.worker.sync.model import Tenant
from worker.domain.mentions import Mentions
from worker.domain.users import Tolerances, canonical, on_search, on_strong
from worker.store import forgotten, inbox, schema, users
from worker.store.users import Claim
from worker.sync.answers import apply
from worker.sync.cutting import content_of
from worker.sync.drain import Source, drain
from worker.sync.forget import Forget, StillThere
from worker.sync.learn import LogRecords
from worker.sync.snapshots import EventStream

SKEW, SETTLE, LEASE = 5.0, 60.0, 30.0
TOLERANCES = Tolerances(timedelta(seconds=SKEW), timedelta(seconds=SETTLE))
PEOPLE = ("auth0|ada", "auth0|bob", "sms|1")
SOURCES: tuple[Source[Any], ...] = (LogRecords(), EventStream(TOLERANCES))


@dataclass
class Reading:
    """A read under way: what it will answer is settled when it ends, from a moment after it began."""

    claim: Claim
    strong: bool
    began: float


class World:
    """The tenant, the post on its way, the copy and its readers."""

    def __init__(self, engine: Engine, feeds: str = "logs") -> None:
        self.engine = engine
        self.tenant = Tenant()
        self.feeds = feeds
        self.delivered = 0
        self.told = 0
        self.reading: list[Reading] = []

    def pass_time(self, seconds: float) -> None:
        """Let both clocks move on; ours by moving all that was noted into the past."""
        self.tenant.now += seconds
        passed = timedelta(seconds=seconds)
        with self.engine.begin() as connection:
            connection.execute(
                text(
                    "UPDATE news SET first_at = first_at - :d, last_at = last_at - :d, due_at = due_at - :d, leased_until = leased_until - :d"
                ),
                {"d": passed},
            )
            connection.execute(text("UPDATE forgotten SET forgotten_at = forgotten_at - :d"), {"d": passed})
        for one in self.reading:
            one.claim = replace(one.claim, read=replace(one.claim.read, began_at=one.claim.read.began_at - passed))

    def deliver(self, records: list[dict[str, Any]]) -> None:
        """Put log records into the inbox, in one delivery."""
        if records and "logs" in self.feeds:
            self._put("logs", records)

    def tell(self, events: list[dict[str, Any]]) -> None:
        """Put events into the inbox, each in a delivery of its own."""
        for event in events:
            if "events" in self.feeds:
                self._put("events", event)

    def drain(self) -> None:
        for source in SOURCES:
            drain(self.engine, source, go_on=lambda: True)

    def forget(self, user_id: str, keep_out: bool) -> None:
        """Erase somebody, unless the tenant has them; whoever is reading them meanwhile is waited for."""
        loop = Forget(
            self.engine,
            self.tenant.users.get,
            SOURCES,
            b"key",
            sleep=lambda _: self.pass_time(LEASE + 1),
            patience=3600,
        )
        with contextlib.suppress(StillThere):
            loop.run(user_id, keep_out=keep_out)

    def _put(self, source: str, content: object) -> None:
        body = json.dumps(content).encode()
        with self.engine.begin() as connection:
            connection.execute(
                text("INSERT INTO inbox (source, size, body) VALUES (:source, :size, :body)"),
                {"source": source, "size": len(body), "body": zstandard.compress(body)},
            )

    def begin_read(self, *, strong: bool, lease: float = LEASE) -> None:
        with self.engine.begin() as connection:
            claims = users.claim(connection, "any", rows=2, lease=timedelta(seconds=lease))
            never_searched = set(
                connection.scalars(
                    text("SELECT user_id FROM news JOIN users USING (user_id) WHERE strong OR deleted_at IS NOT NULL")
                )
            )
        self.reading += [Reading(claim, strong or claim.user_id in never_searched, self.tenant.now) for claim in claims]

    def end_read(self, place: int, back: float) -> None:
        """Answer a read: a strong one from a moment since it began, a search from one up to a minute before it ends."""
        if not self.reading:
            return
        one = self.reading.pop(place % len(self.reading))
        if one.strong:
            moment = one.began + (self.tenant.now - one.began) * back
            answer = self.tenant.at(moment).get(one.claim.user_id)
            apply(self.engine, [(one.claim, copy.deepcopy(answer))], on_strong, settle=None)
        else:
            # The index lags less than SETTLE behind the moment the search began.
            moment = max(0.0, one.began - (SETTLE - 1) * back)
            answer = self.tenant.at(moment).get(one.claim.user_id)
            rule = partial(on_search, tolerances=TOLERANCES)
            apply(self.engine, [(one.claim, copy.deepcopy(answer))], rule, settle=TOLERANCES.search_settle)

    def run_dry(self, backs: list[float]) -> None:
        """Deliver what is left, then read until no mark is left."""
        self.deliver(self.tenant.records[self.delivered :])
        self.tell(self.tenant.events[self.told :])
        self.drain()
        for round_ in range(60):
            self.pass_time(SETTLE + 1)
            while self.reading:
                self.end_read(0, backs[round_ % len(backs)])
            with self.engine.connect() as connection:
                if not connection.execute(text("SELECT count(*) FROM news")).scalar():
                    return
            self.begin_read(strong=round_ % 2 == 1)
        raise AssertionError("the loops never ran dry")

    def differences(self) -> list[str]:
        with self.engine.connect() as connection:
            rows = {
                row.user_id: row for row in connection.execute(text("SELECT user_id, profile, deleted_at FROM users"))
            }
            kept_out = forgotten.kept_out(connection, PEOPLE)
        live = {user_id for user_id, row in rows.items() if row.deleted_at is None}
        wanted = set(self.tenant.users) - kept_out
        wrong = [f"{user_id} is {'missing' if user_id in wanted else 'extra'}" for user_id in live ^ wanted]
        return wrong + [
            f"{user_id} differs: {rows[user_id].profile} here, {self.tenant.users[user_id]} there"
            for user_id in live & wanted
            if canonical(rows[user_id].profile) != canonical(self.tenant.users[user_id])
        ]

    def remains(self) -> list[str]:
        """Return what is left of those who are forgotten: rows of theirs, and records that speak of them (P14)."""
        with self.engine.connect() as connection:
            out = forgotten.among(connection, PEOPLE)
            rows = connection.execute(text("SELECT user_id FROM users UNION ALL SELECT user_id FROM news")).scalars()
            found = [f"a row of {user_id}" for user_id in rows if user_id in out]
            person = Mentions(out)
            return found + [
                f"{one.source} {one.id} speaks of one of {set(out)}"
                for one in inbox.bodies(connection, 0, rows=10_000)
                if person.are_in(content_of(one)[0])
            ]


ACTS = st.tuples(
    st.sampled_from(["sign_up", "log_in", "change", "change", "delete", "link", "unlink"]),
    st.sampled_from(PEOPLE),
    st.sampled_from(PEOPLE),
    st.sampled_from([-SKEW, 0.0, SKEW]),
    st.integers(0, 1),
)
ACT = st.tuples(st.just("act"), ACTS)
FORGET = st.tuples(st.just("forget"), st.tuples(st.sampled_from(PEOPLE), st.sampled_from([False, False, False, True])))
NEWS = st.tuples(st.just("deliver"), st.integers(1, 3))
EVENT = st.tuples(st.just("deliver events"), st.integers(1, 3))
FEEDS = st.sampled_from(["logs", "logs and events", "events"])
# A lease of no time: it has run out before its holder comes back.
BEGIN = st.tuples(st.just("begin"), st.tuples(st.booleans(), st.sampled_from([0.0, 0.0, LEASE])))
END = st.tuples(st.just("end"), st.tuples(st.integers(0, 3), st.sampled_from([0.0, 0.5, 1.0])))
# Two reads of the same news, one of them begun before an act, ended in either order: what most rules are there for.
RACE = st.tuples(
    st.just("race"),
    st.tuples(
        ACTS,
        st.booleans(),
        st.booleans(),
        st.sampled_from(["nothing", "news", "nothing", "news", "forgotten"]),
        st.booleans(),
        st.sampled_from([0.0, 1.0, 8.0, 61.0]),
        st.sampled_from([0.0, 1.0]),
    ),
)
STEPS = st.lists(
    st.one_of(
        RACE,
        RACE,
        RACE,
        ACT,
        NEWS,
        EVENT,
        BEGIN,
        END,
        FORGET,
        st.tuples(st.just("time"), st.sampled_from([0.001, 1.0, 7.0, 31.0, 61.0])),
        st.tuples(st.just("repeat"), st.tuples(st.integers(0, 20), st.integers(1, 3))),
        st.tuples(st.just("swap"), st.tuples(st.integers(0, 4), st.integers(0, 4))),
        st.tuples(st.just("repeat events"), st.tuples(st.integers(0, 20), st.integers(1, 3))),
        st.tuples(st.just("swap events"), st.tuples(st.integers(0, 4), st.integers(0, 4))),
    ),
    min_size=8,
    max_size=30,
)


@pytest.fixture
def engine(engine: Engine) -> Engine:
    """A database that can tell who was forgotten."""
    with engine.connect() as connection:
        schema.claim_tenant(connection, "acme.eu.auth0.com")
    return engine


@settings(
    max_examples=int(os.environ.get("EXAMPLES", "200")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)
@given(feeds=FEEDS, steps=STEPS, backs=st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=4))
def test_any_schedule_ends_in_the_tenants_own_state(
    engine: Engine, feeds: str, steps: list[Any], backs: list[float]
) -> None:
    with engine.begin() as connection:
        connection.execute(text("TRUNCATE users, news, inbox, parked, counters, conditions, forgotten"))
    world = World(engine, feeds)
    for person in PEOPLE:
        world.tenant.act("sign_up", person, person, 0.0, 0)
    for step, how in steps:
        play(world, step, how)
    world.run_dry(backs)
    assert world.differences() == []
    assert world.remains() == []
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM parked")).scalar() == 0
        assert connection.execute(text("SELECT count(*) FROM inbox WHERE state <> 'done'")).scalar() == 0


def play(world: World, step: str, how: Any) -> None:
    """Play one step."""
    tenant = world.tenant
    if step == "act":
        tenant.act(*how)
    elif step == "time":
        world.pass_time(how)
    elif step == "forget":
        world.forget(*how)
    elif step == "race":
        race(world, *how)
    elif step == "begin":
        world.begin_read(strong=how[0], lease=how[1])
    elif step == "end":
        world.end_read(*how)
    elif step in ("deliver", "repeat", "swap"):
        world.delivered = post(world.deliver, tenant.records, world.delivered, step, how)
        world.drain()
    else:
        world.told = post(world.tell, tenant.events, world.told, step.removesuffix(" events"), how)
        world.drain()


def post(
    send: Callable[[list[dict[str, Any]]], None], letters: list[dict[str, Any]], sent: int, step: str, how: Any
) -> int:
    """Deliver the next letters, repeat old ones, or swap two that wait; return how many have been sent by now."""
    if step == "deliver":
        send(letters[sent : sent + how])
        return min(len(letters), sent + int(how))
    if step == "repeat":
        start, number = how
        send(letters[start:sent][:number])
    else:
        one, other = sent + how[0], sent + how[1]
        if max(one, other) < len(letters):
            letters[one], letters[other] = letters[other], letters[one]
    return sent


def race(
    world: World,
    act: Any,
    strong: bool,
    other_strong: bool,
    meanwhile: str,
    last_first: bool,
    seconds: float,
    back: float,
) -> None:
    play(world, "act", ("log_in", *act[1:]))
    play(world, "deliver", 99)
    world.begin_read(strong=strong, lease=0.0)
    world.pass_time(0.001)
    world.tenant.act(*act)
    if meanwhile != "nothing":
        play(world, "deliver", 99)
        play(world, "deliver events", 99)
    if meanwhile == "forgotten":
        world.forget(act[1], keep_out=False)
    world.pass_time(seconds)
    world.begin_read(strong=other_strong, lease=0.0)
    for _ in range(4):
        world.end_read(-1 if last_first else 0, back)
