"""Whatever people, networks, clocks and crashes do, the copy is never wrong without knowing it, and ends equal to its tenant.

A model tenant lives: people sign up, log in, change, are deleted, come back, are linked and unlinked, several acts in one
millisecond; somebody else writes metadata of theirs. What it tells by log stream and event stream arrives late, doubled,
reordered, in any batches, or never, and is pulled besides. Plays are counted, names wished, roles earned and lost. All of the
product's loops run over a real database whose clock the test moves. Each of them stops before every transaction and around
every request, and anything else may happen there; also the end of its process.

`make test` plays the same few lives each time. `EXAMPLES=2000 .venv/bin/pytest tests/worker/sync/test_any_life.py` plays so
many that nobody has seen; a failure prints the steps that lead to it, as few as were found.

Two things are left out, since PROTOCOL admits them: a foreign change of the same key inside one round trip of a push (P16),
and a search index that lags by more than SEARCH_SETTLE (P10).
"""

import json
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

import pytest
import zstandard
from hypothesis import HealthCheck, Phase, settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Connection, Engine, text

from tests.worker.sync import moved_clock
from tests.worker.sync.answering import BAD_NAME, OURS, Answering, Jobs, People, Purse, roles_of
from tests.worker.sync.processes import Point, Process, stop_before_transactions
from tests.worker.sync.radio import play
from worker.domain.roles import rules
from worker.domain.users import Tolerances, canonical
from worker.errors import TenantDown
from worker.queue.plays import Play, encode
from worker.store import people, pushes, wishes
from worker.sync.backfill import Backfill
from worker.sync.catch_up import CatchUp
from worker.sync.count import Plays
from worker.sync.drain import take_turns
from worker.sync.everyone import Everyone
from worker.sync.learn import LogRecords
from worker.sync.listen import Listen
from worker.sync.plans import Planner
from worker.sync.pulled import PulledRecords
from worker.sync.push import Push
from worker.sync.reconcile import Reconcile
from worker.sync.refresh import Refresh
from worker.sync.snapshots import PULLED, EventStream
from worker.sync.sweep import sweep
from worker.sync.turn import Turns

SKEW, SETTLE, OVERLAP = 5.0, 60.0, timedelta(minutes=10)
TOLERANCES = Tolerances(timedelta(seconds=SKEW), timedelta(seconds=SETTLE))
PEOPLE = ("auth0|ada", "auth0|bob", "sms|1")
LISTENERS = ("auth0|ada", "auth0|bob", "auth0|cy")
TIERS = {"fan": 2, "star": 4}
CAP = 2
# Quicker than TRUNCATE by far, for tables as small as these.
EMPTY = """
DELETE FROM users;
DELETE FROM news;
DELETE FROM inbox;
DELETE FROM parked;
DELETE FROM counters;
DELETE FROM conditions;
DELETE FROM connections;
DELETE FROM heard;
DELETE FROM feeds;
DELETE FROM runs;
DELETE FROM exported;
DELETE FROM playlists;
DELETE FROM plays;
DELETE FROM play_days;
DELETE FROM wishes;
DELETE FROM pushes;
DELETE FROM pushed;
DELETE FROM sweep
"""
MOST_PROCESSES = 4


class NoWitness:
    """No backup is restored here."""

    def fell_behind(self, _position: int) -> bool:
        return False


@dataclass
class Row:
    """One user as the copy has it. `seen`: the newest login known, `marked`: somebody will look."""

    user_id: str
    profile: dict[str, Any] | None
    deleted: bool
    version: int
    seen: Any
    created: Any
    marked: bool

    @property
    def lives(self) -> bool:
        return self.profile is not None and not self.deleted


class Post:
    """What is told by one feed: places in the tenant's list that wait, in the order in which they will come."""

    def __init__(self) -> None:
        self.known = 0
        self.waiting: list[int] = []
        self.came: set[int] = set()
        self.lost: set[int] = set()

    def fill(self, number: int) -> None:
        self.waiting += range(self.known, number)
        self.known = number

    def take(self, number: int) -> list[int]:
        taken, self.waiting = self.waiting[:number], self.waiting[number:]
        self.came |= set(taken)
        return taken


ACTS = st.tuples(
    st.sampled_from(["sign_up", "log_in", "change", "delete", "link", "unlink"]),
    st.sampled_from(PEOPLE),
    st.sampled_from(PEOPLE),
    st.sampled_from([-SKEW, 0.0, SKEW]),
    st.integers(0, 1),
)
LAGS = st.sampled_from([0.0, 1.0, SETTLE - 1])
UNTIL = st.sampled_from(["request", "answer", "answer", "transaction", "over"])
SECONDS = st.sampled_from([0.001, 1.0, 3.0, 8.0, 31.0, 61.0])
PLACE = st.integers(0, 5)
SOME = st.integers(1, 3)
USER = st.sampled_from(PEOPLE)


class Life(RuleBasedStateMachine):
    """The tenant, the post on its way, the copy and its loops."""

    engine: Engine
    observer: Engine

    # How it begins

    @initialize(
        feeds=st.sampled_from([("logs",), ("logs", "events"), ("logs", "events"), ("events",)]),
        pulls=st.booleans(),
        default_name=st.sampled_from(["", "", "user"]),
        ahead=st.sampled_from([0.0, -170.0, 170.0]),
    )
    def begin(self, feeds: tuple[str, ...], pulls: bool, default_name: str, ahead: float) -> None:
        self.feeds, self.pulls, self.ahead = feeds, pulls, ahead
        self.people = People()
        self.people.now = 3600.0
        self.answering = Answering(self.people)
        self.purse = Purse()
        self.logs, self.events = Post(), Post()
        self.processes: list[Process] = []
        self.planner = Planner(rules(TIERS), default_name)
        self.heard: list[tuple[Play, int]] = []
        self.owners: dict[int, str] = {}
        self.wished: dict[tuple[str, Any], str] = {}
        self.foreign: dict[str, list[str]] = {}
        self.masked = False
        self.rows: dict[str, Row] = {}
        self.set_to = self._ours()
        with self.engine.begin() as connection:
            connection.exec_driver_sql(EMPTY)
            moved_clock.begin(connection, self.set_to)
        self._pull_all()  # what happened before a pull first began is not its business
        for person in PEOPLE:
            self._act(("sign_up", person, person, 0.0, 0))
        self._post_all()
        self._drain_all()

    def _ours(self) -> Any:
        """Return what time it is by our clock: minutes off Auth0's, so that nothing may compare the two (P1)."""
        return self.people.look() + timedelta(seconds=self.ahead)

    def _pass(self, seconds: float) -> None:
        self.people.now += seconds

    def _set_clock(self) -> None:
        if self.set_to != self._ours():
            self.set_to = self._ours()
            with self.engine.begin() as connection:
                moved_clock.move(connection, self.set_to)

    # People

    @rule(acts=st.lists(ACTS, min_size=1, max_size=3), late=st.sampled_from([0.0, 0.0, 100.0]), masked=st.booleans())
    def somebody_acts(self, acts: list[Any], late: float, masked: bool) -> None:
        for act in acts:
            self._act(act, late=late, masked=masked and len(acts) == 1)
        self._pass(0.001)

    def _act(self, act: Any, *, late: float = 0.0, masked: bool = False) -> None:
        kind, user_id, other, skew, variant = act
        if kind in ("sign_up", "delete", "link", "unlink") and any(self._in_a_window(one) for one in PEOPLE):
            return
        lived, told = set(self.people.users), len(self.people.records)
        self.people.act(kind, user_id, other, skew, variant)
        for gone in lived - set(self.people.users):
            self.foreign.pop(gone, None)
            for attribute in ("displayName", "plan"):
                self.wished.pop((gone, attribute), None)
        if kind == "link" and masked and len(self.people.records) > told:
            self.people.mask_the_last_link()
            self.masked = True
        if late:
            self.people.written_late |= dict.fromkeys(range(told, len(self.people.records)), self.people.now + late)

    @rule(
        user_id=USER,
        roles=st.sampled_from([[], ["admin"], ["beta", "admin"]]),
        ours=st.sampled_from([None, [], [*OURS]]),
    )
    def somebody_else_gives_roles(self, user_id: str, roles: list[str], ours: list[str] | None) -> None:
        if user_id not in self.people.users or self._in_a_window(user_id):
            return
        if ours is None:
            ours = [role for role in roles_of(self.people.users[user_id]) if role in OURS]
        self.foreign[user_id] = roles
        self.people.patch(user_id, {"app_metadata": {"roles": [*roles, *ours]}}, 0.0)
        self._pass(0.001)

    @rule(user_id=USER, number=SOME)
    def somebody_else_writes_a_key(self, user_id: str, number: int) -> None:
        if user_id in self.people.users:
            said = {"app_metadata": {"theirs": number}, "user_metadata": {"colour": number}}
            self.people.patch(user_id, said, 0.0)
            self._pass(0.001)

    def _in_a_window(self, user_id: str) -> bool:
        """Whether a push is between its read of somebody and its PATCH, so that a foreign change might be lost (P16)."""
        process = self.answering.windows.get(user_id)
        if process is None or process.at == "over":
            return False
        answered_at = self.answering.rests_on.get((id(process), user_id))
        return process.at != "transaction" or answered_at is None or self.people.now - answered_at <= 2.0

    @rule(seconds=SECONDS)
    def time_passes(self, seconds: float) -> None:
        self._pass(seconds)

    # The post

    @rule(number=SOME, drained=st.booleans())
    def records_come(self, number: int, drained: bool) -> None:
        self._fill()
        self._deliver_records(self.logs.take(number))
        if drained:
            self._drain_all()

    @rule(number=SOME, drained=st.booleans())
    def events_come(self, number: int, drained: bool) -> None:
        self._fill()
        self._deliver_events(self.events.take(number))
        if drained:
            self._drain_all()

    @rule(which=st.sampled_from(["logs", "events"]), place=PLACE, number=SOME)
    def some_come_again(self, which: str, place: int, number: int) -> None:
        self._fill()
        if which == "logs":
            self._deliver_records(sorted(self.logs.came)[-1 - place :][:number])
        else:
            self._deliver_events(sorted(self.events.came)[-1 - place :][:number])
        self._drain_all()

    @rule(which=st.sampled_from(["logs", "events"]), one=PLACE, other=PLACE)
    def one_overtakes_another(self, which: str, one: int, other: int) -> None:
        self._fill()
        waiting = (self.logs if which == "logs" else self.events).waiting
        if max(one, other) < len(waiting):
            waiting[one], waiting[other] = waiting[other], waiting[one]

    @precondition(lambda self: self.pulls)
    @rule(which=st.sampled_from(["logs", "events"]), number=SOME)
    def some_are_lost(self, which: str, number: int) -> None:
        self._fill()
        post = self.logs if which == "logs" else self.events
        lost, post.waiting = post.waiting[:number], post.waiting[number:]
        post.lost |= set(lost)

    def _fill(self) -> None:
        if "logs" in self.feeds:
            self.logs.fill(len(self.people.records))
        if "events" in self.feeds:
            self.events.fill(len(self.people.events))

    def _post_all(self) -> None:
        self._fill()
        self._deliver_records(self.logs.take(10**6))
        self._deliver_events(self.events.take(10**6))

    def _deliver_records(self, places: list[int]) -> None:
        if places:
            self._put("logs", json.dumps([self.people.records[place] for place in places]).encode())

    def _deliver_events(self, places: list[int]) -> None:
        for place in places:
            self._put("events", json.dumps(self.people.events[place]).encode())

    def _put(self, source: str, body: bytes) -> None:
        put = text("INSERT INTO inbox (source, size, body) VALUES (:source, :size, :body)")
        values = {"source": source, "size": len(body), "body": zstandard.compress(body)}
        self._do(lambda connection: connection.execute(put, values))

    # Plays, playlists, wishes

    @rule(owner=USER)
    def a_playlist_is_made(self, owner: str) -> None:
        if len(self.owners) < 4:
            made = text("INSERT INTO playlists (user_id, name) VALUES (:owner, 'p') RETURNING playlist_id")

            def make(connection: Connection) -> int:
                number = int(connection.execute(made, {"owner": owner}).scalar_one())
                pushes.mark(connection, [owner])
                return number

            self.owners[self._do(make)] = owner

    @rule(place=PLACE, told=st.booleans())
    def a_playlist_is_deleted(self, place: int, told: bool) -> None:
        if self.owners and place == 0:
            number = max(self.owners)
            owner = self.owners.pop(number)

            def delete(connection: Connection) -> None:
                connection.execute(text("DELETE FROM playlists WHERE playlist_id = :id"), {"id": number})
                if told:
                    pushes.mark(connection, [owner])

            self._do(delete)

    @rule(listener=st.sampled_from(LISTENERS), place=PLACE, numbers=st.lists(st.integers(0, 3), min_size=1, max_size=3))
    def somebody_listens(self, listener: str, place: int, numbers: list[int]) -> None:
        if self.owners:
            playlist = sorted(self.owners)[place % len(self.owners)]
            self._hear([play(number, listener, playlist, self.owners[playlist]) for number in numbers])

    @rule(place=PLACE, number=SOME)
    def plays_come_again(self, place: int, number: int) -> None:
        day = self._day()
        self._hear([one for one, heard_on in self.heard[-1 - place :][:number] if heard_on == day])

    def _hear(self, plays: list[Play]) -> None:
        if plays:
            self.heard += [(one, self._day()) for one in plays]
            self._put("plays", b"\n".join(encode(one) for one in plays))

    def _day(self) -> int:
        return int(self._ours().toordinal())

    @rule(
        user_id=USER,
        attribute=st.sampled_from(["displayName", "displayName", "plan"]),
        value=st.sampled_from(["a", "b", BAD_NAME]),
    )
    def somebody_wishes(self, user_id: str, attribute: Any, value: str) -> None:
        value = "c" if attribute == "plan" and value == BAD_NAME else value

        def wish(connection: Connection) -> str | None:
            primary = people.primary(connection, user_id)
            if primary is not None:
                wishes.wish(connection, primary, attribute, value)
                pushes.mark(connection, [primary])
            return primary

        primary = self._do(wish)
        self._look()
        row, user = self.rows.get(primary or ""), self.people.users.get(primary or "")
        if primary and row and user and row.profile and row.profile["created_at"] == user["created_at"]:
            self.wished[primary, attribute] = value

    # Loops

    @rule(ample=st.booleans(), lag=LAGS, until=UNTIL)
    def refresh(self, ample: bool, lag: float, until: Point) -> None:
        self._start("refresh", self._refresh(ample), until, lag)

    @rule(until=UNTIL)
    def push(self, until: Point) -> None:
        self._start("push", self._push, until)

    @rule(until=st.sampled_from(["transaction", "over"]))
    def drain(self, until: Point) -> None:
        [(tried,)] = self._ask(_TRIED)
        self._start("drain", self._drain, until if tried < 2 else "over")
        self._no_play_counts_twice()

    @rule()
    def the_sweep_comes_by(self) -> None:
        self._do_all(lambda: sweep(self.engine, self.planner, go_on=lambda: True))

    @precondition(lambda self: self.pulls)
    @rule(until=UNTIL)
    def the_log_is_pulled(self, until: Point) -> None:
        self._start("pull", self._catch_up, until)

    @precondition(lambda self: self.pulls and "events" in self.feeds)
    @rule(until=UNTIL)
    def the_events_are_pulled(self, until: Point) -> None:
        self._start("pull", self._listen, until)

    @rule(lag=st.sampled_from([0.0, 0.0, 8.0]), until=UNTIL, again=st.booleans())
    def the_whole_tenant_is_compared(self, lag: float, until: Point, again: bool) -> None:
        every = timedelta(seconds=1) if again else timedelta(0)
        self._start("export", lambda: self._reconcile(every), until, lag)

    @rule(until=UNTIL)
    def the_whole_tenant_is_loaded(self, until: Point) -> None:
        self._start("export", self._backfill, until)

    @precondition(lambda self: self.processes)
    @rule(place=PLACE, until=UNTIL)
    def a_process_goes_on(self, place: int, until: Point) -> None:
        self._go_on(self.processes[place % len(self.processes)], until)

    @precondition(lambda self: self.processes)
    @rule(place=PLACE)
    def a_process_is_killed(self, place: int) -> None:
        process = self.processes.pop(place % len(self.processes))
        process.die()

    @precondition(lambda self: any(process.at == "answer" for process in self.processes))
    @rule()
    def an_answer_is_lost(self) -> None:
        process = next(process for process in self.processes if process.at == "answer")
        process.answered.clear()
        process.breaks = TenantDown("the connection broke")
        self._go_on(process, "over")

    @rule(
        act=ACTS,
        readers=st.lists(st.tuples(st.booleans(), LAGS), min_size=2, max_size=2),
        told=st.booleans(),
        last_first=st.booleans(),
        seconds=st.sampled_from([1.0, 61.0, 61.0]),
    )
    def two_readers_race(
        self, act: Any, readers: list[tuple[bool, float]], told: bool, last_first: bool, seconds: float
    ) -> None:
        """Two reads of the same news, one of them begun before an act, applied in either order: what most rules are there for."""
        self._act(("log_in", *act[1:]))
        self._pass(0.001)
        self._post_all()
        self._drain_all()
        for place, (ample, lag) in enumerate(readers):
            if place:
                self._act(act)
                if told:
                    self._post_all()
                    self._drain_all()
            if place or not ample:
                self._pass(seconds)
            self._start("refresh", self._refresh(ample), "answer", lag)
        racing = [process for process in self.processes if process.kind == "refresh"]
        for process in reversed(racing) if last_first else racing:
            self._go_on(process, "over")

    # What a loop is

    def _refresh(self, ample: bool) -> Callable[[], object]:
        purse, rounds = Purse(ample), iter(range(2))
        loop = Refresh(self.engine, cast("Any", self.answering), cast("Any", purse), TOLERANCES, b"key")
        return lambda: loop.run(go_on=lambda: next(rounds, None) is not None)

    def _push(self) -> object:
        rounds = iter(range(6))
        turns = Turns(self.engine, cast("Any", self.answering), self.planner, b"key", lambda: self.people.now)
        loop = Push(turns, cast("Any", self.purse), cast("Any", NoWitness()))
        return loop.run(go_on=lambda: next(rounds, None) is not None)

    def _drain(self) -> object:
        events = EventStream(TOLERANCES), EventStream(TOLERANCES, PULLED, hurried=False)
        sources = (*events, LogRecords(noting=self.pulls), PulledRecords(), Plays(CAP))
        take_turns(self.engine, sources, go_on=lambda: True, ring=lambda _: None)
        return None

    def _catch_up(self) -> object:
        loop = CatchUp(self.engine, cast("Any", self.answering), cast("Any", self.purse), OVERLAP)
        return loop.run(go_on=lambda: True)

    def _listen(self) -> object:
        return Listen(self.engine, cast("Any", self.answering), cast("Any", self.purse)).run(go_on=lambda: True)

    def _reconcile(self, every: timedelta) -> object:
        jobs = cast("Any", Jobs(self.answering))
        return Reconcile(self.engine, jobs, jobs, cast("Any", self.purse), TOLERANCES, every).run(go_on=lambda: True)

    def _backfill(self) -> object:
        jobs = cast("Any", Jobs(self.answering))
        return Backfill(self.engine, Everyone(jobs, jobs, cast("Any", self.purse)), TOLERANCES).run()

    # Steps

    def _start(self, kind: str, run: Callable[[], object], until: Point, lag: float = 0.0) -> None:
        if len(self.processes) >= MOST_PROCESSES:
            self._go_on(self.processes[0], "over")
        process = Process(kind, run)
        process.lag = lag  # type: ignore[attr-defined]
        self.processes.append(process)
        self._go_on(process, until)

    def _go_on(self, process: Process, until: Point) -> None:
        self._set_clock()
        process.go_on(until)
        self._look(process)
        if process.at == "over" and process in self.processes:
            self.processes.remove(process)

    def _do_all(self, run: Callable[[], object]) -> None:
        self._start("other", run, "over")

    def _drain_all(self) -> None:
        self._start("drain", self._drain, "over")

    def _pull_all(self) -> None:
        if self.pulls:
            self._do_all(self._catch_up)
            if "events" in self.feeds:
                self._do_all(self._listen)

    def _do(self, say: Callable[[Connection], Any]) -> Any:
        self._set_clock()
        with self.engine.begin() as connection:
            return say(connection)

    def _ask(self, statement: Any) -> list[Any]:
        with self.observer.connect() as connection:
            return list(connection.execute(statement))

    # What must hold at any time

    def _look(self, process: Process | None = None) -> None:
        """Look at the rows: whatever changed since the last look, `process` has done."""
        rows = {row[0]: Row(*row) for row in self._ask(_ROWS)}
        for user_id, row in rows.items():
            old = self.rows.get(user_id)
            said = process.answered.get(user_id) if process else None
            if row.deleted and not (old and old.deleted):
                assert said is False, f"{user_id}: a tombstone without a strong 404 (P12)"
            if old and old.deleted and not row.deleted:
                assert said is True, f"{user_id}: brought back without a strong 200 (P12)"
        for user_id, old in self.rows.items():
            row = rows[user_id]
            assert row.version >= old.version, f"{user_id}: its version went back (P4)"
            assert old.seen is None or (row.seen is not None and row.seen >= old.seen), (
                f"{user_id}: a login was lost (P3)"
            )
            if (row.profile, row.deleted) != (old.profile, old.deleted):
                assert row.version > old.version, f"{user_id}: its version did not move (P4)"
        self.rows = rows

    @invariant()
    def who_is_wrong_is_marked(self) -> None:
        """Whatever was told and drained is right, or somebody will look (P5, P9 to P12)."""
        if self.masked or self._ask(_UNDRAINED):
            return
        for user_id in PEOPLE:
            if self._is_told(user_id):
                row = self.rows.get(user_id)
                wrong = self._difference(user_id, row)
                assert wrong is None or (row is not None and row.marked), f"{user_id} is wrong and unmarked: {wrong}"

    def _is_told(self, user_id: str) -> bool:
        """Whether a whole feed has told all there is to tell of somebody."""
        self._fill()
        if "logs" in self.feeds:
            return all(
                place in self.logs.came or user_id not in _named(record)
                for place, record in enumerate(self.people.records)
            )
        return all(
            place in self.events.came or event["data"]["object"]["user_id"] != user_id
            for place, event in enumerate(self.people.events)
        )

    def _difference(self, user_id: str, row: Row | None) -> str | None:
        user = self.people.users.get(user_id)
        lives = row is not None and row.lives
        if not lives or user is None or row is None or row.profile is None:
            return None if not lives and user is None else f"{row} here, {user} there"
        return None if canonical(row.profile) == canonical(user) else f"{row.profile} here, {user} there"

    def _no_play_counts_twice(self) -> None:
        sums, right = self._sums(), self._right_sums()
        assert all(plays <= right[number] for number, plays in sums.items()), f"{sums}, where {right} is right (P25)"

    def _sums(self) -> dict[int, int]:
        return dict(tuple(row) for row in self._ask(text("SELECT playlist_id, plays FROM playlists")))

    def _right_sums(self) -> dict[int, int]:
        """Return what the plays add up to, by P25 and nothing else."""
        different: dict[tuple[int, str, int], set[UUID]] = defaultdict(set)
        for one, day in self.heard:
            if one.listener != one.owner:
                different[one.playlist_id, one.listener, day].add(one.play_id)
        sums = dict.fromkeys(self.owners, 0)
        for (playlist, _, _), numbers in different.items():
            if playlist in sums:
                sums[playlist] += min(CAP, len(numbers))
        return sums

    # How it ends

    def teardown(self) -> None:
        if not hasattr(self, "processes"):
            return
        try:
            if sys.exc_info()[0] is None:
                self._run_dry()
                self._is_equal()
        finally:
            for process in self.processes:
                process.die()

    def _run_dry(self) -> None:
        """Deliver what is left, finish who is under way, and run all loops until nothing is left to do."""
        for process in [*self.processes]:
            self._go_on(process, "over")
        self._post_all()
        for round_ in range(60):
            self._pass(SETTLE + 1 if round_ < 20 else 90_000)
            self._fill()
            self._post_all()
            self._pull_all()
            self._drain_all()
            self._start("refresh", self._refresh(round_ % 2 == 1), "over", SETTLE - 1)
            self._start("refresh", self._refresh(round_ % 2 == 0), "over", SETTLE - 1)
            self._do_all(lambda: self._reconcile(timedelta(0)))
            self.masked = self.masked and bool(self._conditions())
            self._do_all(lambda: sweep(self.engine, self.planner, go_on=lambda: True))
            self._start("push", self._push, "over")
            if not self._left():
                return
            self.who_is_wrong_is_marked()
        raise AssertionError(f"the loops never ran dry: {self._left()}")

    def _conditions(self) -> list[Any]:
        return self._ask(text("SELECT name FROM conditions"))

    def _left(self) -> list[Any]:
        left = self._ask(_LEFT)
        if len(self.people.records) > self.logs.known and "logs" in self.feeds:
            left.append("a record on its way")
        if any(self.people.now < written for written in self.people.written_late.values()):
            left.append("a record that is written late")
        return left

    def _is_equal(self) -> None:
        rows = self.rows
        for user_id in {*rows, *self.people.users}:
            assert self._difference(user_id, rows.get(user_id)) is None, (
                f"{user_id}: {self._difference(user_id, rows.get(user_id))}"
            )
        sums = self._sums()
        assert sums == self._right_sums()
        for user_id, user in self.people.users.items():
            self._roles_are_right(user_id, user, sums)
        for (user_id, attribute), value in self.wished.items():
            place = self.people.users[user_id].get("app_metadata" if attribute == "plan" else "user_metadata", {})
            assert value == BAD_NAME or place.get(attribute) == value, f"{user_id}: the wish {value} was lost (P17)"
        assert self._ask(text("SELECT reason FROM parked")) == []
        assert self._ask(text("SELECT error FROM inbox WHERE state = 'parked'")) == []
        if "logs" in self.feeds:
            self._logins_are_known(rows)

    def _roles_are_right(self, user_id: str, user: dict[str, Any], sums: dict[int, int]) -> None:
        ids = [f"{one['provider']}|{one['user_id']}" for one in user["identities"]]
        plays = sum(sums[number] for number, owner in self.owners.items() if owner in ids)
        earned = [role for role, least in TIERS.items() if plays >= least]
        roles = roles_of(user)
        assert sorted(roles) == sorted([*self.foreign.get(user_id, []), *earned]), f"{user_id} played {plays}: {roles}"
        assert [role for role in roles if role not in OURS] == self.foreign.get(user_id, [])

    def _logins_are_known(self, rows: dict[str, Row]) -> None:
        seen: dict[str, str] = {}
        for record in self.people.records:
            data = record["data"]
            if data["type"] in ("s", "sepft"):
                seen[data["user_id"]] = max(data["date"], seen.get(data["user_id"], ""))
        for user_id, date in seen.items():
            assert iso_of(rows[user_id].seen) == date, (
                f"{user_id} was seen logging in at {date}, not {rows[user_id].seen}"
            )


def iso_of(moment: Any) -> str:
    return str(moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"))


def _named(record: dict[str, Any]) -> str:
    """Return the text of a record, in which the ids that it names are found."""
    return json.dumps(record).replace("%7C", "|") + _linked_in(record["data"])


def _linked_in(data: dict[str, Any]) -> str:
    request = data.get("details", {}).get("request", {})
    body = request.get("body") or {}
    path = request.get("path", "").rsplit("/", 2)
    return f" {body.get('provider')}|{body.get('user_id')} {path[-2]}|{path[-1]}" if len(path) == 3 else ""


_ROWS = text("""
SELECT u.user_id, u.profile, u.deleted_at IS NOT NULL, u.version, greatest(u.login_seen_at, n.login_seen_at), u.created_at,
  n.user_id IS NOT NULL FROM users u LEFT JOIN news n USING (user_id)
""")
_UNDRAINED = text("SELECT FROM inbox WHERE state = 'pending' AND source <> 'plays' LIMIT 1")
_TRIED = text("SELECT coalesce(max(attempts), 0) FROM inbox WHERE state = 'pending'")
# A push that waits because Auth0 does not take a name waits for the next one.
_LEFT = text("""
SELECT 'inbox', source FROM inbox WHERE state = 'pending' UNION ALL SELECT 'news', user_id FROM news
UNION ALL SELECT 'push', user_id FROM pushes WHERE due_at < 'infinity'
UNION ALL SELECT 'wish', user_id FROM wishes WHERE value <> '*'
UNION ALL SELECT 'condition', name FROM conditions
UNION ALL SELECT 'run', kind FROM runs WHERE state = 'running' AND kind <> 'backfill'
""")


@pytest.fixture(scope="module")
def engine(module_database_url: str) -> Iterator[Engine]:
    engine = moved_clock.moved_clock_engine(module_database_url, connections=MOST_PROCESSES + 2)
    stop_before_transactions(engine)
    yield engine
    engine.dispose()


# EXAMPLES=2000 looks longer, and elsewhere each time.
_LONGER = int(os.environ.get("EXAMPLES", "0"))


@pytest.mark.timeout(0)
def test_any_life_ends_equal(engine: Engine) -> None:
    Life.engine, Life.observer = engine, engine.execution_options(isolation_level="AUTOCOMMIT")
    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=_LONGER or 25,
            derandomize=not _LONGER,
            stateful_step_count=30,
            deadline=None,
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        ),
    )
