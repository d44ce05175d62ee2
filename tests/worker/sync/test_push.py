"""Push against a simulated tenant over HTTPS (docs/protocol.md P15 to P20): what was earned or wished gets there, nothing else does."""

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from redis import Redis
from sqlalchemy import Engine, create_engine, text

from tests.simulator.running import Simulator
from worker.auth0.client import Tenant
from worker.auth0.pace import Budget
from worker.domain.pushes import MOST_IN_A_DAY
from worker.domain.roles import rules
from worker.domain.users import Tolerances
from worker.settings import Settings
from worker.store import pushes, users, wishes
from worker.store.users import UserNews
from worker.sync.plans import Planner
from worker.sync.push import Push
from worker.sync.refresh import Refresh
from worker.sync.sweep import sweep

AMPLE = {"global": (1000.0, 1000.0)}
READ, WRITE = "GET /api/v2/users/{id}", "PATCH /api/v2/users/{id}"


@pytest.fixture(scope="module")
def auth0() -> Iterator[Simulator]:
    simulator = Simulator("--plan", "none", "--index-lag", "0", "--log-skew", "0")
    yield simulator
    simulator.stop()


class Pusher:
    """A database, a budget and the loops over them, spoken to in the words of the rules."""

    def __init__(self, auth0: Simulator, engine: Engine, redis_url: str, **changes: Any) -> None:
        values: dict[str, Any] = {
            "database_url": "postgresql://nobody@127.0.0.1/none",
            "redis_url": redis_url,
            "auth0_domain": auth0.ready["domain"],
            "auth0_ca_file": auth0.ready["ca_file"],
            "auth0_m2m_client_id": auth0.ready["client_id"],
            "auth0_m2m_client_secret": auth0.ready["client_secret"],
            "auth0_limits": AMPLE,
            "auth0_budget_share": 1,
            "auth0_timeout": "2s",
            "default_display_name": "",
        }
        self.auth0, self.engine = auth0, engine
        self.settings = Settings(**values | changes)
        self.redis = Redis.from_url(redis_url)
        self.budget = Budget(self.redis, self.settings)
        self.tenant = Tenant(self.settings, self.redis, self.budget)
        self.planner = Planner(rules(self.settings.role_tiers), self.settings.default_display_name)
        self.budget.look("read_users")
        time.sleep(0.05)  # a bucket begins empty, and fills

    # What happens

    def knows(self, *user_ids: str, login: bool = False) -> None:
        """Have users read strongly, whatever they were before."""
        with self.engine.begin() as connection:
            users.mark(connection, [UserNews(user_id, strong=True) for user_id in user_ids])
        self.refresh()
        if login:
            self.sql(
                "UPDATE users SET login_seen_at = now() + interval '1 d' WHERE user_id = ANY(:ids)", ids=list(user_ids)
            )

    def refresh(self) -> None:
        left = iter(range(100))
        tolerances = Tolerances(timedelta(seconds=5), timedelta(seconds=60))
        Refresh(self.engine, self.tenant, self.budget, tolerances, b"key").run(
            go_on=lambda: next(left, None) is not None
        )

    def plays(self, user_id: str, plays: int) -> None:
        """Have the user's playlists played so often in all."""
        with self.engine.begin() as connection:
            connection.execute(text("DELETE FROM playlists WHERE user_id = :id"), {"id": user_id})
            connection.execute(
                text("INSERT INTO playlists (user_id, name, plays) VALUES (:id, 'mine', :plays)"),
                {"id": user_id, "plays": plays},
            )
            pushes.mark(connection, [user_id])

    def wishes(self, user_id: str, attribute: Any, value: str) -> None:
        with self.engine.begin() as connection:
            wishes.wish(connection, user_id, attribute, value)
            pushes.mark(connection, [user_id])

    def push(self, rounds: int = 100, now: Callable[[], float] = time.monotonic, *, wait: bool = True) -> float | None:
        """Run the loop until nothing is due; with `wait` even what waits a second or rests."""
        left = iter(range(rounds))
        loop = Push(self.engine, self.tenant, self.budget, self.planner, b"key", now)
        again: float | None = 0.0
        for _ in range(30):
            if wait:
                self.sql(
                    "UPDATE pushes SET due_at = least(due_at, now()), rests_until = NULL WHERE due_at < 'infinity'"
                )
            again = loop.run(go_on=lambda: next(left, None) is not None)
            if not wait or not self.ask("SELECT FROM pushes WHERE due_at < 'infinity'"):
                break
        return again

    def sweep(self) -> int:
        return sweep(self.engine, self.planner, go_on=lambda: True)

    def rests(self, hours: float = 2) -> None:
        """Let pushes of before be long ago."""
        self.sql("UPDATE pushed SET pushed_at = pushed_at - :d", d=timedelta(hours=hours))

    def patch(self, user_id: str, **body: Any) -> None:
        """Have somebody else write to Auth0."""
        answer = self.auth0.api("PATCH", f"users/{quote(user_id, safe='')}", json=body)
        assert answer.status_code == 200, answer.text

    def fault(self, **fault: Any) -> None:
        self.auth0.control("PUT", "faults", [{"where": "api", "probability": 1, **fault}])

    def mend(self) -> None:
        self.auth0.control("DELETE", "faults")

    # What is so

    def held(self, user_id: str) -> dict[str, Any]:
        """What Auth0 holds of the user's metadata."""
        user = self.auth0.truth()[user_id]
        return {**user.get("app_metadata", {}), **user.get("user_metadata", {})}

    def calls(self) -> dict[str, int]:
        calls: dict[str, int] = self.auth0.control("GET", "stats")["api_calls"]
        return calls

    def sql(self, statement: str, **values: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(text(statement), values)

    def ask(self, sql: str) -> list[Any]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(sql))]


@pytest.fixture
def pusher(auth0: Simulator, database_url: str, redis_url: str) -> Iterator[Callable[..., Pusher]]:
    auth0.control("DELETE", "faults")
    engine = create_engine(database_url.replace("postgresql:", "postgresql+psycopg:"))
    made: list[Pusher] = []

    def make(**changes: Any) -> Pusher:
        made.append(Pusher(auth0, engine, redis_url, **changes))
        auth0.control("POST", "stats/reset")
        return made[-1]

    yield make
    for one in made:
        one.tenant.close()
        one.redis.close()
    engine.dispose()


@pytest.fixture
def ada(pusher: Callable[..., Pusher]) -> tuple[Pusher, str]:
    """A pusher, and somebody the copy knows."""
    push = pusher()
    [user_id] = push.auth0.sign_up(1, connection="Username-Password-Authentication")
    push.patch(user_id, app_metadata={"plan": None, "limits": None}, user_metadata={"displayName": None})
    push.knows(user_id)
    push.auth0.control("POST", "stats/reset")
    return push, user_id


def test_a_hundred_plays_earn_the_role_by_one_read_and_one_patch(ada: tuple[Pusher, str]) -> None:
    push, user_id = ada
    push.plays(user_id, 100)
    push.push()
    assert push.held(user_id)["roles"] == ["playlist_editor"]
    assert push.calls() == {READ: 1, WRITE: 1}
    assert push.ask("SELECT roles FROM live_users") == [(["playlist_editor"],)]
    assert push.ask("SELECT count(*) FROM pushes") == [(0,)]


def test_ninety_nine_plays_earn_nothing_and_cost_nothing(ada: tuple[Pusher, str]) -> None:
    push, user_id = ada
    push.plays(user_id, 99)
    push.push()
    assert push.calls() == {}
    assert push.ask("SELECT count(*) FROM pushes") == [(0,)]


def test_fewer_plays_lose_the_role_and_foreign_roles_stay_in_their_order(ada: tuple[Pusher, str]) -> None:
    push, user_id = ada
    push.patch(user_id, app_metadata={"roles": ["admin", "playlist_editor", "beta"], "theirs": {"a": 1}})
    push.knows(user_id)
    push.plays(user_id, 99)
    push.push()
    assert push.held(user_id) == {"roles": ["admin", "beta"], "theirs": {"a": 1}}
