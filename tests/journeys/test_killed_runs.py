"""Runs over the whole tenant are killed wherever they stand: the next goes on, and none is called complete before its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.journeys.conftest import OnStage
from tests.journeys.kills import (
    hang_once,
    hangs,
    held_before,
    is_leased,
    kill_children,
    kill_everything,
    killed,
    let_leases_end,
    start_again,
)
from tests.journeys.stage import Stage

pytestmark = [pytest.mark.journey, pytest.mark.timeout(600)]

REFUSED = {"where": "api", "kind": "status", "status": 403, "match": {"method": "POST", "path": "users-exports"}}
SLOW_SEARCHES = {"where": "api", "kind": "delay", "seconds": 1, "match": {"method": "GET", "path": "/users$"}}
SLOW_FILE = {"where": "export", "kind": "delay", "seconds": 0.5}
ASKED_FOR = "POST /api/v2/jobs/users-exports"


def loaded(stage: Stage, count: int, **jobs: Any) -> None:
    """Fill the tenant with people who were always there, of whom nothing tells; say how its exports go."""
    stage.tenant.control("POST", "users/load", {"count": count})
    stage.tenant.control("PUT", "jobs", {"gzip": False, **jobs})


def absent(stage: Stage, number: int) -> None:
    """Let so many people be deleted without a word."""
    for (user_id,) in stage.query("SELECT user_id FROM live_users ORDER BY user_id")[:number]:
        stage.tenant.control("POST", "people/act", {"act": "delete", "user_id": user_id, "log": "none"})


def run_of(stage: Stage, kind: str) -> dict[str, Any]:
    """Return the newest run of this kind as it is written down; there must be one alone that is not over."""
    found = stage.query(
        f"SELECT to_jsonb(runs) FROM runs WHERE kind = '{kind}' AND started_at > now() - interval '1 h' ORDER BY id DESC"  # noqa: S608 our own word
    )
    assert sum(run["state"] == "running" for (run,) in found) <= 1
    return dict(found[0][0]) if found else {"state": "", "position": {}, "report": {}}


def has_read(stage: Stage, kind: str, least: int) -> bool:
    """Say whether somebody is at a run that has come so far and no further than it goes."""
    return int(run_of(stage, kind)["report"].get("users", 0)) >= least and is_leased(stage, "runs", f"kind = '{kind}'")


def is_under_way(stage: Stage, kind: str) -> bool:
    return bool(run_of(stage, kind)["state"] == "running")


def test_a_backfill_that_is_killed_wherever_it_stands_goes_on_from_there(play: OnStage) -> None:
    with play() as stage:
        loaded(stage, 2_500, export_seconds=8, link_seconds=5)

        with killed(stage, "backfill"):
            hang_once(stage, "POST", "users-exports$")
            stage.wait_until(lambda: hangs(stage), "an export to be asked for")
        assert stage.count("feeds WHERE name = 'logs'") == 1  # P23
        assert is_under_way(stage, "backfill")
        told = stage.understudy("backfill")
        assert told.status == 2
        assert "another backfill is under way, or was killed less than a minute ago" in told.err
        let_leases_end(stage)
        assert "a backfill was stopped before its end" in stage.understudy("status").out

        stage.faults()
        with killed(stage, "backfill"):
            stage.wait_until(lambda: "job" in run_of(stage, "backfill")["position"], "an export to be made")
        assert is_under_way(stage, "backfill")
        assert stage.count("users") == 0

        let_leases_end(stage)
        stage.faults({"where": "export", "kind": "hang", "times": 1})
        with killed(stage, "backfill"):
            stage.wait_until(lambda: hangs(stage), "the file to be opened")
        assert is_under_way(stage, "backfill")
        assert stage.count("users") == 0

        let_leases_end(stage)
        stage.faults(SLOW_FILE)
        stage.sign_up(10, connection="Username-Password-Authentication")
        with killed(stage, "backfill"):
            stage.wait_until(lambda: has_read(stage, "backfill", 1_000), "some of the file")
        assert is_under_way(stage, "backfill")
        assert run_of(stage, "backfill")["report"]["users"] < 2_500

        let_leases_end(stage)
        stage.faults()
        with held_before(stage, "runs", "NEW.state = 'complete'") as is_held, killed(stage, "backfill"):
            stage.wait_until(is_held, "the end of the file")
        assert is_under_way(stage, "backfill")
        assert run_of(stage, "backfill")["report"]["users"] == 2_500
        assert "a backfill was stopped before its end" not in stage.understudy("status").out

        let_leases_end(stage)
        told = stage.understudy("backfill")
        assert (told.status, told.out.partition(",")[0]) == (0, "2500 users read")
        assert stage.query("SELECT kind, state FROM runs") == [("backfill", "complete")]
        assert stage.calls(ASKED_FOR) == 1
        stage.assert_equal(at_least=2_510, documented=True)
        assert stage.understudy("status").status == 0


def test_a_verify_that_is_killed_is_never_complete_and_the_next_mends(play: OnStage) -> None:
    with play(people=30) as stage:
        absent(stage, 3)
        stage.tenant.control("POST", "users/load", {"count": 20})

        hang_once(stage, "GET", "/users/[^/]+$")
        with killed(stage, "verify", "--repair"):
            stage.wait_until(lambda: hangs(stage), "a difference to be confirmed")
        assert stage.count("runs WHERE kind = 'verify' AND state = 'complete'") == 0
        told = stage.understudy("verify", "--repair")
        assert told.status == 2
        assert "another verify is under way, or was killed less than a minute ago" in told.err

        let_leases_end(stage)
        stage.faults()
        told = stage.understudy("verify", "--repair")
        assert told.status == 0, told.out
        assert stage.query("SELECT state FROM runs ORDER BY id") == [("failed",), ("complete",)]
        stage.replace_beat()  # it rings for cleaning
        stage.wait_until(lambda: stage.count("exported") == 0, "what the dead had noted to go")
        stage.assert_equal(at_least=47, documented=True)


def want_a_reconcile(stage: Stage) -> None:
    stage.execute(
        "UPDATE runs SET started_at = started_at - interval '1 day'; "
        "INSERT INTO conditions (name, detail) VALUES ('reconcile_wanted', 'a journey wants it')"
    )
    stage.replace_beat()


def go_on(stage: Stage) -> None:
    let_leases_end(stage)
    start_again(stage)


def complete(stage: Stage) -> bool:
    return bool(run_of(stage, "reconcile")["state"] == "complete")


def kill_when(stage: Stage, kill: Callable[[Stage], None], true: Callable[[], bool], what: str) -> None:
    """Kill when a reconcile has come so far, and start everything again."""
    stage.wait_until(true, what)
    kill(stage)
    assert is_under_way(stage, "reconcile")
    assert stage.count("conditions WHERE name = 'reconcile_wanted'") == 1
    go_on(stage)


def kill_while_it_doubts(stage: Stage) -> None:
    """Kill it when it has read everybody, and is about to have those looked at who are here and not there."""
    with held_before(stage, "news", "NEW.strong") as is_held:
        stage.wait_until(is_held, "the absent to be marked")
        kill_everything(stage)
    assert is_under_way(stage, "reconcile")
    go_on(stage)


def assert_reconciled(stage: Stage, users: int, extra: int) -> None:
    stage.wait_until(lambda: complete(stage), "the end of the reconcile")
    report = run_of(stage, "reconcile")["report"]
    assert (report["users"], report["extra"], report["unread"]) == (users, extra, 0)
    assert stage.count("conditions") == 0
    assert stage.count("exported") == 0
    stage.assert_equal(at_least=users, documented=True)
    assert stage.understudy("status").status == 0


def test_a_reconcile_by_an_export_is_gone_on_with_by_whoever_comes_next(play: OnStage) -> None:
    with play(people=12, settings={"RECONCILE_EVERY": "0"}) as stage:
        loaded(stage, 2_500, export_seconds=8)
        absent(stage, 2)
        stage.faults(SLOW_FILE)
        want_a_reconcile(stage)
        kill_when(
            stage, kill_everything, lambda: "job" in run_of(stage, "reconcile")["position"], "an export to be made"
        )
        kill_when(stage, kill_children, lambda: has_read(stage, "reconcile", 1_000), "some of the file")
        stage.faults()
        kill_while_it_doubts(stage)
        assert_reconciled(stage, 2_510, extra=2)
        assert stage.calls(ASKED_FOR) == 1


def test_a_reconcile_by_searches_is_gone_on_with_and_repeats_a_page_at_most(play: OnStage) -> None:
    with play(people=12, settings={"RECONCILE_EVERY": "0"}) as stage:
        loaded(stage, 1_200)
        absent(stage, 2)
        searches = "GET /api/v2/users"
        stage.faults(REFUSED, SLOW_SEARCHES)
        before = stage.calls(searches)
        want_a_reconcile(stage)
        kill_when(stage, kill_children, lambda: has_read(stage, "reconcile", 1), "a page")
        kill_when(stage, kill_everything, lambda: has_read(stage, "reconcile", 500), "some more pages")
        stage.faults(REFUSED)
        kill_while_it_doubts(stage)
        assert_reconciled(stage, 1_210, extra=2)
        killed_thrice = stage.calls(searches) - before

        before = stage.calls(searches)
        want_a_reconcile(stage)
        assert_reconciled(stage, 1_210, extra=0)
        assert killed_thrice <= stage.calls(searches) - before + 3
