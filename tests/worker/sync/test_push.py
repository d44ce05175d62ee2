"""Push against a simulated tenant over HTTPS (docs/protocol.md P15 to P20): what was earned or wished gets there, nothing else does."""

import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
import zstandard
from redis import Redis
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import ProgrammingError

from tests.simulator.running import Simulator
from worker.auth0.client import Tenant
from worker.auth0.pace import Budget
from worker.domain.pushes import MOST_IN_A_DAY
from worker.domain.roles import rules
from worker.domain.users import Tolerances
from worker.errors import BadValue
from worker.queue import Witness
from worker.settings import Settings
from worker.store import notes, pushes, users, wishes
from worker.store.users import UserNews
from worker.sync.drain import drain
from worker.sync.learn import LogRecords
from worker.sync.plans import TOO_MANY, Planner
from worker.sync.push import Push
from worker.sync.refresh import Refresh
from worker.sync.sweep import sweep
from worker.sync.turn import Turns
from worker.sync.wish import choose_plan

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
        witness = Witness(self.redis, self.settings.auth0_domain)
        loop = Push(Turns(self.engine, self.tenant, self.planner, b"key", now), self.budget, witness)
        again: float | None = 0.0
        for _ in range(30):
            if wait:
                self.rests(hours=1 / 12)
            again = loop.run(go_on=lambda: next(left, None) is not None)
            if not wait or not self.ask("SELECT FROM pushes WHERE due_at < 'infinity'"):
                break
        return again

    def sweep(self) -> int:
        return sweep(self.engine, self.planner, go_on=lambda: True)

    def rests(self, hours: float) -> None:
        """Let time pass for marks and pushes."""
        self.sql("UPDATE pushed SET pushed_at = pushed_at - :d", d=timedelta(hours=hours))
        self.sql("UPDATE pushes SET due_at = least(due_at, now()), rests_until = NULL WHERE due_at < 'infinity'")

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
    push.patch(user_id, app_metadata={}, user_metadata={})  # which wipes them
    push.knows(user_id)
    push.auth0.control("POST", "stats/reset")
    return push, user_id


# The roles


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


def test_plays_of_a_linked_identity_count_for_the_primary(ada: tuple[Pusher, str]) -> None:  # P13
    push, user_id = ada
    [other] = push.auth0.sign_up(1, connection="google-oauth2")
    push.knows(other)
    push.plays(user_id, 60)
    push.plays(other, 40)
    push.push()
    assert "roles" not in push.held(user_id)
    provider, _, key = other.partition("|")
    linked = push.auth0.api(
        "POST", f"users/{quote(user_id, safe='')}/identities", json={"provider": provider, "user_id": key}
    )
    assert linked.status_code == 201, linked.text
    push.knows(user_id)
    push.refresh()  # the secondary's own read makes it an alias
    push.push()
    assert push.held(user_id)["roles"] == ["playlist_editor"]


def test_a_role_that_is_no_longer_named_stays_where_it_is(ada: tuple[Pusher, str], pusher: Any) -> None:  # P15
    push, user_id = ada
    push.plays(user_id, 100)
    push.push()
    push = pusher(role_tiers="curator=1000")
    push.plays(user_id, 10)
    push.push()
    assert push.held(user_id)["roles"] == ["playlist_editor"]


def test_a_count_that_fails_changes_nothing(ada: tuple[Pusher, str]) -> None:
    push, user_id = ada
    push.patch(user_id, app_metadata={"roles": ["playlist_editor"]})
    push.knows(user_id)
    push.plays(user_id, 100)
    push.auth0.control("POST", "stats/reset")
    push.sql("ALTER TABLE playlists RENAME COLUMN plays TO lost")
    with pytest.raises(ProgrammingError):
        push.push()
    push.sql("ALTER TABLE playlists RENAME COLUMN lost TO plays")
    push.push()
    assert push.calls() == {}
    assert push.held(user_id)["roles"] == ["playlist_editor"]


@pytest.mark.parametrize("odd", ["admin", {"admin": True}, 7])
def test_roles_that_are_no_list_are_not_destroyed(ada: tuple[Pusher, str], odd: Any) -> None:
    push, user_id = ada
    push.patch(user_id, app_metadata={"roles": odd})
    push.knows(user_id)
    push.plays(user_id, 100)
    push.wishes(user_id, "plan", "pro")
    push.push()
    assert push.held(user_id) == {"roles": odd, "plan": "pro"}, "what can be written beside it was not"
    [(parked,)] = push.ask("SELECT parked FROM pushes")
    assert parked["roles"]["reason"] == "app_metadata.roles is no list"
    push.patch(user_id, app_metadata={"roles": ["admin"]})
    push.knows(user_id)
    push.push()
    assert push.held(user_id)["roles"] == ["admin", "playlist_editor"]


# P15: a query over state


def test_what_nobody_told_of_is_found_by_the_sweep(ada: tuple[Pusher, str]) -> None:  # P15
    push, user_id = ada
    push.plays(user_id, 100)
    push.push()
    push.rests(hours=2)
    push.sql("DELETE FROM playlists")
    push.sql("DELETE FROM pushes")
    push.push()
    assert push.held(user_id)["roles"] == ["playlist_editor"]
    assert push.sweep() == 1
    push.push()
    assert push.held(user_id)["roles"] == []
    assert push.sweep() == 0


def test_a_changed_tier_shows_up_by_itself(ada: tuple[Pusher, str], pusher: Any) -> None:  # P15
    push, user_id = ada
    push.plays(user_id, 50)
    push.push()
    push = pusher(role_tiers="playlist_editor=50,fan=10")
    push.sweep()
    push.push()
    assert push.held(user_id)["roles"] == ["playlist_editor", "fan"]


def test_a_role_removed_by_hand_comes_back_and_a_foreign_one_given_meanwhile_stays(ada: tuple[Pusher, str]) -> None:
    push, user_id = ada
    push.plays(user_id, 100)
    push.push()
    push.rests(hours=2)
    push.patch(user_id, app_metadata={"roles": ["admin"]})
    push.knows(user_id)  # a changed snapshot marks it
    push.push()
    assert push.held(user_id)["roles"] == ["admin", "playlist_editor"]


def test_a_wish_whose_mark_is_lost_is_found_by_the_sweep(ada: tuple[Pusher, str]) -> None:  # P15
    push, user_id = ada
    push.wishes(user_id, "plan", "pro")
    push.sql("DELETE FROM pushes")
    assert push.sweep() == 1
    push.push()
    assert push.held(user_id)["plan"] == "pro"


def test_the_sweep_goes_through_everybody_by_slices(ada: tuple[Pusher, str], monkeypatch: pytest.MonkeyPatch) -> None:
    push, _ = ada
    ids = push.auth0.sign_up(7)
    push.knows(*ids)
    for one in ids:
        push.plays(one, 100)
    push.sql("DELETE FROM pushes")
    monkeypatch.setattr("worker.sync.sweep.ROWS", 3)
    once = iter([True])
    assert sweep(push.engine, push.planner, go_on=lambda: next(once, False)) < 7
    push.sweep()
    assert push.ask("SELECT count(*) FROM pushes") == [(7,)]


# P16: in order


def test_only_a_row_that_holds_a_snapshot_is_pushed(ada: tuple[Pusher, str]) -> None:  # P16
    push, _ = ada
    [other] = push.auth0.sign_up(1)
    push.sql("INSERT INTO users (user_id) VALUES (:id)", id=other)
    push.plays(other, 100)
    push.push()
    assert push.calls() == {}
    push.knows(other)
    push.push()
    assert push.held(other)["roles"] == ["playlist_editor"]


def test_without_both_tokens_nothing_is_read(ada: tuple[Pusher, str], pusher: Any) -> None:  # P16
    user_id = ada[1]
    push = pusher(auth0_limits={"read_users": (10.0, 10.0), "write_users": (1.0, 0.001), "other": (1.0, 1.0)})
    push.plays(user_id, 100)
    assert push.push(wait=False) is not None
    push.sql("UPDATE pushes SET due_at = now()")
    again = push.push(wait=False)
    assert again is not None
    assert again > 0
    assert push.calls() == {}
    assert push.ask("SELECT leased_until FROM pushes") == [(None,)]


def test_a_bucket_of_one_token_lets_a_push_through(ada: tuple[Pusher, str], pusher: Any) -> None:  # P16, P26
    user_id = ada[1]
    push = pusher(auth0_limits={"global": (1.0, 20.0)})
    time.sleep(0.2)
    push.plays(user_id, 100)
    push.push()
    assert push.held(user_id)["roles"] == ["playlist_editor"]


def test_a_read_that_is_two_seconds_old_is_made_again(ada: tuple[Pusher, str]) -> None:  # P16
    push, user_id = ada
    push.plays(user_id, 100)
    ticks = iter([0.0, 2.1, 10.0, 10.1])
    push.push(now=lambda: next(ticks))
    assert push.calls() == {READ: 2, WRITE: 1}
    assert push.ask("SELECT count(*) FROM pushed") == [(1,)]


class AtPatch(Tenant):
    """A tenant before whose PATCH, or after whose read, something happens."""

    def __init__(
        self, tenant: Tenant, *, before: Callable[[], object] | None, read: Callable[[], object] | None
    ) -> None:
        self.__dict__ = tenant.__dict__
        self._before, self._read = before, read

    def patch_user(self, *arguments: Any) -> Any:
        before, self._before = self._before, None
        if before:
            before()
        return super().patch_user(*arguments)

    def read_user(self, user_id: str) -> Any:
        found = super().read_user(user_id)
        after, self._read = self._read, None
        if after:
            after()
        return found


def meddled(
    push: Pusher, *, before: Callable[[], object] | None = None, read: Callable[[], object] | None = None
) -> None:
    """Have something happen once, between a push's read and its PATCH, or right after its read."""
    push.tenant = AtPatch(push.tenant, before=before, read=read)


def test_whoever_lost_the_lease_while_reading_writes_nothing(ada: tuple[Pusher, str]) -> None:  # P16
    push, user_id = ada
    push.plays(user_id, 100)
    meddled(push, read=lambda: push.sql("UPDATE pushes SET leased_until = leased_until + interval '1 s'"))
    push.push(rounds=1)
    assert push.calls() == {READ: 1}
    push.sql("UPDATE pushes SET leased_until = now() - interval '1 s'")
    push.push()
    assert push.held(user_id)["roles"] == ["playlist_editor"]


def test_whose_lease_ran_out_while_reading_writes_nothing(ada: tuple[Pusher, str]) -> None:  # P16
    push, user_id = ada
    push.plays(user_id, 100)
    meddled(push, read=lambda: time.sleep(2.5))
    push.tenant.longest_call = -5.0  # type: ignore[misc]  # so that a lease lasts two seconds
    push.push(rounds=1)
    assert push.calls() == {READ: 1}


def test_an_answer_applied_after_the_reads_makes_it_begin_again(ada: tuple[Pusher, str]) -> None:  # P9, P16
    push, user_id = ada
    push.plays(user_id, 100)
    push.sql(
        "CREATE FUNCTION overtake() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN NEW.version := NEW.version + 1; RETURN NEW; END $$"
    )
    push.sql("CREATE TRIGGER overtake BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION overtake()")
    push.push(rounds=1)
    push.sql("DROP FUNCTION overtake CASCADE")
    assert push.calls() == {READ: 1}
    push.push()
    assert push.held(user_id)["roles"] == ["playlist_editor"]


def test_another_answer_applied_meanwhile_makes_it_begin_again(ada: tuple[Pusher, str]) -> None:  # P9, P16
    push, user_id = ada
    push.plays(user_id, 100)
    meddled(push, read=lambda: push.sql("UPDATE users SET version = version + 1"))
    push.push()
    assert push.calls() == {READ: 2, WRITE: 1}


def test_a_foreign_change_of_another_key_between_read_and_patch_survives(ada: tuple[Pusher, str]) -> None:  # P16
    push, user_id = ada
    push.plays(user_id, 100)
    push.wishes(user_id, "displayName", "Ada")
    meddled(push, before=lambda: push.patch(user_id, app_metadata={"theirs": 1}, user_metadata={"colour": "red"}))
    push.push()
    assert push.held(user_id) == {
        "theirs": 1,
        "colour": "red",
        "displayName": "Ada",
        "roles": ["playlist_editor"],
    }


def test_only_keys_that_differ_are_sent(ada: tuple[Pusher, str]) -> None:  # P16
    push, user_id = ada
    push.patch(user_id, app_metadata={"roles": ["playlist_editor"]}, user_metadata={"displayName": "Ada"})
    push.knows(user_id)
    push.plays(user_id, 100)
    push.wishes(user_id, "displayName", "Ada")
    push.wishes(user_id, "plan", "pro")
    before = push.auth0.api("GET", "logs", params={"per_page": 1}).json()[0]["log_id"]
    push.push()
    [record] = [one for one in push.auth0.pull_logs(before) if one["type"] == "sapi"]
    assert record["details"]["request"]["body"] == {"app_metadata": {"plan": "pro"}}
    assert push.ask("SELECT count(*) FROM wishes") == [(0,)]


def test_an_answer_that_does_not_show_what_was_sent_parks_the_push(ada: tuple[Pusher, str]) -> None:  # P16
    push, user_id = ada
    push.plays(user_id, 100)

    class Forgetful(AtPatch):
        def patch_user(self, *arguments: Any) -> Any:
            super().patch_user(*arguments)
            push.patch(user_id, app_metadata={"roles": []})
            return push.auth0.user(user_id)

    push.tenant = Forgetful(push.tenant, before=None, read=None)
    push.push()
    assert push.calls()[WRITE] == 2, "ours and the foreign one"
    [(parked,)] = push.ask("SELECT parked -> 'roles' ->> 'reason' FROM pushes")
    assert parked == "Auth0's answer does not show what was sent"


def test_a_crash_between_the_patch_and_its_commit_ends_in_the_same_state(ada: tuple[Pusher, str]) -> None:
    push, user_id = ada
    push.plays(user_id, 100)
    push.wishes(user_id, "displayName", "Ada")

    class Crashing(AtPatch):
        def patch_user(self, *arguments: Any) -> Any:
            super().patch_user(*arguments)
            raise KeyboardInterrupt

    sound = push.tenant
    push.tenant = Crashing(sound, before=None, read=None)
    with pytest.raises(KeyboardInterrupt):
        push.push()
    assert push.ask("SELECT gained, applied FROM pushed") == [(["playlist_editor"], None)]
    assert push.ask("SELECT value FROM wishes") == [("Ada",)]
    push.tenant = sound
    push.sql("UPDATE pushes SET leased_until = now() - interval '1 s'")
    push.rests(hours=2)
    push.push()
    assert push.calls() == {READ: 2, WRITE: 1}
    assert push.ask("SELECT display_name, roles FROM live_users") == [("Ada", ["playlist_editor"])]
    assert push.ask("SELECT (SELECT count(*) FROM wishes), (SELECT count(*) FROM pushes)") == [(0, 0)]


# P17: wishes and the default name


def test_a_wish_is_pushed_whatever_auth0_holds_and_then_ends(ada: tuple[Pusher, str]) -> None:  # P17
    push, user_id = ada
    push.wishes(user_id, "displayName", "Ada")
    assert push.ask("SELECT display_name FROM live_users") == [("Ada",)]
    push.patch(user_id, user_metadata={"displayName": "Grace", "colour": "red"})
    push.push()
    assert push.held(user_id) == {"displayName": "Ada", "colour": "red"}
    assert push.ask("SELECT count(*) FROM wishes") == [(0,)]
    assert push.ask("SELECT display_name FROM live_users") == [("Ada",)]


def test_a_wish_made_while_another_is_pushed_is_pushed_too(ada: tuple[Pusher, str]) -> None:  # P17
    push, user_id = ada
    push.wishes(user_id, "displayName", "Ada")
    meddled(push, before=lambda: push.wishes(user_id, "displayName", "Countess"))
    push.push()
    assert push.held(user_id)["displayName"] == "Countess"
    assert push.ask("SELECT count(*) FROM wishes") == [(0,)]


def test_a_tombstone_drops_its_wishes(ada: tuple[Pusher, str]) -> None:  # P13
    push, user_id = ada
    push.wishes(user_id, "displayName", "Ada")
    push.auth0.act(user_id, "delete")
    push.push()
    assert push.ask("SELECT deleted_at IS NOT NULL FROM users") == [(True,)]
    assert push.ask("SELECT (SELECT count(*) FROM wishes), (SELECT count(*) FROM pushes)") == [(0, 0)]


def test_a_secondary_drops_its_wishes(ada: tuple[Pusher, str]) -> None:  # P13
    push, user_id = ada
    [other] = push.auth0.sign_up(1, connection="google-oauth2")
    push.knows(other)
    push.wishes(other, "displayName", "Other")
    provider, _, key = other.partition("|")
    push.auth0.api("POST", f"users/{quote(user_id, safe='')}/identities", json={"provider": provider, "user_id": key})
    push.knows(user_id)
    push.refresh()
    assert push.ask("SELECT count(*) FROM wishes") == [(0,)]


def test_who_logs_in_without_a_name_gets_the_default_one_last(pusher: Any) -> None:  # P17
    push = pusher(default_display_name="user")
    nameless, editor, stranger = push.auth0.sign_up(3, connection="Username-Password-Authentication")
    for one in (nameless, editor, stranger):
        push.patch(one, user_metadata={"displayName": None})
    push.knows(editor, stranger)
    push.sql("UPDATE users SET login_seen_at = NULL")
    push.knows(nameless, login=True)
    push.sql("DELETE FROM pushes")
    assert push.sweep() == 1
    push.push(rounds=0)
    with push.engine.begin() as connection:
        pushes.mark(connection, [stranger])
    push.plays(editor, 100)
    push.push()
    assert push.held(nameless)["displayName"] == "user"
    assert "displayName" not in push.held(stranger), "somebody who has not logged in"
    pushed = [user_id for (user_id,) in push.ask("SELECT user_id FROM pushed ORDER BY id")]
    assert pushed == [editor, nameless]


def test_who_turns_out_to_want_a_default_name_alone_goes_last(pusher: Any) -> None:  # P17
    push = pusher(default_display_name="user")
    nameless, editor = push.auth0.sign_up(2, connection="Username-Password-Authentication")
    push.patch(nameless, user_metadata={"displayName": None})
    push.patch(editor, user_metadata={"displayName": "Ada"})
    push.knows(nameless, login=True)
    push.knows(editor)
    push.plays(editor, 100)
    with push.engine.begin() as connection:
        pushes.mark(connection, [nameless])  # by somebody who did not know better
    push.sql("UPDATE pushes SET last = false, due_at = now() - interval '1 min' WHERE user_id = :id", id=nameless)
    push.push()
    assert push.ask("SELECT user_id FROM pushed ORDER BY id") == [(editor,), (nameless,)]


def test_the_default_name_is_never_written_over_a_name_chosen_meanwhile(pusher: Any) -> None:  # P17
    push = pusher(default_display_name="user")
    [user_id] = push.auth0.sign_up(1, connection="Username-Password-Authentication")
    push.patch(user_id, user_metadata={"displayName": None})
    push.knows(user_id, login=True)
    push.sweep()
    push.patch(user_id, user_metadata={"displayName": "Ada"})
    push.push()
    assert push.held(user_id)["displayName"] == "Ada"


def test_the_default_name_is_not_written_while_a_wish_is_open(pusher: Any) -> None:  # P17
    push = pusher(default_display_name="user")
    [user_id] = push.auth0.sign_up(1, connection="Username-Password-Authentication")
    push.patch(user_id, user_metadata={"displayName": None})
    push.knows(user_id, login=True)
    push.wishes(user_id, "displayName", "Ada")
    push.auth0.control("POST", "stats/reset")
    push.push()
    assert push.held(user_id)["displayName"] == "Ada"
    assert push.calls() == {READ: 1, WRITE: 1}, "another name was pushed before the wish"


def test_a_login_without_a_name_asks_for_the_default_one(pusher: Any) -> None:  # P15, P17
    push = pusher(default_display_name="user")
    [user_id] = push.auth0.sign_up(1, connection="Username-Password-Authentication")
    push.patch(user_id, user_metadata={"displayName": None})
    with push.engine.begin() as connection:
        seen = datetime.now(UTC) + timedelta(days=1)
        users.mark(connection, [UserNews(user_id, newest=seen, login_seen_at=seen)])
    push.refresh()
    push.push()
    assert push.held(user_id)["displayName"] == "user"
    assert push.ask("SELECT display_name FROM live_users") == [("user",)]


def test_with_the_default_name_off_nobody_gets_one(ada: tuple[Pusher, str]) -> None:  # P17
    push, user_id = ada
    push.knows(user_id, login=True)
    push.sweep()
    with push.engine.begin() as connection:
        pushes.mark(connection, [], last=[user_id])
    push.auth0.control("POST", "stats/reset")
    push.push()
    assert push.calls() == {}
    assert push.ask("SELECT count(*) FROM pushes") == [(0,)]


# P18: what Auth0 rejects


def test_a_name_that_is_rejected_parks_and_does_not_hold_back_a_role(ada: tuple[Pusher, str]) -> None:  # P18
    push, user_id = ada
    push.plays(user_id, 100)
    push.wishes(user_id, "displayName", "x" * 12_000)
    push.push()
    assert push.held(user_id) == {"roles": ["playlist_editor"]}
    [(parked,)] = push.ask("SELECT parked FROM pushes")
    assert list(parked) == ["displayName"]
    reason = parked["displayName"]["reason"]
    assert reason.startswith("Auth0 rejected the request: 400")
    assert re.search(r"the profile would have 12,\d{3} bytes, and Auth0's cap is 10,240$", reason)
    calls = push.calls()
    push.sql("UPDATE pushes SET due_at = now()")
    push.push()
    push.sweep()
    push.push()
    assert push.calls() == calls, "it was tried again though nothing differs"
    push.wishes(user_id, "displayName", "Ada")
    push.push()
    assert push.held(user_id) == {"roles": ["playlist_editor"], "displayName": "Ada"}
    assert push.ask("SELECT count(*) FROM pushes") == [(0,)]


@pytest.mark.parametrize("status", [400, 409, 413])
def test_what_is_rejected_is_tried_again_when_the_profile_differs(ada: tuple[Pusher, str], status: int) -> None:  # P18
    push, user_id = ada
    push.plays(user_id, 100)
    push.fault(kind="status", status=status, match={"method": "PATCH"})
    push.push()
    assert push.ask(
        "SELECT parked -> 'roles' ->> 'reason' ~ '^Auth0 rejected the request: \\d+', due_at = 'infinity' FROM pushes"
    ) == [(True, True)]
    assert push.ask("SELECT FROM pushes WHERE parked::text ~ 'cap'") == []
    assert push.ask("SELECT count(*) FROM pushed") == [(0,)], "what was not carried out is counted"
    push.mend()
    push.sweep()
    push.push()
    assert "roles" not in push.held(user_id)
    push.auth0.act(user_id, "change_name")
    push.knows(user_id)
    push.sweep()
    push.push()
    assert push.held(user_id)["roles"] == ["playlist_editor"]


def test_what_is_rejected_is_tried_again_when_other_roles_are_earned(
    ada: tuple[Pusher, str], pusher: Any
) -> None:  # P18
    user_id = ada[1]
    push = pusher(role_tiers="playlist_editor=100,fan=10")
    push.plays(user_id, 100)
    push.fault(kind="status", status=400, match={"method": "PATCH"})
    push.push()
    push.mend()
    push.plays(user_id, 101)
    push.push()
    assert push.calls()[WRITE] == 1, "the same was tried again"
    push.plays(user_id, 10)
    push.push()
    assert push.held(user_id)["roles"] == ["fan"]


def test_a_user_that_is_gone_at_the_patch_is_news(ada: tuple[Pusher, str]) -> None:  # P18
    push, user_id = ada
    push.plays(user_id, 100)
    meddled(push, before=lambda: push.auth0.act(user_id, "delete"))
    push.push(rounds=1)
    assert push.ask("SELECT strong FROM news") == [(True,)]
    push.refresh()
    assert push.ask("SELECT deleted_at IS NOT NULL FROM users") == [(True,)]
    push.push()
    assert push.ask("SELECT count(*) FROM pushes") == [(0,)]


@pytest.mark.parametrize("fault", [{"kind": "status", "status": 429}, {"kind": "status", "status": 403}], ids=str)
def test_what_concerns_all_pauses_the_group_and_parks_nobody(ada: tuple[Pusher, str], fault: Any) -> None:  # P18
    push, user_id = ada
    push.plays(user_id, 100)
    push.sql("UPDATE pushes SET due_at = now()")
    push.fault(match={"method": "PATCH"}, **fault)
    push.push(wait=False)
    calls = push.calls()
    assert calls == {READ: 1, WRITE: 1}
    push.sql("UPDATE pushes SET due_at = now()")
    again = push.push(wait=False)
    assert again is not None
    assert again > 0
    assert push.calls() == calls, "somebody wrote during the pause"
    assert push.ask("SELECT parked, leased_until, attempts FROM pushes") == [({}, None, 0)]
    assert push.ask("SELECT count(*) FROM pushed") == [(0,)]
    push.mend()


def test_an_outage_of_writing_loses_nothing(ada: tuple[Pusher, str]) -> None:  # P18
    push, user_id = ada
    push.plays(user_id, 100)
    push.fault(kind="status", status=500, match={"method": "PATCH"})
    push.push(rounds=1)
    push.mend()
    push.redis.flushall()
    push.budget.look("read_users")
    time.sleep(0.05)
    push.rests(hours=2)
    push.push()
    assert push.held(user_id)["roles"] == ["playlist_editor"]


@pytest.mark.parametrize(
    ("scopes", "wish", "missing"),
    [
        (["read:users"], "plan", "update:users_app_metadata"),
        (["read:users", "update:users_app_metadata"], "displayName", "update:users"),
    ],
)
def test_a_missing_scope_stops_pushes_loudly_and_loses_nothing(
    pusher: Any, scopes: list[str], wish: str, missing: str
) -> None:  # P18
    auth0 = pusher().auth0
    client = auth0.control("POST", "clients", {"scopes": scopes})
    push = pusher(auth0_m2m_client_id=client["client_id"], auth0_m2m_client_secret=client["client_secret"])
    [user_id] = auth0.sign_up(1)
    push.knows(user_id)
    push.wishes(user_id, wish, "this")
    push.push()
    [(name, detail)] = push.ask("SELECT name, detail FROM conditions")
    assert name == "writing_refused"
    assert detail.startswith(f"scope {missing} is missing")
    push.knows(user_id)
    assert push.ask("SELECT count(*) FROM conditions") == [(1,)], "reading still works, which mends nothing"
    push.redis.flushall()
    mended = pusher()
    mended.push()
    assert mended.held(user_id)[wish] == "this"
    assert push.ask("SELECT count(*) FROM conditions") == [(0,)]


def test_more_than_ten_pushes_in_a_day_park(ada: tuple[Pusher, str]) -> None:  # P18
    push, user_id = ada
    push.plays(user_id, 100)
    for number in range(MOST_IN_A_DAY + 3):
        push.push()
        assert ("roles" in push.held(user_id)) == (number < MOST_IN_A_DAY)
        push.patch(user_id, app_metadata={"roles": None})
        push.knows(user_id)
    assert push.ask("SELECT parked -> 'roles' ->> 'reason' FROM pushes") == [(TOO_MANY,)]
    push.wishes(user_id, "plan", "pro")
    push.push()
    assert push.held(user_id) == {"plan": "pro", "roles": ["playlist_editor"]}, "it is tried again when that differs"
    push.patch(user_id, app_metadata={"roles": None})
    push.knows(user_id)
    push.push()
    assert "roles" not in push.held(user_id)
    push.rests(hours=25)
    push.sweep()
    push.push()
    assert push.held(user_id)["roles"] == ["playlist_editor"], "another day is another chance"


def test_who_earns_and_loses_a_role_all_the_time_costs_few_calls(ada: tuple[Pusher, str]) -> None:
    push, user_id = ada
    for number in range(20):
        push.plays(user_id, 100 if number % 2 == 0 else 99)
        push.sql("UPDATE pushes SET due_at = now()")  # a second later
        push.push(wait=False)
    assert push.calls() == {READ: 1, WRITE: 1}
    assert push.ask("SELECT count(*) FROM pushes WHERE rests_until > now()") == [(1,)]
    push.push()
    assert push.held(user_id)["roles"] == []


def test_a_name_chosen_right_after_the_default_one_was_pushed_waits_for_a_second(pusher: Any) -> None:
    push = pusher(default_display_name="user")
    [user_id] = push.auth0.sign_up(1, connection="Username-Password-Authentication")
    push.patch(user_id, user_metadata={"displayName": None})
    push.knows(user_id, login=True)
    push.sweep()
    push.push()
    assert push.held(user_id)["displayName"] == "user"
    push.sql("UPDATE pushed SET pushed_at = now()")  # this very moment
    push.wishes(user_id, "displayName", "Ada")
    push.sql("UPDATE pushes SET due_at = now()")
    push.push(wait=False)
    assert push.ask("SELECT rests_until BETWEEN now() AND now() + interval '1 s' FROM pushes") == [(True,)]


# P19: the brake


def many_editors(push: Pusher, number: int) -> list[str]:
    ids = push.auth0.sign_up(number)
    for one in ids:
        push.patch(one, app_metadata={"roles": ["admin", "playlist_editor"], "plan": None})
    push.knows(*ids)
    for one in ids:
        push.plays(one, 1)
    return ids


def test_removals_of_roles_stop_beyond_a_days_share_until_a_human_answers(pusher: Any) -> None:  # P19
    push = pusher()
    ids = many_editors(push, 13)
    push.push()
    left = [one for one in ids if "playlist_editor" in push.held(one)["roles"]]
    assert len(left) == 3
    assert push.ask("SELECT count(*), count(braked_at) FROM pushes") == [(3, 3)]
    assert push.ask("SELECT name FROM conditions") == [("removals_braked",)]
    calls = push.calls()
    push.sweep()
    push.push()
    assert push.calls() == calls, "a braked row was claimed"
    push.wishes(left[0], "plan", "pro")
    push.push()
    assert push.held(left[0]) == {**push.held(left[0]), "plan": "pro", "roles": ["admin", "playlist_editor"]}
    with push.engine.begin() as connection:
        assert pushes.allow_removals(connection, 2) == 2
    push.rests(hours=2)
    push.push()
    assert sum("playlist_editor" in push.held(one)["roles"] for one in left) == 1
    assert push.ask("SELECT count(braked_at) FROM pushes") == [(1,)]


def test_a_role_gained_beside_a_braked_loss_is_written(pusher: Any) -> None:  # P19
    push = pusher(role_tiers="playlist_editor=100,fan=1")
    ids = many_editors(push, 11)
    push.push()
    held = sorted(push.held(one)["roles"] for one in ids)
    assert held == [["admin", "fan"]] * 10 + [["admin", "playlist_editor", "fan"]]


def test_a_braked_loss_that_is_not_wanted_any_more_is_forgotten(pusher: Any) -> None:  # P19
    push = pusher()
    ids = many_editors(push, 11)
    push.push()
    [(braked,)] = push.ask("SELECT user_id FROM pushes")
    assert braked in ids
    push.plays(braked, 100)
    push.push()
    assert push.ask("SELECT count(*) FROM pushes") == [(0,)]
    push.sweep()
    assert push.ask("SELECT count(*) FROM conditions") == [(0,)]


def test_nobody_is_asked_for_whose_deletion_waits_for_a_human(ada: tuple[Pusher, str]) -> None:  # P19
    push, user_id = ada
    push.plays(user_id, 100)
    push.sql("INSERT INTO news (user_id, strong, braked_at) VALUES (:id, true, now())", id=user_id)
    push.push()
    push.sweep()
    push.push()
    assert push.calls() == {}
    push.sql("DELETE FROM news")  # a human has answered, and there is such a user
    push.sweep()
    push.push()
    assert push.held(user_id)["roles"] == ["playlist_editor"]


def test_removals_that_a_human_let_pass_are_not_counted(pusher: Any) -> None:  # P19
    push = pusher()
    many_editors(push, 12)
    push.push()
    push.sql("UPDATE pushed SET allowed = true")
    with push.engine.begin() as connection:
        pushes.recheck_removals(connection)
    push.push()
    assert push.ask("SELECT count(*) FROM pushes") == [(0,)]


def test_a_database_restored_from_a_backup_strips_nobody_unasked(ada: tuple[Pusher, str]) -> None:  # P19
    push, user_id = ada
    push.plays(user_id, 99)
    push.push()
    push.plays(user_id, 101)
    push.push()
    assert push.held(user_id)["roles"] == ["playlist_editor"]
    push.sql("TRUNCATE pushed, pushes RESTART IDENTITY")  # as of yesterday
    push.plays(user_id, 99)
    push.sql("UPDATE users SET app_metadata = '{}', profile = profile - 'app_metadata', version = 1")
    push.knows(user_id)
    push.push()
    assert push.held(user_id)["roles"] == ["playlist_editor"]
    assert push.ask("SELECT name FROM conditions ORDER BY name") == [("database_restored",), ("reconcile_wanted",)]
    push.wishes(user_id, "plan", "pro")
    push.push()
    assert push.held(user_id) == {"roles": ["playlist_editor"], "plan": "pro"}
    with push.engine.begin() as connection:
        notes.end_condition(connection, "database_restored")
        pushes.recheck_removals(connection)
    push.push()
    assert push.held(user_id) == {"roles": [], "plan": "pro"}


@pytest.mark.parametrize(
    ("elsewhere", "roles", "conditions"),
    [
        ("place = 'where it was dumped'", ["playlist_editor"], ["database_restored", "reconcile_wanted"]),
        ("timeline = timeline - 1", [], ["reconcile_wanted"]),
    ],
    ids=["a dump read in strips nobody though Redis forgot", "after a failover roles go as ever"],
)
def test_a_database_that_wakes_up_elsewhere_is_compared(
    ada: tuple[Pusher, str], elsewhere: str, roles: list[str], conditions: list[str]
) -> None:  # P19
    push, user_id = ada
    push.sql("INSERT INTO tenant (domain) VALUES ('acme.eu.auth0.com')")
    push.plays(user_id, 101)
    push.push()
    push.sql(f"UPDATE tenant SET {elsewhere}")  # noqa: S608 (ours)
    push.plays(user_id, 99)
    push.push()
    assert push.held(user_id)["roles"] == roles
    assert push.ask("SELECT name FROM conditions ORDER BY name") == [(one,) for one in conditions]


# P20: our own writes come back


def deliver(push: Pusher, records: list[dict[str, Any]]) -> None:
    body = json.dumps([{"log_id": one["log_id"], "data": one} for one in records]).encode()
    with push.engine.begin() as connection:
        connection.execute(
            text("INSERT INTO inbox (source, size, body) VALUES ('logs', :size, :body)"),
            {"size": len(body), "body": zstandard.compress(body)},
        )
    drain(push.engine, LogRecords(), go_on=lambda: True)


def test_our_own_writes_end_where_they_come_back(ada: tuple[Pusher, str]) -> None:  # P20
    push, user_id = ada
    push.plays(user_id, 100)
    records = push.auth0.logs_of(push.push)
    assert [one["type"] for one in records if one["type"] == "sapi"] == ["sapi"]
    calls = push.calls()
    deliver(push, records)
    assert push.ask("SELECT count(*) FROM news") == [(0,)]
    push.refresh()
    push.sweep()
    push.push()
    assert push.calls()[WRITE] == calls[WRITE] == 1
    assert push.calls()[READ] == calls[READ] == 1


def test_a_write_of_ours_whose_answer_did_not_stand_is_news(ada: tuple[Pusher, str]) -> None:  # P20
    push, user_id = ada
    push.plays(user_id, 100)
    meddled(push, before=lambda: push.sql("UPDATE users SET version = version + 1"))
    records = push.auth0.logs_of(lambda: push.push(rounds=1))
    assert push.ask("SELECT applied FROM pushed") == [(False,)]
    push.sql("DELETE FROM news")
    deliver(push, records)
    assert push.ask("SELECT count(*) FROM news") == [(1,)]


def test_somebody_elses_write_under_our_name_is_news(ada: tuple[Pusher, str]) -> None:  # P20
    push, user_id = ada
    push.plays(user_id, 100)
    records = push.auth0.logs_of(push.push)
    [other] = push.auth0.sign_up(1)
    push.knows(other)
    for one in records:
        if one["type"] == "sapi":
            one["details"]["request"]["path"] = f"/api/v2/users/{quote(other, safe='')}"
    deliver(push, records)
    assert push.ask("SELECT user_id FROM news") == [(other,)]


# The plan


def test_a_plan_is_set_for_whom_an_id_stands_for(ada: tuple[Pusher, str]) -> None:
    push, user_id = ada
    with push.engine.begin() as connection:
        choose_plan(connection, user_id, "pro")
    assert push.ask("SELECT plan FROM live_users") == [("pro",)]
    push.push()
    assert push.held(user_id)["plan"] == "pro"
    with push.engine.begin() as connection, pytest.raises(BadValue, match="no living user"):
        choose_plan(connection, "auth0|nobody", "pro")
    with push.engine.begin() as connection, pytest.raises(BadValue, match="characters that can be printed"):
        choose_plan(connection, user_id, "two\nlines")
