"""A world to live in, for test_any_life.py: a model tenant, its post, its people and the product's own loops over a real database."""

import json
import sys
from collections import defaultdict
from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

import pytest
import zstandard
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from tests.worker.sync import moved_clock
from tests.worker.sync.answering import BAD_NAME, OURS, Answering, Jobs, People, Purse, roles_of
from tests.worker.sync.erasures import Erasing, Erasures, Row
from tests.worker.sync.processes import Point, Process
from worker.domain.roles import rules
from worker.domain.users import Tolerances, canonical, profile_time, secondary_ids
from worker.errors import TenantDown
from worker.queue.plays import Play, encode
from worker.store import people, pushes, wishes
from worker.sync.backfill import Backfill
from worker.sync.catch_up import CatchUp
from worker.sync.count import Plays
from worker.sync.drain import Source, take_turns
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
EVERYBODY = (*LISTENERS, "sms|1")
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
DELETE FROM suspects;
DELETE FROM playlists;
DELETE FROM plays;
DELETE FROM play_days;
DELETE FROM wishes;
DELETE FROM pushes;
DELETE FROM pushed;
DELETE FROM sweep;
DELETE FROM forgotten;
DELETE FROM user_data;
DELETE FROM songs;
DELETE FROM sessions
"""
MOST_PROCESSES = 4


class NoWitness:
    """No backup is restored here."""

    def fell_behind(self, _position: int) -> bool:
        return False


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

    def take_last(self) -> int:
        last = self.waiting.pop()
        self.came.add(last)
        return last


class World:
    """The tenant, the post on its way, the copy and its loops; what must hold at any time, and in the end."""

    engine: Engine
    observer: Engine

    # How it begins

    def _live(self, feeds: tuple[str, ...], pulls: bool, default_name: str, ahead: float, owner: str | None) -> None:
        self.feeds, self.pulls, self.ahead = feeds, pulls, ahead
        self.people = People()
        self.people.now = 3600.0
        self.answering = Answering(self.people)
        self.purse = Purse()
        self.logs, self.events = Post(), Post()
        self.processes: list[Process] = []
        self.planner = Planner(rules(TIERS), default_name)
        self.heard: list[tuple[Play, int, int]] = []
        self.lives: dict[str, int] = defaultdict(int)
        self.uncapped: set[tuple[str, int]] = set()
        self.plays_wait = False
        self.forgets = 0
        self.owners: dict[int, str] = {}
        self.wished: dict[tuple[str, Any], str] = {}
        self.foreign: dict[str, list[str]] = {}
        self.masked: set[int] = set()
        self.odd: dict[str, int] = defaultdict(int)
        self.rows: dict[str, Row] = {}
        self.erasures = Erasures(self.observer, self.people, EVERYBODY)
        self.set_to = self._ours()
        with self.engine.begin() as connection:
            connection.exec_driver_sql(EMPTY)
            moved_clock.begin(connection, self.set_to)
        self._pull_all()  # what happened before a pull first began is not its business
        for person in PEOPLE:
            self._act(("sign_up", person, person, 0.0, 0))
        self._post_all()
        self._drain_all()
        if owner:
            self._make_playlist(owner)

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
        if masked and (kind == "link" or (kind == "delete" and variant)) and len(self.people.records) > told:
            self.people.mask_the_last_record()
            self.masked.add(len(self.people.records) - 1)
        if late:
            self.people.written_late |= dict.fromkeys(range(told, len(self.people.records)), self.people.now + late)

    def _name_elsewhere(self, user_id: str, name: str) -> None:
        """Have somebody else choose the name: it stands, but where a wish is open, or made after it (P17)."""
        self.people.patch(user_id, {"user_metadata": {"displayName": name}}, 0.0)
        self.wished.pop((user_id, "displayName"), None)
        self._pass(0.001)

    def _in_a_window(self, user_id: str) -> bool:
        """Whether a push is between its read of somebody and its PATCH, so that a foreign change might be lost (P16)."""
        process = self.answering.windows.get(user_id)
        if process is None or process.at == "over":
            return False
        answered_at = self.answering.rests_on.get((id(process), user_id))
        return process.at != "transaction" or answered_at is None or self.people.now - answered_at <= 2.0

    # The post

    def _fill(self) -> None:
        if "logs" in self.feeds:
            self.logs.fill(len(self.people.records))
        if "events" in self.feeds:
            self.events.fill(len(self.people.events))

    def _post_all(self) -> None:
        self._fill()
        self._deliver_records(self.logs.take(10**6))
        self._deliver_events(self.events.take(10**6))

    def _post_records(self) -> None:
        """Deliver and drain all records that wait, and no event."""
        self._fill()
        self._deliver_records(self.logs.take(10**6))
        self._drain_all()

    def _post_events(self) -> None:
        """Deliver and drain all events that wait, and no record."""
        self._fill()
        self._deliver_events(self.events.take(10**6))
        self._drain_all()

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

    def _make_playlist(self, owner: str) -> None:
        made = text("INSERT INTO playlists (user_id, name) VALUES (:owner, 'p') RETURNING playlist_id")

        def make(connection: Connection) -> None:
            self.made = int(connection.execute(made, {"owner": owner}).scalar_one())
            pushes.mark(connection, [owner])

        if not self._is_refused(owner, make):
            self.owners[self.made] = owner

    def _hear(self, plays: list[Play]) -> None:
        if plays:
            self.heard += [(one, self._day(), self.lives[one.listener]) for one in plays]
            self._put("plays", b"\n".join(encode(one) for one in plays))

    def _may_come_again(self, one: Play, day: int, life: int) -> bool:
        return (day, life) == (self._day(), self.lives[one.listener]) and one.listener not in self.erasures.hashed

    def _day(self) -> int:
        return int(self._ours().toordinal())

    def _wish(self, user_id: str, attribute: Any, value: str) -> None:
        def wish(connection: Connection) -> None:
            if primary is not None:
                wishes.wish(connection, primary, attribute, value)
                pushes.mark(connection, [primary])

        with self.observer.connect() as connection:
            primary = people.primary(connection, user_id)
        if self._is_refused(primary, wish):
            return
        self._look()
        row, user = self.rows.get(primary or ""), self.people.users.get(primary or "")
        if primary and row and user and row.profile and row.profile["created_at"] == user["created_at"]:
            self.wished[primary, attribute] = value

    # Who is forgotten

    def _forget(self, user_id: str, keep_out: bool, until: Point) -> None:
        self.forgets += 1
        self.erasures.begun = True
        self.erasures.unfinished[user_id] = keep_out or self.erasures.unfinished.get(user_id, False)
        forget = Erasing(self.engine, self.answering.read_user, self._sources(), user_id, keep_out=keep_out)
        self._begin(forget, until)

    def _is_refused(self, user_id: str | None, say: Callable[[Connection], Any]) -> bool:
        """Do what somebody asks for; return whether it was refused, as it is for those forgotten and nobody else."""
        if user_id not in self.erasures.hashed:
            self._do(say)
            return False
        with pytest.raises(DBAPIError, match="somebody who was forgotten"):
            self._do(say)
        return True

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
        take_turns(self.engine, self._sources(), go_on=lambda: True, ring=lambda _: None)
        return None

    def _sources(self) -> tuple[Source[Any], ...]:
        events = EventStream(TOLERANCES), EventStream(TOLERANCES, PULLED, hurried=False)
        return (*events, LogRecords(noting=self.pulls), PulledRecords(), Plays(CAP))

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

    def _start(
        self,
        kind: str,
        run: Callable[[], object],
        until: Point,
        lag: float = 0.0,
        lags: dict[str, float] | None = None,
    ) -> Process:
        process = Process(kind, run)
        process.lag, process.lags = lag, lags or {}
        return self._begin(process, until)

    def _begin(self, process: Process, until: Point) -> Process:
        if len(self.processes) >= MOST_PROCESSES:
            self._go_on(self.processes[0], "over")
        self.processes.append(process)
        self._go_on(process, until)
        return process

    def _go_on(self, process: Process, until: Point) -> None:
        self._set_clock()
        self.plays_wait = process.kind == "forget" and bool(self._ask(_PLAYS_WAIT))
        process.go_on(until)
        while process.at == "sleep":
            self._pass(7.0)
            self._set_clock()
            process.go_on(until)
        self._look(process)
        if process.at == "over" and process in self.processes:
            self.processes.remove(process)

    def _push_until_written(self, user_id: str, name: str) -> Process | None:
        """Push a name; return who is at it where Auth0 has it, and the answer is still on its way."""
        self._wish(user_id, "displayName", name)
        self._pass(1.1)
        push = self._start("push", self._push, "answer")
        while push.at == "answer":
            if self.answering.patching.get(user_id, (None, 0.0))[0] is push:
                return push
            self._go_on(push, "answer")
        return None

    def _lose(self, process: Process) -> None:
        """Have the answer that a process waits for never come."""
        process.answered.clear()
        process.breaks = TenantDown("the connection broke")
        self._go_on(process, "over")

    def _tried(self) -> int:
        """Return how often what is pending was tried: bodies that end their process are parked (P21), and none of these does."""
        [(tried,)] = self._ask(_TRIED)
        return int(tried)

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
        old, self.rows = self.rows, {row[0]: Row(*row) for row in self._ask(_ROWS)}
        erased = self.erasures.after(process, old, self.rows)
        for user_id in self.rows.keys() - erased:
            self._moved_rightly(process, old.get(user_id), self.rows[user_id])
            self._linked_ids_are_asked_for(process, old.get(user_id), self.rows[user_id])
        self._forget_what_went(erased)

    def _moved_rightly(self, process: Process | None, old: Row | None, row: Row) -> None:
        user_id = row.user_id
        said = process.answered.get(user_id) if process else None
        if row.deleted and not (old and old.deleted):
            assert said is False, f"{user_id}: a tombstone without a strong 404 (P12)"
        if old is None:
            return
        if old.deleted and not row.deleted:
            assert said is True, f"{user_id}: brought back without a strong 200 (P12)"
        assert row.version >= old.version, f"{user_id}: its version went back (P4)"
        assert old.seen is None or (row.seen is not None and row.seen >= old.seen), f"{user_id}: a login was lost (P3)"
        if (row.profile, row.deleted) != (old.profile, old.deleted):
            assert row.version > old.version, f"{user_id}: its version did not move (P4)"
            if row.profile and old.severed and said is None:
                updated_at = profile_time(row.profile["updated_at"])
                assert updated_at is not None
                assert updated_at > old.severed + TOLERANCES.log_date_skew, (
                    f"{user_id}: a snapshot that may be older than a deletion has won (P12)"
                )

    def _linked_ids_are_asked_for(self, process: Process | None, old: Row | None, row: Row) -> None:
        said = process.answered if process else {}
        for one in secondary_ids(row.profile) ^ secondary_ids(old.profile if old else None):
            other = self.rows.get(one)
            assert other is None or other.marked or one in said, f"{one}: linked or not, and nobody looks (P7)"

    def _forget_what_went(self, erased: set[str]) -> None:
        """Have the model forget what a forget may take away: wishes, playlists, and who has played, also where it is refused late.

        What they play from now on is another person's; what of theirs was not counted yet may count beyond the cap.
        """
        if not erased:
            return
        for user_id in erased:
            row = self.rows.get(user_id)
            if row is None or row.bare:
                for attribute in ("displayName", "plan"):
                    self.wished.pop((user_id, attribute), None)
            if self.plays_wait:
                self.uncapped.add((user_id, self.lives[user_id]))
            self.lives[user_id] += 1
        for number in self.owners.keys() - self._sums().keys():
            owner = self.owners.pop(number)
            assert owner in erased, f"the playlist of {owner}, whom nobody forgets, is gone"

    def _who_is_wrong_is_marked(self) -> None:
        """Whatever was told and drained is right, or somebody will look (P5, P9 to P12)."""
        if self._ask(_UNDRAINED) or self._is_masked():
            return
        for user_id in PEOPLE:
            if self._is_told(user_id) and not self.erasures.out(user_id):
                row = self.rows.get(user_id)
                wrong = self._difference(user_id, row)
                assert wrong is None or (row is not None and row.marked), f"{user_id} is wrong and unmarked: {wrong}"

    def _is_masked(self) -> bool:
        """Whether a link or a deletion was told of without its ids, and the comparison that finds them is not over."""
        if self.masked <= self.logs.came and not self._conditions():
            self.masked.clear()
        return bool(self.masked)

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
        sums, (_, most) = self._sums(), self._right_sums()
        assert all(plays <= most[number] for number, plays in sums.items()), f"{sums}, where {most} is right (P25)"

    def _sums(self) -> dict[int, int]:
        return dict(tuple(row) for row in self._ask(text("SELECT playlist_id, plays FROM playlists")))

    def _right_sums(self) -> tuple[dict[int, int], dict[int, int]]:
        """Return what the plays add up to at least and at most, by P25 and nothing else; the two differ by the forgotten alone."""
        different: dict[tuple[int, str, int], dict[int, set[UUID]]] = defaultdict(lambda: defaultdict(set))
        for one, day, life in self.heard:
            if one.listener != one.owner and one.playlist_id in self.owners:
                different[one.playlist_id, one.listener, day][life].add(one.play_id)
        least, most = dict.fromkeys(self.owners, 0), dict.fromkeys(self.owners, 0)
        for (playlist, listener, _), by_life in different.items():
            least[playlist] += min(CAP, len(set[UUID]().union(*by_life.values())))
            for life, ids in by_life.items():
                most[playlist] += len(ids) if (listener, life) in self.uncapped else min(CAP, len(ids))
        return least, most

    # How it ends

    def _end(self) -> None:
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
        for user_id, keep_out in [*self.erasures.unfinished.items()]:
            self._forget(user_id, keep_out, "over")
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
            if not self._conditions():
                self.masked.clear()
            self._do_all(lambda: sweep(self.engine, self.planner, go_on=lambda: True))
            self._start("push", self._push, "over")
            if not self._left():
                return
            self._who_is_wrong_is_marked()
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
            if not self.erasures.out(user_id):
                assert self._difference(user_id, rows.get(user_id)) is None, (
                    f"{user_id}: {self._difference(user_id, rows.get(user_id))}"
                )
        sums, (least, most) = self._sums(), self._right_sums()
        assert sums.keys() == self.owners.keys()
        assert all(least[number] <= plays <= most[number] for number, plays in sums.items()), (sums, least, most)
        for user_id, user in self.people.users.items():
            if not self.erasures.out(user_id):
                self._roles_are_right(user_id, user, sums)
        for (user_id, attribute), value in self.wished.items():
            place = self.people.users[user_id].get("app_metadata" if attribute == "plan" else "user_metadata", {})
            assert value == BAD_NAME or place.get(attribute) == value, f"{user_id}: the wish {value} was lost (P17)"
        self._parked_is_what_was_odd()
        assert self._ask(text("SELECT error FROM inbox WHERE state = 'parked'")) == []
        if "logs" in self.feeds:
            self._logins_are_known(rows)
        forgotten = set(self.erasures.hashed)
        assert forgotten == self.erasures.erased
        assert not forgotten or self.erasures.left(forgotten) == []

    def _parked_is_what_was_odd(self) -> None:
        parked: dict[str, int] = defaultdict(int)
        for (record,) in self._ask(text("SELECT record FROM parked")):
            parked[json.loads(bytes(record))["data"]["user_id"]] += 1
        for user_id in {*parked, *self.odd}:
            least = 0 if self.lives[user_id] else self.odd[user_id]
            assert least <= parked[user_id] <= self.odd[user_id], f"{parked} is parked, where {self.odd} was odd"

    def _roles_are_right(self, user_id: str, user: dict[str, Any], sums: dict[int, int]) -> None:
        ids = [f"{one['provider']}|{one['user_id']}" for one in user["identities"]]
        plays = sum(sums[number] for number, owner in self.owners.items() if owner in ids)
        earned = [role for role, least in TIERS.items() if plays >= least]
        roles = roles_of(user)
        assert sorted(roles) == sorted([*self.foreign.get(user_id, []), *earned]), f"{user_id} played {plays}: {roles}"
        assert [role for role in roles if role not in OURS] == self.foreign.get(user_id, [])

    def _logins_are_known(self, rows: dict[str, Row]) -> None:
        seen: dict[str, str] = {}
        for place, record in enumerate(self.people.records):
            data = record["data"]
            if data["type"] in ("s", "sepft") and place >= self.erasures.gone_at.get(data["user_id"], 0):
                seen[data["user_id"]] = max(data["date"], seen.get(data["user_id"], ""))
        for user_id, date in seen.items():
            if user_id in self.erasures.gone_at:  # older ones may have come, or come again, since
                assert user_id not in rows or iso_of(rows[user_id].seen) >= date
            else:
                assert iso_of(rows[user_id].seen) == date, (
                    f"{user_id} was seen logging in at {date}, not {rows[user_id].seen}"
                )


def give_music(connection: Connection, user_id: str) -> None:
    """Have the music app keep something of somebody, and the page a session."""
    for statement in (
        "INSERT INTO user_data VALUES (:id, 'Jazz')",
        "INSERT INTO songs (user_id, songname) VALUES (:id, 's')",
        "INSERT INTO sessions (session_hash, user_id, expires_at) VALUES (convert_to(:id, 'UTF8'), :id, now() + interval '1 day')",
    ):
        connection.execute(text(statement), {"id": user_id})


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
SELECT u.user_id, u.profile, u.deleted_at IS NOT NULL, u.version, greatest(u.login_seen_at, n.login_seen_at),
  greatest(u.deletion_seen_at, n.deletion_seen_at),
  n.user_id IS NOT NULL FROM users u LEFT JOIN news n USING (user_id)
""")
_UNDRAINED = text("SELECT FROM inbox WHERE state = 'pending' AND source <> 'plays' LIMIT 1")
_PLAYS_WAIT = text("SELECT FROM inbox WHERE state = 'pending' AND source = 'plays' LIMIT 1")
_TRIED = text("SELECT coalesce(max(attempts), 0) FROM inbox WHERE state = 'pending'")
# A push that waits because Auth0 does not take a name waits for the next one.
_LEFT = text("""
SELECT 'inbox', source FROM inbox WHERE state = 'pending' UNION ALL SELECT 'news', user_id FROM news
UNION ALL SELECT 'push', user_id FROM pushes WHERE due_at < 'infinity'
UNION ALL SELECT 'wish', user_id FROM wishes WHERE value <> '*'
UNION ALL SELECT 'condition', name FROM conditions
UNION ALL SELECT 'run', kind FROM runs WHERE state = 'running' AND kind <> 'backfill'
""")
