"""Whatever happens between a push's steps, it ends in what was earned and wished, and nothing foreign is lost (P9, P15 to P20).

A model tenant holds one person's metadata by Auth0's merge rules. Plays are counted and taken back, names and plans are
wished, somebody else writes other keys and other roles, records of all writes come late, twice or at once. In the middle
of a push, after its read or around its PATCH, any of this happens too: another pusher has its turn, a refresh applies an answer,
the lease runs out, the process dies. The one thing left out is a foreign change of the same key within the round trip
that P16 admits.
"""

import copy
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, cast

import zstandard
from hypothesis import HealthCheck, given, settings, strategies as st
from redis import Redis
from sqlalchemy import Engine, text

from worker.auth0.client import Tenant
from worker.auth0.pace import Budget
from worker.domain.roles import rules
from worker.domain.users import canonical, on_strong
from worker.queue import Witness
from worker.settings import Settings
from worker.store import pushes, users, wishes
from worker.sync.answers import apply
from worker.sync.drain import drain
from worker.sync.learn import LogRecords
from worker.sync.plans import Planner
from worker.sync.push import Push
from worker.sync.sweep import sweep
from worker.sync.turn import Turns

ADA = "auth0|ada"
EPOCH = datetime(2026, 11, 1, tzinfo=UTC)
Step = tuple[str, Any]


class Died(BaseException):
    """The process is killed here."""


@dataclass
class Model:
    """Auth0, as far as one person's metadata goes. `meanwhile` happens once at a point of the next push."""

    profile: dict[str, Any]
    records: list[dict[str, Any]] = field(default_factory=list)
    meanwhile: dict[str, Callable[[], None]] = field(default_factory=dict)
    clock: int = 0
    longest_call: float = 30.0

    def write(self, body: dict[str, dict[str, Any]], correlation_id: str | None = None) -> None:
        self.clock += 1
        for place, sent in body.items():
            merged = {**self.profile.get(place, {}), **sent}
            self.profile[place] = {key: value for key, value in merged.items() if value is not None}
        self.profile["updated_at"] = (EPOCH + timedelta(seconds=self.clock)).isoformat().replace("+00:00", ".000Z")
        self.records.append(
            {
                "type": "sapi",
                "date": self.profile["updated_at"],
                "log_id": str(self.clock),
                "references": {"correlation_id": correlation_id} if correlation_id else None,
                "details": {"request": {"method": "patch", "path": "/api/v2/users/auth0%7Cada"}},
            }
        )

    def read_user(self, _user_id: str) -> dict[str, Any]:
        answer = copy.deepcopy(self.profile)
        self._now("read")
        return answer

    def patch_user(self, _user_id: str, body: Any, correlation_id: str) -> dict[str, Any]:
        self._now("before")
        self.write(copy.deepcopy(body), correlation_id)
        answer = copy.deepcopy(self.profile)
        self._now("after")
        return answer

    def _now(self, point: str) -> None:
        happens = self.meanwhile.pop(point, None)
        if happens:
            happens()


class World:
    """The tenant, the post on its way, the copy and its loops."""

    def __init__(self, engine: Engine, redis: Redis) -> None:
        settings = Settings.model_validate(
            {
                "database_url": "postgresql://nobody@127.0.0.1/none",
                "redis_url": "redis://127.0.0.1:1/0",
                "auth0_domain": "acme.eu.auth0.com",
                "auth0_limits": {"global": (100_000.0, 100_000.0)},
            }
        )
        self.engine = engine
        self.budget = Budget(redis, settings)
        self.witness = Witness(redis, "acme.eu.auth0.com")
        self.planner = Planner(rules({"playlist_editor": 100, "fan": 10}), "")
        identity = {"provider": "auth0", "user_id": "ada", "connection": "c", "isSocial": False}
        self.model = Model({"user_id": ADA, "created_at": "2026-11-01T00:00:00.000Z", "identities": [identity]})
        self.model.write({"app_metadata": {"roles": ["admin"]}})
        self.foreign = ["admin"]
        self.plays = 0
        self.refresh(first=True)

    def sql(self, statement: str, **values: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(text(statement), values)

    def play(self, step: str, how: Any) -> None:
        getattr(self, f"do_{step}")(how)

    def do_plays(self, plays: int) -> None:
        self.plays = plays
        with self.engine.begin() as connection:
            connection.execute(text("DELETE FROM playlists"))
            connection.execute(
                text("INSERT INTO playlists (user_id, name, plays) VALUES (:id, 'mine', :plays)"),
                {"id": ADA, "plays": plays},
            )
            if plays % 2 == 0:  # else nobody tells
                pushes.mark(connection, [ADA])

    def do_wish(self, wish: tuple[Any, str]) -> None:
        with self.engine.begin() as connection:
            wishes.wish(connection, ADA, *wish)
            pushes.mark(connection, [ADA])

    def do_foreign_roles(self, roles: list[str]) -> None:
        """Have somebody else set the roles, ours left as they are, or taken away by hand."""
        kept = [] if not roles else [role for role in self.model.profile["app_metadata"]["roles"] if role == "fan"]
        self.foreign = [*roles]
        self.model.write({"app_metadata": {"roles": [*roles, *kept]}})

    def do_foreign_key(self, value: int) -> None:
        self.model.write({"app_metadata": {"theirs": value}, "user_metadata": {"colour": value}})

    def do_deliver(self, how: tuple[int, int]) -> None:
        start, number = how
        self.deliver(self.model.records[start : start + number])

    def do_refresh(self, _: None) -> None:
        self.refresh()

    def do_sweep(self, _: None) -> None:
        sweep(self.engine, self.planner, go_on=lambda: True)

    def do_lease_runs_out(self, _: None) -> None:
        self.sql("UPDATE pushes SET leased_until = now() - interval '1 s' WHERE leased_until IS NOT NULL")

    def do_die(self, _: None) -> None:
        raise Died

    def do_push(self, meanwhile: dict[str, Step]) -> None:
        """Have a pusher's turn, with what happens at its points; a push inside another is another process's."""
        outer = self.model.meanwhile
        self.model.meanwhile = {point: partial(self.play, *step) for point, step in meanwhile.items()}
        self.rests(hours=2)
        rounds = iter(range(4))
        turns = Turns(self.engine, cast("Tenant", self.model), self.planner, b"key")
        loop = Push(turns, self.budget, self.witness)
        try:
            loop.run(go_on=lambda: next(rounds, None) is not None)
        except Died:
            self.do_lease_runs_out(None)
        finally:
            self.model.meanwhile = outer

    def rests(self, hours: float) -> None:
        self.sql("UPDATE pushed SET pushed_at = pushed_at - :d", d=timedelta(hours=hours))
        self.sql("UPDATE pushes SET due_at = least(due_at, now()), rests_until = NULL WHERE due_at < 'infinity'")

    def deliver(self, records: list[dict[str, Any]]) -> None:
        if not records:
            return
        body = json.dumps([{"log_id": one["log_id"], "data": one} for one in records]).encode()
        self.sql(
            "INSERT INTO inbox (source, size, body) VALUES ('logs', :size, :body)",
            size=len(body),
            body=zstandard.compress(body),
        )
        drain(self.engine, LogRecords(), go_on=lambda: True)

    def refresh(self, *, first: bool = False) -> None:
        if first:
            self.deliver(self.model.records)
        with self.engine.begin() as connection:
            claims = users.claim(connection, "any", rows=1, lease=timedelta(0))
        answer = copy.deepcopy(self.model.profile)
        if claims:
            apply(self.engine, [(claims[0], answer)], on_strong, settle=None)

    def run_dry(self) -> None:
        self.model.meanwhile = {}
        self.do_lease_runs_out(None)
        delivered = 0
        for _ in range(12):
            self.deliver(self.model.records[delivered:])
            delivered = len(self.model.records)
            self.rests(hours=25)
            self.refresh()
            self.do_sweep(None)
            self.do_push({})
            with self.engine.connect() as connection:
                if not connection.execute(
                    text("SELECT FROM news UNION ALL SELECT FROM pushes UNION ALL SELECT FROM wishes")
                ).all():
                    return
        raise AssertionError("the loops never ran dry")


WISH = st.tuples(st.just("wish"), st.tuples(st.sampled_from(["displayName", "plan"]), st.sampled_from(["a", "b"])))
PLAYS = st.tuples(st.just("plays"), st.sampled_from([0, 9, 10, 99, 100, 101]))
KEY = st.tuples(st.just("foreign_key"), st.integers(1, 3))
DELIVER = st.tuples(st.just("deliver"), st.tuples(st.integers(0, 12), st.integers(1, 4)))
OTHER = st.tuples(st.sampled_from(["refresh", "sweep", "lease_runs_out"]), st.none())
DIE = st.tuples(st.just("die"), st.none())
NOTHING: dict[str, Step] = {}
INNER = st.tuples(st.just("push"), st.just(NOTHING))
MEANWHILE = st.dictionaries(
    st.sampled_from(["read", "before", "after"]), st.one_of(WISH, PLAYS, KEY, DELIVER, OTHER, DIE, INNER), max_size=2
)
PUSH = st.tuples(st.just("push"), MEANWHILE)
ROLES = st.tuples(st.just("foreign_roles"), st.lists(st.sampled_from(["admin", "beta"]), unique=True))
STEPS = st.lists(st.one_of(PUSH, PUSH, PUSH, WISH, PLAYS, PLAYS, KEY, ROLES, DELIVER, OTHER), min_size=4, max_size=16)


@settings(
    max_examples=int(os.environ.get("EXAMPLES", "100")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(steps=STEPS)
def test_any_schedule_of_pushes_ends_in_what_was_earned_and_wished(
    engine: Engine, redis_url: str, steps: list[Step]
) -> None:
    redis = Redis.from_url(redis_url)
    redis.flushdb()
    with engine.begin() as connection:
        connection.execute(
            text(
                "TRUNCATE users, news, inbox, parked, counters, conditions, playlists, wishes, pushes, pushed, sweep CASCADE"
            )
        )
    world = World(engine, redis)
    for step, how in steps:
        world.play(step, how)
    world.run_dry()
    redis.close()
    profile = world.model.profile
    roles = profile["app_metadata"]["roles"]
    earned = [role for role, least in (("playlist_editor", 100), ("fan", 10)) if world.plays >= least]
    assert sorted(roles) == sorted([*world.foreign, *earned])
    assert [role for role in roles if role in ("admin", "beta")] == world.foreign
    wished = {attribute: value for step, wish in steps if step == "wish" for attribute, value in [wish]}
    held = {**profile["app_metadata"], **profile.get("user_metadata", {})}
    assert set(wished) <= set(held)
    with engine.connect() as connection:
        [(known, name, plan)] = connection.execute(text("SELECT profile, display_name, plan FROM live_users")).all()
        assert canonical(known) == canonical(profile)
        assert (name, plan) == (held.get("displayName"), held.get("plan"))
        assert connection.execute(text("SELECT count(*) FROM parked")).scalar() == 0
        assert connection.execute(text("SELECT count(*) FROM conditions")).scalar() == 0
