"""The whole tenant compared once a day, in slices, against a simulated tenant: complete or not called so."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import Engine, text

from tests.simulator.running import Simulator
from tests.worker.sync.asking import asking
from worker.auth0.exports import JobGone
from worker.domain.users import Tolerances
from worker.errors import Refused
from worker.store import notes, runs
from worker.sync.reconcile import WANTED, Reconcile
from worker.sync.refresh import Refresh

TOLERANCES = Tolerances(timedelta(seconds=5), timedelta(seconds=60))
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def auth0() -> Iterator[Simulator]:
    simulator = Simulator("--plan", "none", "--index-lag", "0", "--log-skew", "0")
    simulator.sign_up(2_500)
    simulator.control("PUT", "jobs", {"export_seconds": 0})
    yield simulator
    simulator.stop()


@pytest.fixture
def engine(engine: Engine) -> Engine:
    """A database that knows what it is a copy of."""
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO tenant (domain, copied_since) VALUES ('t', now() - interval '1 hour')"))
    return engine


@pytest.fixture
def reconcile(auth0: Simulator, engine: Engine, redis_url: str) -> Iterator[Callable[..., float | None]]:
    """Run one slice; `batches` of a thousand lines at most."""
    with asking(auth0, redis_url) as parts:

        def run(batches: int = 100, every: timedelta = DAY, log_is_pulled: bool = True) -> float | None:
            left = iter(range(batches - 1))
            loop = Reconcile(engine, parts.exports, parts.windows, parts.budget, TOLERANCES, every, log_is_pulled)
            return loop.run(go_on=lambda: next(left, None) is not None)

        yield run


def run_dry(reconcile: Callable[..., float | None], batches: int = 100, **how: Any) -> int:
    """Ring until nothing is left to do; return how many slices it took."""
    for number in range(1, 200):
        again = reconcile(batches, **how)
        if again is None:
            return number
        time.sleep(min(again, 0.05))  # a job takes its time
    raise AssertionError("it never ends")


def ask(engine: Engine, sql: str, **values: Any) -> Any:
    with engine.begin() as connection:
        return connection.execute(text(sql), values).scalar()


def want(engine: Engine) -> None:
    with engine.begin() as connection:
        notes.raise_condition(connection, WANTED, "because")


def later(engine: Engine, minutes: int = 11) -> None:
    """Let so much time pass since the last run."""
    ask(engine, "UPDATE runs SET started_at = started_at - make_interval(mins => :n) RETURNING 1", n=minutes)


def report(engine: Engine) -> tuple[str, dict[str, Any]]:
    with engine.connect() as connection:
        found = runs.last(connection, "reconcile")
    assert found is not None
    return found[0], found[3]


def test_one_that_is_wanted_comes_at_once_and_ends_the_wish(
    engine: Engine, reconcile: Callable[..., float | None]
) -> None:
    assert reconcile() is None
    assert ask(engine, "SELECT count(*) FROM runs") == 0  # the copy is an hour old, and nobody asked
    want(engine)
    run_dry(reconcile)
    assert report(engine)[0] == "complete"
    assert ask(engine, "SELECT count(*) FROM live_users") == 2_500
    assert ask(engine, "SELECT count(*) FROM conditions") == 0


def test_whatever_keeps_asking_has_one_in_ten_minutes(engine: Engine, reconcile: Callable[..., float | None]) -> None:
    for runs_until_now in (1, 2):
        for _ in range(3):
            want(engine)
            run_dry(reconcile)
            assert ask(engine, "SELECT count(*) FROM runs") == runs_until_now
        assert ask(engine, "SELECT name FROM conditions") == WANTED  # heard, and kept for later
        later(engine, 9)
        run_dry(reconcile)
        assert ask(engine, "SELECT count(*) FROM runs") == runs_until_now
        later(engine, 2)
    run_dry(reconcile)
    assert ask(engine, "SELECT count(*) FROM runs") == 3
    assert ask(engine, "SELECT count(*) FROM conditions") == 0


def test_what_is_due_by_itself_comes_whatever_was_wanted_lately(
    engine: Engine, reconcile: Callable[..., float | None]
) -> None:
    want(engine)
    run_dry(reconcile)
    want(engine)
    later(engine, 2)
    run_dry(reconcile, every=timedelta(minutes=1))
    assert ask(engine, "SELECT count(*) FROM runs") == 2


def test_what_was_too_large_to_keep_is_reconciled_once_where_the_log_is_not_pulled(
    engine: Engine, reconcile: Callable[..., float | None]
) -> None:
    ask(engine, "INSERT INTO inbox (source, state, size) VALUES ('logs', 'parked', 9) RETURNING 1")
    assert reconcile() is None
    assert ask(engine, "SELECT count(*) FROM runs") == 0  # the pull brings it
    while reconcile(log_is_pulled=False) is not None:
        pass
    assert report(engine)[0] == "complete"
    assert ask(engine, "SELECT count(*) FROM conditions") == 0
    assert reconcile(log_is_pulled=False) is None
    assert ask(engine, "SELECT count(*) FROM runs") == 1


def test_it_comes_once_a_day_by_itself(engine: Engine, reconcile: Callable[..., float | None]) -> None:
    ask(engine, "UPDATE tenant SET copied_since = now() - interval '25 hours' RETURNING 1")
    run_dry(reconcile)
    assert reconcile() is None
    assert ask(engine, "SELECT count(*) FROM runs") == 1
    ask(engine, "UPDATE runs SET started_at = now() - interval '25 hours' RETURNING 1")
    run_dry(reconcile)
    assert ask(engine, "SELECT count(*) FROM runs") == 2
    assert reconcile(every=timedelta(0)) is None


def test_slices_add_up_to_the_whole(engine: Engine, reconcile: Callable[..., float | None]) -> None:
    want(engine)
    assert run_dry(reconcile, batches=1) >= 3
    state, told = report(engine)
    assert (state, told["users"], told["written"], told["extra"]) == ("complete", 2_500, 2_500, 0)
    assert ask(engine, "SELECT count(*) FROM exported") == 0


def test_one_that_finds_nothing_writes_no_row_of_a_user(engine: Engine, reconcile: Callable[..., float | None]) -> None:
    want(engine)
    run_dry(reconcile)
    tables = "users", "news", "wishes", "pushes", "songs", "playlists", "plays"
    before = {table: ask(engine, f"SELECT coalesce(max(xmin::text::bigint), 0) FROM {table}") for table in tables}  # noqa: S608 the words above
    later(engine)
    want(engine)
    run_dry(reconcile)
    assert report(engine)[1]["written"] == 0
    after = {table: ask(engine, f"SELECT coalesce(max(xmin::text::bigint), 0) FROM {table}") for table in tables}  # noqa: S608 the words above
    assert after == before


def test_a_column_that_was_changed_by_hand_follows_its_profile_again(
    engine: Engine, reconcile: Callable[..., float | None]
) -> None:
    want(engine)
    run_dry(reconcile)
    ask(
        engine,
        "UPDATE users SET email = 'by.hand@example.com' WHERE user_id = (SELECT min(user_id) FROM users) RETURNING 1",
    )
    later(engine)
    want(engine)
    run_dry(reconcile)
    assert ask(engine, "SELECT count(*) FROM users WHERE email IS DISTINCT FROM profile ->> 'email'") == 0
    assert report(engine)[1]["columns_mended"] == 1


def test_who_is_absent_is_asked_for_and_not_deleted(engine: Engine, reconcile: Callable[..., float | None]) -> None:
    ask(engine, "INSERT INTO users (user_id, synced_at) VALUES ('auth0|absent', now() - interval '1 day') RETURNING 1")
    want(engine)
    run_dry(reconcile)
    assert ask(engine, "SELECT deleted_at FROM users WHERE user_id = 'auth0|absent'") is None
    assert ask(engine, "SELECT strong FROM news WHERE user_id = 'auth0|absent'")
    assert report(engine)[1]["extra"] == 1


@pytest.mark.parametrize("marked", [False, True], ids=["unmarked", "marked, but not for a strong read"])
def test_an_event_that_came_late_hides_nobody_who_is_absent(
    engine: Engine, reconcile: Callable[..., float | None], marked: bool
) -> None:
    """It writes the row after the export began, or clears the mark after its end; a strong read says whether they are there."""
    want(engine)
    while reconcile(1) != 0:  # the budget's bucket begins empty
        pass
    ask(engine, "INSERT INTO users (user_id, synced_at) VALUES ('auth0|late', now()) RETURNING 1")
    if marked:
        ask(engine, "INSERT INTO news (user_id) VALUES ('auth0|late') RETURNING 1")
    run_dry(reconcile)
    assert ask(engine, "SELECT deleted_at FROM users WHERE user_id = 'auth0|late'") is None
    assert ask(engine, "SELECT strong FROM news")


def test_a_row_dated_ahead_of_the_tenant_is_asked_for_and_mended_by_that_alone(
    auth0: Simulator, engine: Engine, redis_url: str, reconcile: Callable[..., float | None]
) -> None:
    want(engine)
    run_dry(reconcile)
    ahead = """UPDATE users SET email = 'wrong@example.com', synced_at = now() + CAST(:synced AS interval),
      profile = profile || jsonb_build_object('email', 'wrong@example.com', 'updated_at', now() + interval '11 h')
      WHERE user_id = (SELECT user_id FROM users ORDER BY 1 OFFSET :n LIMIT 1) RETURNING user_id"""
    before, since = ask(engine, ahead, synced="-1 day", n=0), ask(engine, ahead, synced="1 min", n=1)
    later(engine)
    want(engine)
    run_dry(reconcile)
    assert report(engine)[1]["written"] == 0
    assert ask(engine, "SELECT email FROM users WHERE user_id = :id", id=before) == "wrong@example.com"
    assert ask(engine, "SELECT string_agg(user_id, ' ') FROM news WHERE strong") == before  # since is its own
    with asking(auth0, redis_url) as parts:
        refresh = Refresh(engine, parts.tenant, parts.budget, TOLERANCES, b"key")
        while (again := refresh.run(go_on=lambda: True)) is not None:
            time.sleep(again)
    assert ask(engine, "SELECT email FROM users WHERE user_id = :id", id=before) == auth0.user(before)["email"]
    assert ask(engine, "SELECT count(*) FROM users WHERE email = 'wrong@example.com' AND user_id <> :id", id=since) == 0


def test_who_is_absent_and_is_to_be_read_strongly_already_is_not_marked_again(
    engine: Engine, reconcile: Callable[..., float | None]
) -> None:
    ask(engine, "INSERT INTO users (user_id, synced_at) VALUES ('auth0|absent', now() - interval '1 day') RETURNING 1")
    number = ask(engine, "INSERT INTO news (user_id, strong) VALUES ('auth0|absent', true) RETURNING number")
    want(engine)
    run_dry(reconcile)
    assert report(engine)[1]["extra"] == 0
    assert ask(engine, "SELECT number FROM news") == number


def test_a_wish_made_during_a_run_outlives_it(engine: Engine, reconcile: Callable[..., float | None]) -> None:
    want(engine)
    while reconcile(1) != 0:
        pass
    want(engine)
    run_dry(reconcile)
    assert report(engine)[0] == "complete"
    assert ask(engine, "SELECT name FROM conditions") == WANTED


REFUSES_SEARCHES = {"where": "api", "kind": "status", "status": 403, "match": {"method": "GET", "path": "/users$"}}


@pytest.fixture
def refusing(auth0: Simulator) -> Iterator[Callable[..., None]]:
    yield lambda *faults: auth0.control("PUT", "faults", list(faults))
    auth0.control("PUT", "faults", [])


def test_an_export_that_is_gone_is_a_failed_run_and_tried_again_after_ten_minutes_if_wanted(
    engine: Engine, reconcile: Callable[..., float | None]
) -> None:
    want(engine)
    while reconcile(1) != 0:
        pass
    ask(engine, """UPDATE runs SET position = '{"job": "job_nobody_knows", "lines": 0}' RETURNING 1""")
    with pytest.raises(JobGone):
        reconcile()
    assert report(engine)[0] == "failed"
    assert reconcile() is None
    ask(engine, "UPDATE runs SET started_at = now() - interval '11 minutes' RETURNING 1")
    run_dry(reconcile)
    assert report(engine)[0] == "complete"


def test_a_failed_export_is_followed_by_searches_a_page_a_slice(
    refusing: Callable[..., None], engine: Engine, reconcile: Callable[..., float | None]
) -> None:
    refusing({"where": "export", "kind": "fail"})
    ask(engine, "INSERT INTO users (user_id, synced_at) VALUES ('auth0|absent', now() - interval '1 day') RETURNING 1")
    want(engine)
    assert run_dry(reconcile, batches=1) > 25
    state, told = report(engine)
    assert (state, told["users"], told["written"], told["extra"], told["unread"]) == ("complete", 2_500, 2_500, 1, 0)


@pytest.mark.parametrize("kind", ["expire", "truncate"])
def test_where_the_file_of_an_export_cannot_be_had_the_tenant_is_searched(
    auth0: Simulator,
    refusing: Callable[..., None],
    engine: Engine,
    reconcile: Callable[..., float | None],
    kind: str,
) -> None:
    auth0.control("PUT", "jobs", {"gzip": False})
    refusing({"where": "export", "kind": kind})
    ask(engine, "INSERT INTO users (user_id, synced_at) VALUES ('auth0|absent', now() - interval '1 day') RETURNING 1")
    want(engine)
    run_dry(reconcile, batches=1)
    state, told = report(engine)
    assert (state, told["users"], told["written"], told["extra"]) == ("complete", 2_500, 2_500, 1)


def test_a_file_that_breaks_off_now_and_then_is_read_to_its_end(
    auth0: Simulator, refusing: Callable[..., None], engine: Engine, reconcile: Callable[..., float | None]
) -> None:
    want(engine)
    auth0.control("PUT", "jobs", {"gzip": False})
    lost = {"where": "export", "kind": "status", "status": 500, "times": 4}
    for _ in range(3):  # more often than it may at one place
        refusing(lost, REFUSES_SEARCHES)
        while (again := reconcile(1)) not in (0, None):
            time.sleep(min(again, 0.05))
    assert report(engine)[1]["users"] == 2_500
    run_dry(reconcile)
    assert report(engine)[0] == "complete"


def test_a_slice_that_is_refused_is_gone_on_with(
    refusing: Callable[..., None], engine: Engine, reconcile: Callable[..., float | None], redis_url: str
) -> None:
    refusing({"where": "export", "kind": "fail"}, REFUSES_SEARCHES)
    want(engine)
    with pytest.raises(Refused):
        run_dry(reconcile)
    assert report(engine)[0] == "running"
    refusing()
    with Redis.from_url(redis_url) as redis:
        redis.flushdb()  # the pause of a refusal
    run_dry(reconcile)
    assert report(engine)[0] == "complete"


def test_what_a_crash_of_postgresql_took_is_read_again(engine: Engine, reconcile: Callable[..., float | None]) -> None:
    want(engine)
    while reconcile(1) != 0:
        pass
    assert ask(engine, "SELECT count(*) FROM exported") > 0
    ask(engine, "WITH lost AS (DELETE FROM exported RETURNING 1) SELECT count(*) FROM lost")
    ask(engine, "UPDATE users SET synced_at = now() - interval '1 day' RETURNING 1")
    run_dry(reconcile)
    _, told = report(engine)
    assert (told["users"], told["extra"]) == (2_500, 0)  # nobody was taken for absent for want of a note
    assert ask(engine, "SELECT count(*) FROM news") == 0


def test_two_at_once_are_one(engine: Engine, reconcile: Callable[..., float | None]) -> None:
    want(engine)
    with engine.begin() as connection:
        assert runs.begin(connection, "reconcile") is not None
    assert reconcile() is None
    assert ask(engine, "SELECT count(*) FROM users") == 0
