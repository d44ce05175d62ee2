"""Who pulls is killed in the middle, and who heals: what comes after goes on from there, and nothing is read or counted twice."""

from __future__ import annotations

from typing import Any

import pytest

from tests.journeys.conftest import OnStage
from tests.journeys.kills import (
    Kill,
    hang_once,
    hangs,
    held_before,
    is_leased,
    kill_children,
    kill_everything,
    let_leases_end,
    start_again,
)
from tests.journeys.stage import Stage

pytestmark = [pytest.mark.journey, pytest.mark.timeout(600)]

EVENT_TOKEN = "the-event-stream's-own-token"
DATABASE = "Username-Password-Authentication"  # whose users have no `locale`, which no event tells
KILLS = [kill_children, kill_everything]
GET_LOGS = "GET /api/v2/logs"


def slow(stage: Stage, path: str, seconds: float, method: str = "GET") -> None:
    stage.faults({"where": "api", "kind": "delay", "seconds": seconds, "match": {"method": method, "path": path}})


def begin_pulling(stage: Stage) -> None:
    """Have the first pull come to its end, which finds somebody."""
    stage.sign_up(1, connection=DATABASE)
    stage.replace_beat()
    heard = "feeds WHERE name = 'events' AND position IS NOT NULL"
    stage.wait_until(lambda: pages(stage) + stage.count(heard) > 0 and not is_leased(stage, "feeds", "true"), "a pull")


def go_on(stage: Stage) -> None:
    """Let the dead's leases end and the tenant be well, and start everything again."""
    stage.faults()
    let_leases_end(stage)
    start_again(stage)


def pages(stage: Stage) -> int:
    return stage.count("inbox WHERE source = 'pulled'")


def kill_in_the_middle_of_the_log(stage: Stage, kill: Kill) -> None:
    """Have the tenant take two seconds for each page, and kill who waits for the third."""
    slow(stage, "/logs$", 2)
    before, written = pages(stage), stage.tenant.control("GET", "stats")["logs_written"]
    stage.sign_up(150, connection=DATABASE)
    written = stage.tenant.control("GET", "stats")["logs_written"] - written
    stage.replace_beat()
    stage.wait_until(lambda: pages(stage) >= before + 2 and is_leased(stage, "feeds", "name = 'logs'"), "two pages")
    kill(stage)
    assert is_leased(stage, "feeds", "name = 'logs'"), "nobody was killed in the middle"
    assert written > 100 * (pages(stage) - before), "the log was read to its end"


def test_a_pull_of_the_log_that_is_killed_between_two_pages_is_gone_on_with(play: OnStage) -> None:
    with play(stream=False, settings={"RECONCILE_EVERY": "0"}) as stage:
        begin_pulling(stage)
        for kill in KILLS:
            kill_in_the_middle_of_the_log(stage, kill)
            read, left = stage.calls(GET_LOGS), stage.tenant.control("GET", "stats")["logs_written"]
            go_on(stage)
            stage.wait_until(stage.is_right, "the rest of the log")
            stage.wait_until(lambda: not is_leased(stage, "feeds", "true"), "its end")
            assert stage.calls(GET_LOGS) - read <= left / 100 + 3
        stage.assert_equal(at_least=300)
        assert stage.understudy("status").status == 0


def kill_in_the_middle_of_the_events(stage: Stage, kill: Kill) -> None:
    """Have each event come a fifth of a second after the one before, and kill who listens when some are stored."""
    stage.faults({"where": "pull", "kind": "delay", "seconds": 0.2})
    before, happened = stage.counter("events_pulled"), happening(stage)
    stage.sign_up(150, connection=DATABASE, login=False)
    happened = happening(stage) - happened
    stage.replace_beat()
    stage.wait_until(
        lambda: stage.counter("events_pulled") > before and is_leased(stage, "feeds", "name = 'events'"), "some events"
    )
    kill(stage)
    assert is_leased(stage, "feeds", "name = 'events'"), "nobody was killed in the middle"
    assert 0 < stage.counter("events_pulled") - before < happened


def happening(stage: Stage) -> int:
    return int(stage.tenant.control("GET", "events")["happened"])


def test_who_listens_and_is_killed_in_the_stream_is_followed_by_one_who_goes_on(play: OnStage) -> None:
    alone = {"LOG_STREAM_TOKENS": "", "EVENT_STREAM_TOKENS": EVENT_TOKEN, "PULL_EVENTS": "true", "RECONCILE_EVERY": "0"}
    with play(stream=False, settings=alone) as stage:
        begin_pulling(stage)
        for kill in KILLS:
            kill_in_the_middle_of_the_events(stage, kill)
            go_on(stage)
            stage.wait_until(stage.is_right, "the rest of the events")
        stage.assert_equal(at_least=300)
        assert stage.counter("events_pulled") == happening(stage), "each is stored once"
        assert stage.calls("GET /api/v2/users", "GET /api/v2/users/{id}") <= 1
        assert stage.understudy("status").status == 0


def event_stream(stage: Stage) -> dict[str, Any]:
    [stream] = stage.tenant.control("GET", "event-streams")["streams"]
    return dict(stream)


def kill_in_the_middle_of_a_redelivery(stage: Stage) -> None:
    """Have deliveries fail while the web process is away, and kill who asks for them once more."""
    stage.tenant.control("PUT", "event-streams/pace", {"scale": 0.01})
    stage.product.web.kill()
    stage.sign_up(10, connection=DATABASE, login=False)
    stage.wait_until(lambda: event_stream(stage)["failed"] == 10, "deliveries to fail")
    hang_once(stage, "POST", "/redeliver$")
    stage.product.web.start()
    stage.wait_until(lambda: hangs(stage), "heal to ask for them")
    kill_everything(stage)
    assert event_stream(stage)["failed"] == 10


def kill_who_has_just_started_a_stream(stage: Stage) -> None:
    """Kill heal when the disabled stream runs again and nothing is written down of it."""
    stage.tenant.control("POST", "event-streams/disable")
    stage.sign_up(10, connection=DATABASE, login=False)  # of which no event ever tells
    with held_before(stage, "counters", "NEW.name = 'streams_started'") as is_held:
        stage.wait_until(is_held, "the stream to be started")
        assert event_stream(stage)["status"] == "enabled"
        kill_everything(stage)


def test_who_heals_and_is_killed_leaves_nothing_lost(play: OnStage) -> None:
    alone = {"LOG_STREAM_TOKENS": "", "EVENT_STREAM_TOKENS": EVENT_TOKEN, "RECONCILE_EVERY": "0", "PULL_EVERY": "2s"}
    with play(stream=False, settings={**alone, "WATCH_STREAMS": "true", "HEAL_STREAMS": "true"}) as stage:
        stage.set_up()
        stage.sign_up(10, connection=DATABASE, login=False)
        stage.assert_equal(at_least=10)

        kill_in_the_middle_of_a_redelivery(stage)
        go_on(stage)
        stage.wait_until(lambda: event_stream(stage)["failed"] == 0, "what had failed")
        stage.assert_equal(at_least=20)
        assert stage.count("runs") == 0, "nothing was lost that had to be compared"

        kill_who_has_just_started_a_stream(stage)
        go_on(stage)
        stage.wait_until(lambda: stage.count("runs WHERE state = 'complete'") == 1, "the gap to be reconciled")
        stage.assert_equal(at_least=30)
        assert stage.understudy("status").status == 0
