"""A whole tenant loaded by an export job of the simulated tenant: complete, resumable, never over what is newer."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event as events, text

from tests.simulator.running import Simulator, eventually
from tests.worker.sync.asking import UNDERSTUDY, asking, environment_of, settings_for, understudy
from worker.auth0.exports import COVERS
from worker.domain.snapshots import differing
from worker.domain.users import Tolerances
from worker.errors import Refused
from worker.settings import Settings
from worker.store import runs
from worker.sync import lines
from worker.sync.backfill import AtIt, Backfill, Progress, load

TOLERANCES = Tolerances(timedelta(seconds=5), timedelta(seconds=60))


@pytest.fixture(scope="module")
def auth0() -> Iterator[Simulator]:
    simulator = Simulator("--plan", "none", "--index-lag", "0", "--log-skew", "0")
    simulator.sign_up(2_500)
    yield simulator
    simulator.stop()


@pytest.fixture(autouse=True)
def _calm(auth0: Simulator) -> Iterator[None]:
    auth0.control("PUT", "faults", [])
    auth0.control("PUT", "jobs", {"export_seconds": 0, "gzip": True})
    yield
    auth0.control("PUT", "faults", [])


@pytest.fixture
def settings(auth0: Simulator, redis_url: str, database_url: str) -> Settings:
    return settings_for(auth0, redis_url, database_url=database_url)


@pytest.fixture
def backfill(auth0: Simulator, engine: Engine, redis_url: str) -> Iterator[Callable[..., Backfill]]:
    with asking(auth0, redis_url) as parts:

        def make(watch: Callable[[Progress], None] = lambda _: None) -> Backfill:
            return Backfill(engine, parts.everyone, TOLERANCES, watch=watch)

        yield make


def differences(engine: Engine, auth0: Simulator) -> list[str]:
    """Compare over what an export covers."""
    truth = auth0.truth(limit=10_000)
    with engine.connect() as connection:
        found = connection.execute(text("SELECT user_id, profile FROM users WHERE deleted_at IS NULL"))
        rows: dict[str, Any] = dict(found.all())
    wrong = [f"{user_id} is missing or extra" for user_id in truth.keys() ^ rows.keys()]
    return wrong + [
        user_id for user_id in truth.keys() & rows.keys() if differing(rows[user_id], truth[user_id], COVERS)
    ]


def test_truth_is_seen(auth0: Simulator) -> None:
    assert len(auth0.truth(limit=10_000)) == 2_500


@pytest.mark.parametrize("gzip", [True, False])
def test_an_empty_copy_is_filled(
    auth0: Simulator, engine: Engine, backfill: Callable[..., Backfill], gzip: bool
) -> None:
    auth0.control("PUT", "jobs", {"gzip": gzip})
    done = backfill().run()
    assert (done.users, done.written, done.bad) == (2_500, 2_500, 0)
    assert differences(engine, auth0) == []


def test_a_second_backfill_writes_nothing(engine: Engine, backfill: Callable[..., Backfill]) -> None:
    backfill().run()
    with engine.connect() as connection:
        before = connection.execute(text("SELECT user_id, version, synced_at FROM users ORDER BY 1")).all()
    assert backfill().run().written == 0
    with engine.connect() as connection:
        assert connection.execute(text("SELECT user_id, version, synced_at FROM users ORDER BY 1")).all() == before
        assert connection.execute(text("SELECT count(*) FROM news")).scalar() == 0


class Stop(Exception):
    """Ends a backfill in the middle."""


def test_a_backfill_that_was_stopped_goes_on_where_it_was(
    auth0: Simulator, engine: Engine, backfill: Callable[..., Backfill]
) -> None:
    def stop(progress: Progress) -> None:
        if progress.users >= 1_000:
            raise Stop

    with pytest.raises(Stop):
        backfill(stop).run()
    with engine.connect() as connection:
        found = runs.last(connection, "backfill")
        assert found is not None
        assert found[0] == "running"
    seen: list[int] = []
    assert backfill(lambda progress: seen.append(progress.users)).run().users == 2_500
    assert min(count for count in seen if count) > 1_000
    assert differences(engine, auth0) == []


SLOW_FILE = {"where": "export", "kind": "delay", "seconds": 0.1}
SLOW_SEARCHES = {"where": "api", "kind": "delay", "seconds": 0.05, "match": {"method": "GET", "path": "/users$"}}
SEARCHES_FAIL = {
    "where": "api",
    "kind": "status",
    "status": 403,
    "match": {"method": "GET", "path": "/users$"},
}
REFUSED = {"where": "api", "kind": "status", "status": 403, "match": {"method": "POST", "path": "users-exports"}}
# When each of three processes is killed.
KILLED_WHEN = [
    "SELECT EXISTS (SELECT FROM runs WHERE position <> '{}')",
    "SELECT count(*) > 0 FROM users",
    "SELECT count(*) >= 1500 FROM users",
]


@pytest.mark.parametrize("faults", [[SLOW_FILE], [SLOW_SEARCHES, REFUSED]], ids=["export", "searches"])
def test_killed_processes_are_followed_by_one_that_goes_on(
    auth0: Simulator,
    engine: Engine,
    settings: Settings,
    faults: list[dict[str, Any]],
) -> None:
    auth0.control("PUT", "faults", faults)
    auth0.control("PUT", "jobs", {"gzip": False})  # some twenty slow chunks, so that a kill comes in time
    env = environment_of(settings)

    def holds(condition: str) -> bool:
        with engine.connect() as connection:
            return bool(connection.execute(text(condition)).scalar_one())

    for condition in KILLED_WHEN:
        process = subprocess.Popen([UNDERSTUDY, "backfill"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        eventually(partial(holds, condition))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
        with engine.begin() as connection:
            connection.execute(text("UPDATE runs SET leased_until = now()"))  # a minute later
    ran = understudy(settings, "backfill")
    assert ran.returncode == 0, ran.stderr
    assert "2500 users read" in ran.stdout
    assert differences(engine, auth0) == []
    with engine.connect() as connection:
        assert set(connection.execute(text("SELECT state FROM runs")).scalars()) == {"complete"}


def test_two_at_once_are_one_and_a_clear_word(engine: Engine, backfill: Callable[..., Backfill]) -> None:
    with engine.begin() as connection:
        assert runs.begin(connection, "backfill") is not None
    with pytest.raises(AtIt, match="another backfill"):
        backfill().run()


@pytest.mark.parametrize("kind", ["truncate", "drop", "expire", "status"])
def test_where_the_file_cannot_be_had_the_tenant_is_searched(
    auth0: Simulator, engine: Engine, backfill: Callable[..., Backfill], kind: str
) -> None:
    auth0.control("PUT", "faults", [{"where": "export", "kind": kind}])
    auth0.control("PUT", "jobs", {"gzip": False})  # half of the file is a batch, and counts once all the same
    done = backfill().run()
    assert (done.users, done.written, done.bad) == (2_500, 2_500, 0)
    assert differences(engine, auth0) == []
    with engine.connect() as connection:
        found = runs.last(connection, "backfill")
    assert found is not None
    assert (found[0], found[3]["users"]) == ("complete", 2_500)


def test_a_file_that_breaks_off_once_is_read_on(
    auth0: Simulator, engine: Engine, backfill: Callable[..., Backfill]
) -> None:
    auth0.control("PUT", "faults", [{"where": "export", "kind": "drop", "times": 2}, SEARCHES_FAIL])
    assert backfill().run().users == 2_500
    assert differences(engine, auth0) == []


REFUSALS = [
    REFUSED,
    {"where": "api", "kind": "status", "status": 400, "match": {"method": "POST", "path": "users-exports"}},
    {"where": "export", "kind": "fail"},
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=["plan", "option", "job"])
def test_without_an_export_the_tenant_is_searched_by_windows(
    auth0: Simulator, engine: Engine, backfill: Callable[..., Backfill], refusal: dict[str, Any]
) -> None:
    auth0.control("PUT", "faults", [refusal])
    done = backfill().run()
    assert (done.users, done.written, done.unread, done.total) == (2_500, 2_500, 0, 2_500)
    assert differences(engine, auth0) == []


def test_a_search_that_was_stopped_goes_on_where_it_was(
    auth0: Simulator, engine: Engine, backfill: Callable[..., Backfill]
) -> None:
    def stop(progress: Progress) -> None:
        if progress.users >= 1_000:
            raise Stop

    auth0.control("PUT", "faults", REFUSALS[:1])
    with pytest.raises(Stop):
        backfill(stop).run()
    auth0.control("PUT", "faults", [])  # an export could be had now: the search goes on all the same
    seen: list[int] = []
    assert backfill(lambda progress: seen.append(progress.users)).run().users == 2_500
    assert min(seen) >= 1_000
    assert differences(engine, auth0) == []


def test_where_the_pulls_begin_is_settled_before_anything_is_read(
    auth0: Simulator, engine: Engine, backfill: Callable[..., Backfill]
) -> None:
    auth0.control("PUT", "faults", [{"where": "api", "kind": "status", "status": 403, "match": {"path": "/api/v2/"}}])
    loop = backfill()
    loop.pulls = {"logs": timedelta(minutes=10)}
    with pytest.raises(Refused):
        loop.run()
    with engine.connect() as connection:
        [place] = connection.execute(text("SELECT position, now() - stands_for AS back FROM feeds"))
    assert place.position is None
    assert place.back > timedelta(minutes=10)


def profile(user_id: str, seconds: float, **said: Any) -> dict[str, Any]:
    moment = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    return {"user_id": user_id, "updated_at": moment.isoformat(), **said}


LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


def told(engine: Engine, profiles: dict[str, Any], began_at: datetime = LONG_AGO) -> int:
    return load(engine, lines.read(json.dumps(one).encode() for one in profiles.values()), COVERS, TOLERANCES, began_at)


def row(engine: Engine, user_id: str) -> Any:
    with engine.connect() as connection:
        return connection.execute(
            text(
                "SELECT profile, deleted_at, (SELECT strong FROM news WHERE news.user_id = users.user_id) AS asks FROM users WHERE user_id = :id"
            ),
            {"id": user_id},
        ).one()


def test_what_is_newer_here_stays(engine: Engine) -> None:
    told(engine, {"auth0|a": profile("auth0|a", 10, name="new")})
    told(engine, {"auth0|a": profile("auth0|a", 5, name="old")})
    assert row(engine, "auth0|a").profile["name"] == "new"
    assert not row(engine, "auth0|a").asks


def test_what_was_newer_here_before_anything_was_read_stays_and_is_asked_for(engine: Engine) -> None:
    told(engine, {"auth0|a": profile("auth0|a", 10, name="wrong")})
    later = datetime.now(UTC) + timedelta(minutes=1)
    told(engine, {"auth0|a": profile("auth0|a", 5, name="right")}, began_at=later)
    assert row(engine, "auth0|a").profile["name"] == "wrong"
    assert row(engine, "auth0|a").asks


def test_an_export_no_later_than_a_deletion_asks_and_does_not_win(engine: Engine) -> None:  # P12
    told(engine, {"auth0|a": profile("auth0|a", 0, name="before")})
    with engine.begin() as connection:
        connection.execute(text("UPDATE users SET deletion_seen_at = '2026-11-01T00:00:10Z'"))
    told(engine, {"auth0|a": profile("auth0|a", 15, name="between")})
    assert row(engine, "auth0|a").profile["name"] == "before"
    assert row(engine, "auth0|a").asks
    told(engine, {"auth0|a": profile("auth0|a", 15.1, name="after")})
    assert row(engine, "auth0|a").profile["name"] == "after"


def test_an_export_brings_nobody_back_but_asks(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO users (user_id, version, deleted_at) VALUES ('auth0|a', 1, now())"))
    told(engine, {"auth0|a": profile("auth0|a", 10)})
    found = row(engine, "auth0|a")
    assert found.deleted_at is not None
    assert found.asks


def test_a_profile_that_postgresql_cannot_hold_costs_its_neighbours_nothing(engine: Engine) -> None:
    some = {f"auth0|{n}": profile(f"auth0|{n}", n) for n in range(10)}
    some["auth0|5"]["user_metadata"] = {"note": "a\x00b"}
    assert told(engine, some) == 10
    assert row(engine, "auth0|5").profile["user_metadata"] == {"note": "a\ufffdb"}


def test_a_number_that_nobody_can_read_costs_its_neighbours_nothing(engine: Engine) -> None:
    some = {f"auth0|{n}": profile(f"auth0|{n}", n) for n in range(10)}
    told(engine, some)
    some["auth0|4"]["name"] = "Ada"
    odd = json.dumps(some["auth0|5"] | {"user_metadata": {"n": 0}}).replace('"n": 0', '"n": 1e400').encode()
    read = lines.read([json.dumps(some["auth0|4"] | {"updated_at": profile("", 99)["updated_at"]}).encode(), odd])
    assert load(engine, read, None, TOLERANCES, datetime.now(UTC)) == 1
    assert (list(read.ids()), read.bad) == (["auth0|4"], [("a number in it is out of range", odd)])


def test_whom_a_new_row_names_as_linked_is_asked_for_if_we_have_them(engine: Engine) -> None:
    told(engine, {"sms|1": profile("sms|1", 0)})
    identities = [
        {"provider": "auth0", "user_id": "a"},
        {"provider": "sms", "user_id": "1"},
        {"provider": "sms", "user_id": "2"},
    ]
    told(engine, {"auth0|a": profile("auth0|a", 5, identities=identities)})
    assert row(engine, "sms|1").asks
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM users")).scalar() == 2


def test_whom_a_new_row_names_is_asked_for_though_the_process_dies(engine: Engine) -> None:
    told(engine, {"sms|1": profile("sms|1", 0)})
    linked = [{"provider": "auth0", "user_id": "a"}, {"provider": "sms", "user_id": "1"}]
    transactions = iter(range(100))

    def die(_: Connection) -> None:
        if next(transactions) == 1:
            raise SystemExit

    events.listen(engine, "begin", die)
    with contextlib.suppress(SystemExit):
        told(engine, {"auth0|a": profile("auth0|a", 5, identities=linked)})
    events.remove(engine, "begin", die)
    told(engine, {"auth0|a": profile("auth0|a", 5, identities=linked)})
    assert row(engine, "sms|1").asks
