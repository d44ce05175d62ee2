"""The tenant compared with the copy: what differs is named, what is on its way is not drift, and --repair mends."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, cast

import pytest
from sqlalchemy import Engine, text

from tests.simulator.running import Simulator
from tests.worker.sync.asking import asking
from worker.auth0.client import Tenant
from worker.auth0.transport import Many
from worker.domain.users import Tolerances
from worker.errors import Refused
from worker.store import columns as module, forgotten, runs, schema, users
from worker.store.users import UserNews
from worker.sync.backfill import Backfill
from worker.sync.everyone import Batch, Everyone
from worker.sync.verify import Drift, Verify, as_json, shown

TOLERANCES = Tolerances(timedelta(seconds=5), timedelta(seconds=60))


@pytest.fixture(scope="module")
def auth0() -> Iterator[Simulator]:
    simulator = Simulator("--plan", "none", "--index-lag", "0", "--log-skew", "0")
    simulator.sign_up(300)
    simulator.control("PUT", "jobs", {"export_seconds": 0})
    yield simulator
    simulator.stop()


Run = Callable[..., Drift]


@pytest.fixture
def verify(auth0: Simulator, engine: Engine, redis_url: str) -> Iterator[Run]:
    """A copy that equals the tenant, and the comparison of the two."""
    with asking(auth0, redis_url) as parts:
        everyone, tenant, budget = parts.everyone, parts.tenant, parts.budget
        Backfill(engine, everyone, TOLERANCES).run()
        assert Verify(engine, everyone, tenant, budget, repair=True).run().counts["missing"] == 0
        yield lambda **how: Verify(engine, everyone, tenant, budget, **how).run()


def execute(engine: Engine, sql: str, **values: Any) -> None:
    with engine.begin() as connection:
        connection.execute(text(sql), values)


def some(engine: Engine, number: int = 1) -> list[str]:
    with engine.connect() as connection:
        found = connection.execute(text("SELECT user_id FROM live_users ORDER BY user_id LIMIT :n"), {"n": number})
        return list(found.scalars())


def test_where_nothing_differs_nothing_is_read_or_written(engine: Engine, verify: Run) -> None:
    with engine.connect() as connection:
        before = connection.execute(text("SELECT user_id, version, synced_at FROM users ORDER BY 1")).all()
    drift = verify()
    assert (drift.total, drift.read) == (0, 0)
    assert drift.users == len(before)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT user_id, version, synced_at FROM users ORDER BY 1")).all() == before
        assert connection.execute(text("SELECT count(*) FROM exported")).scalar() == 0


def spoil(engine: Engine) -> dict[str, str]:
    """Break the copy in the four ways; return whom, by kind."""
    missing, stale, different = some(engine, 3)
    execute(engine, "DELETE FROM users WHERE user_id = :id", id=missing)
    execute(
        engine,
        """UPDATE users SET profile = jsonb_set(profile, '{updated_at}', '"2020-01-01T00:00:00.000Z"') WHERE user_id = :id""",
        id=stale,
    )
    execute(
        engine,
        """UPDATE users SET profile = jsonb_set(profile, '{nickname}', '"x"'), nickname = 'x' WHERE user_id = :id""",
        id=different,
    )
    execute(
        engine,
        "INSERT INTO users (user_id, profile, synced_at) VALUES ('auth0|extra', :profile, now() - interval '1 day')",
        profile=json.dumps({"user_id": "auth0|extra"}),
    )
    return {"missing": missing, "stale": stale, "different": different, "extra": "auth0|extra"}


def test_each_kind_of_drift_is_counted_with_an_example(engine: Engine, verify: Run) -> None:
    whom = spoil(engine)
    drift = verify()
    assert drift.counts == {"missing": 1, "extra": 1, "stale": 1, "different": 1}
    assert {kind: drift.examples[kind][0][0] for kind in whom} == whom
    assert drift.examples["different"][0][1] == ["nickname"]
    assert "1 different: u (nickname)" in "\n".join(shown(drift, lambda _: "u"))


ASTRAY = {
    "email": "'by.hand@example.com'",
    "blocked": "true",
    "last_login": "'2001-01-01Z'",
    "logins_count": "77",
    "user_metadata": """'{"displayName": "By Hand"}'""",
}


@pytest.mark.parametrize("name", ASTRAY)
def test_a_column_that_was_changed_by_hand_is_seen_and_mended(engine: Engine, verify: Run, name: str) -> None:
    [whom] = some(engine)
    before = row(engine, whom)
    execute(engine, f"UPDATE users SET {name} = {ASTRAY[name]} WHERE user_id = :id", id=whom)  # noqa: S608 our own words
    drift = verify()
    assert (drift.counts["different"], drift.total, drift.read, drift.mended) == (1, 1, 0, 0)
    assert drift.examples["different"] == [(whom, [name])]
    drift = verify(repair=True)
    assert (drift.total, drift.mended) == (1, 1)
    assert row(engine, whom) == before
    assert verify().total == 0


@pytest.mark.usefixtures("verify")
def test_what_no_column_can_hold_is_no_drift(engine: Engine) -> None:
    odd = {
        "email": ["a"],
        "name": 7,
        "blocked": "TRUE",
        "email_verified": "perhaps",
        "created_at": "2026-13-45T99:00:00.000Z",
        "last_login": "2026-06-30T23:59:60Z",
        "logins_count": 1e300,
        "multifactor": None,
        "user_metadata": {"n": 0.1},
    }
    [whom] = some(engine)
    columns = users.snapshot_columns({**row(engine, whom).profile, **odd})
    assert (columns["email"], columns["blocked"], columns["last_login"]) == (None, True, None)
    with engine.begin() as connection:
        held = users.lock(connection, [whom])[whom]
        users.write_snapshots(connection, [(held.row, {**(held.row.profile or {}), **odd})])
    assert mended(engine, whom) == []
    execute(engine, "UPDATE users SET name = 'Ada' WHERE user_id = :id", id=whom)
    assert mended(engine, whom) == [(whom, ["name"])]
    assert mended(engine, whom) == []


def mended(engine: Engine, user_id: str) -> list[tuple[str, list[str]]]:
    with engine.begin() as connection:
        return module.astray(connection, [user_id], mend=True)


def row(engine: Engine, user_id: str) -> Any:
    with engine.connect() as connection:
        return connection.execute(text("SELECT * FROM users WHERE user_id = :id"), {"id": user_id}).one()


def put_ahead(engine: Engine, user_id: str, synced: str) -> None:
    """Have a row hold a wrong e-mail address, dated later than all that the tenant has."""
    execute(
        engine,
        """UPDATE users SET email = 'wrong@example.com', updated_at = now() + interval '11 h', synced_at = now() + :synced,
        profile = profile || jsonb_build_object('email', 'wrong@example.com', 'updated_at', now() + interval '11 h')
        WHERE user_id = :id""",
        id=user_id,
        synced=synced,
    )


@pytest.mark.parametrize("by", ["export", "search"])
def test_a_row_dated_ahead_of_the_tenant_is_drift_and_mended(
    refusing: Callable[..., None], engine: Engine, verify: Run, by: str
) -> None:
    if by == "search":
        refusing(REFUSES_EXPORTS)
        verify(repair=True)
    [user_id] = some(engine)
    put_ahead(engine, user_id, "-1 day")
    drift = verify(repair=True)
    assert drift.examples["different"] == [(user_id, ["email", "updated_at"])]
    assert (drift.total, drift.mended) == (1, 1)
    assert verify().total == 0


def test_a_row_that_got_ahead_since_the_export_began_is_not_even_read(engine: Engine, verify: Run) -> None:
    [user_id] = some(engine)
    put_ahead(engine, user_id, "1 min")
    drift = verify()
    assert (drift.total, drift.read) == (0, 0)


@pytest.mark.usefixtures("verify")
def test_who_is_marked_before_the_strong_answer_comes_is_no_drift(
    auth0: Simulator, engine: Engine, redis_url: str
) -> None:
    spoil(engine)

    class Meanwhile:
        """The tenant, where something happens to everybody while they are read."""

        def __init__(self, tenant: Tenant) -> None:
            self._tenant = tenant

        def many(self) -> Many:
            return self._tenant.many()

        async def read_user_among(self, many: Many, user_id: str) -> Any:
            with engine.begin() as connection:
                users.mark(connection, [UserNews(user_id)])
            return await self._tenant.read_user_among(many, user_id)

    with asking(auth0, redis_url) as parts:
        drift = Verify(engine, parts.everyone, cast("Tenant", Meanwhile(parts.tenant)), parts.budget).run()
    assert (drift.total, drift.read) == (0, 4)


@pytest.mark.usefixtures("verify")
def test_whom_nobody_can_decode_is_counted_and_the_run_not_complete(
    auth0: Simulator, engine: Engine, redis_url: str
) -> None:
    class Odd:
        """Everybody: one user, with a number that nobody can read."""

        def total(self) -> int:
            return 1

        def batches(self, *_: object) -> Iterator[Batch]:
            line = f'{{"user_id":"{whom}","user_metadata":{{"n":1e400}}}}'.encode()
            yield Batch([line], {}, None, first=True)

    [whom] = some(engine)
    with asking(auth0, redis_url) as parts:
        drift = Verify(engine, cast("Everyone", Odd()), parts.tenant, parts.budget).run()
    assert (drift.bad, drift.users, drift.is_whole) == (1, 0, False)


@pytest.mark.parametrize("repair", [False, True])
def test_more_drift_than_can_be_read_meanwhile_is_counted_once_each(engine: Engine, verify: Run, repair: bool) -> None:
    whom = some(engine, 250)
    execute(engine, "DELETE FROM users WHERE user_id = ANY(:ids)", ids=whom)
    drift = verify(repair=repair)
    assert (drift.counts["missing"], drift.total, drift.read) == (250, 250, 250)
    assert drift.mended == (250 if repair else 0)
    assert verify().total == (0 if repair else 250)


def test_repair_mends_and_a_second_look_finds_nothing(engine: Engine, verify: Run) -> None:
    spoil(engine)
    drift = verify(repair=True)
    assert drift.mended == drift.total == 4
    assert verify().total == 0


def test_looking_changes_nothing(engine: Engine, verify: Run) -> None:
    spoil(engine)
    assert verify().total == 4
    assert verify().total == 4
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM news")).scalar() == 0


def test_what_somebody_will_look_at_anyway_is_no_drift(engine: Engine, verify: Run) -> None:
    whom = spoil(engine)
    with engine.begin() as connection:
        users.mark(connection, [UserNews(whom[kind]) for kind in ("stale", "different", "extra")])
    assert verify().counts == {"missing": 1, "extra": 0, "stale": 0, "different": 0}


def test_whoever_left_since_the_export_is_no_drift(auth0: Simulator, engine: Engine, verify: Run) -> None:
    [user_id] = some(engine)
    auth0.control(
        "PUT", "faults", [{"where": "export", "kind": "lose", "match": {"path": user_id.replace("|", "\\|")}}]
    )
    try:
        drift = verify()
    finally:
        auth0.control("PUT", "faults", [])
    assert (drift.total, drift.read) == (0, 1)


REFUSES_EXPORTS = {
    "where": "api",
    "kind": "status",
    "status": 403,
    "match": {"method": "POST", "path": "users-exports"},
}
REFUSES_SEARCHES = {"where": "api", "kind": "status", "status": 403, "match": {"method": "GET", "path": "/users$"}}


@pytest.fixture
def refusing(auth0: Simulator) -> Iterator[Callable[..., None]]:
    yield lambda *faults: auth0.control("PUT", "faults", list(faults))
    auth0.control("PUT", "faults", [])


def test_a_comparison_that_fails_is_never_called_complete(
    refusing: Callable[..., None], engine: Engine, verify: Run
) -> None:
    refusing({"where": "export", "kind": "fail"}, REFUSES_SEARCHES)
    with pytest.raises(Refused):
        verify()
    with engine.connect() as connection:
        found = runs.last(connection, "verify")
    assert found is not None
    assert found[0] == "failed"


def test_without_an_export_the_same_drift_is_found_by_searches(
    refusing: Callable[..., None], engine: Engine, verify: Run
) -> None:
    refusing(REFUSES_EXPORTS)
    verify(repair=True)  # a search shows whole profiles: what an export does not cover is mended too
    assert verify().total == 0
    whom = spoil(engine)
    drift = verify()
    assert drift.users == 300
    assert drift.counts == {"missing": 1, "extra": 1, "stale": 1, "different": 1}
    assert {kind: drift.examples[kind][0][0] for kind in whom} == whom


@pytest.mark.parametrize("kind", ["expire", "truncate"])
def test_where_the_file_of_an_export_cannot_be_had_the_same_drift_is_found(
    auth0: Simulator, refusing: Callable[..., None], engine: Engine, verify: Run, kind: str
) -> None:
    auth0.control("PUT", "jobs", {"gzip": False})
    refusing({"where": "export", "kind": kind})
    verify(repair=True)
    whom = spoil(engine)
    drift = verify()
    assert drift.users == 300
    assert {one: drift.examples[one][0][0] for one in whom} == whom
    assert drift.total == 4


def test_who_cannot_be_read_is_counted_and_the_comparison_is_incomplete(engine: Engine, verify: Run) -> None:
    execute(engine, "INSERT INTO users (user_id, profile, synced_at) VALUES ('..', '{}', now() - interval '1 day')")
    drift = verify()  # no URL can name this one
    assert (drift.total, drift.bad, drift.is_whole) == (0, 1, False)
    assert "incomplete: 1 profiles could not be read" in "\n".join(shown(drift, str))


def vanish(engine: Engine, number: int) -> None:
    execute(
        engine,
        """INSERT INTO users (user_id, profile, synced_at)
        SELECT 'auth0|gone' || n, jsonb_build_object('user_id', 'auth0|gone' || n), now() - interval '1 day' FROM generate_series(1, :n) n""",
        n=number,
    )


def test_deletions_beyond_a_day_s_share_wait_for_a_human(engine: Engine, verify: Run) -> None:
    vanish(engine, 15)
    drift = verify(repair=True)
    assert (drift.counts["extra"], drift.mended, drift.braked) == (15, 10, 5)
    assert "5 deletions wait for an answer" in "\n".join(shown(drift, str))


def test_as_many_deletions_pass_as_a_human_allows(engine: Engine, verify: Run) -> None:
    vanish(engine, 15)
    drift = verify(repair=True, allow_deletes=3)
    assert (drift.mended, drift.braked) == (13, 2)


def test_a_program_is_told_the_same(engine: Engine, verify: Run) -> None:
    spoil(engine)
    told = as_json(verify(), lambda _: "u")
    assert told["complete"]
    assert (told["stale"], told["examples"]["different"]) == (1, [{"user": "u", "attributes": ["nickname"]}])


def test_who_is_kept_out_is_no_drift_and_who_came_back_is(engine: Engine, verify: Run) -> None:  # P14
    out, back = some(engine, 2)
    with engine.begin() as connection:
        schema.claim_tenant(connection, "acme.eu.auth0.com")
    with engine.begin() as connection:
        forgotten.remember(connection, [out], keep_out=True)
        forgotten.remember(connection, [back], keep_out=False)
        connection.execute(text("DELETE FROM users WHERE user_id = ANY(:ids)"), {"ids": [out, back]})
    drift = verify()
    assert drift.counts == {"missing": 1, "extra": 0, "stale": 0, "different": 0}
    assert drift.examples["missing"] == [(back, [])]
    assert verify(repair=True).mended == 1
    assert verify().total == 0
    with engine.connect() as connection:
        assert connection.execute(
            text("SELECT user_id FROM users WHERE user_id = ANY(:ids)"), {"ids": [out, back]}
        ).all() == [(back,)]
