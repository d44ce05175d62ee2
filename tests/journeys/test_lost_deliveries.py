"""Deliveries are lost in every way that Auth0 can lose them, and pulls, healing and a reconcile make the copy right again."""

from __future__ import annotations

import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.journeys.conftest import OnStage
from tests.journeys.stage import TOKEN, Stage
from worker import views
from worker.auth0.pace import Budget
from worker.commands.checks import scopes_needed
from worker.queue import connect_redis
from worker.settings import Settings

pytestmark = pytest.mark.journey

EVENT_TOKEN = "the-event-stream's-own-token"
WRONG = "a-token-that-nobody-sends"
OFTEN = {"PULL_EVERY": "2s"}
BOTH = {"LOG_STREAM_TOKENS": TOKEN, "EVENT_STREAM_TOKENS": EVENT_TOKEN}
HEALING = {"WATCH_STREAMS": "true", "HEAL_STREAMS": "true"}


def configured(stage: Stage, **settings: str) -> Settings:
    return Settings.model_validate({name.lower(): value for name, value in {**stage.environ, **settings}.items()})


def with_the_scopes_it_needs(stage: Stage, **settings: str) -> dict[str, str]:
    """Register an application with exactly the scopes that these settings call for."""
    return {**settings, **stage.application(*scopes_needed(configured(stage, **settings)))}


def simulate(stage: Stage, method: str, path: str, body: Any = None) -> Any:
    return stage.tenant.control(method, path, body)


def problems(stage: Stage, **settings: str) -> list[str]:
    """Return what `understudy status` would say needs a human."""
    chosen = configured(stage, **settings)
    with closing(connect_redis(chosen)) as redis:
        return views.status(chosen, budget=Budget(redis, chosen)).problems


def says(stage: Stage, *words: str, **settings: str) -> bool:
    said = problems(stage, **settings)
    return all(any(word in problem for problem in said) for word in words)


def of_an_hour_ago() -> dict[str, str]:
    """A record that says nothing, old enough for a pull to go on from."""
    date = datetime.now(UTC) - timedelta(hours=1)
    return {"log_id": f"90020{date:%Y%m%d%H%M%S}{0:037d}", "date": f"{date:%Y-%m-%dT%H:%M:%S.000Z}", "type": "seccft"}


def runs(stage: Stage) -> int:
    return stage.count("runs WHERE kind = 'reconcile' AND state = 'complete'")


def assert_doctor_says(stage: Stage, status: int, *words: str) -> None:
    """Run doctor with an application that may look at the streams and have test events sent."""
    may = ("read:log_streams", "read:event_streams", "read:event_deliveries", "update:event_streams")
    able = stage.application("read:users", "update:users", "update:users_app_metadata", *may)
    told = stage.understudy("doctor", **able)
    assert [word for word in words if word not in told.out] == [], told.out
    assert told.status == status, told.out


def assert_well(stage: Stage) -> None:
    """Nothing needs a human, and no call was refused for want of a scope."""
    stage.wait_until(lambda: not problems(stage), "nothing that needs a human")
    assert stage.understudy("status").status == 0
    assert simulate(stage, "GET", "stats")["api_statuses"].get("403", 0) == 0


def test_what_no_webhook_brings_is_pulled_and_status_tells_quiet_from_broken(play: OnStage) -> None:
    with play(stream=False, settings={**OFTEN, "RECONCILE_EVERY": "0"}) as stage:
        stage.replace_worker(**with_the_scopes_it_needs(stage))
        stage.set_up()
        stage.sign_up(30)
        stage.assert_equal(at_least=30)
        # The tenant is quiet: nothing comes, and the pull finds nothing that was missed.
        impatient = {"SILENCE_FLOOR": "5s"}
        time.sleep(6)
        told = stage.understudy("status", **impatient)
        assert "quiet, for longer than usual" in told.out
        assert told.status == 0

        simulate(stage, "POST", "streams/pause")
        stage.live(60)
        stage.burst(60, 0)
        stage.wait_until(lambda: says(stage, "though the tenant has news", **impatient), "a broken stream")
        assert "broken: the tenant has news" in stage.understudy("status", **impatient).out
        stage.wait_until(stage.is_right, "the copy to be right while the stream is still paused")
        assert stage.counter("log_records_missed") > 60

        # What the stream had queued comes after all: nobody is read for it again.
        reads = simulate(stage, "GET", "stats")["api_calls"].get("GET /api/v2/users/{id}", 0)
        simulate(stage, "POST", "streams/resume")
        stage.wait_until_drained()
        stage.assert_equal(at_least=10)
        assert reads > 0
        assert_well(stage)


def test_streams_that_auth0_stopped_are_started_once_our_own_end_is_healthy(play: OnStage) -> None:
    with play(stream=False, settings={**OFTEN, **BOTH, "PULL_LOGS": "false", "RECONCILE_EVERY": "0"}) as stage:
        stage.set_up()
        stage.replace_worker(**with_the_scopes_it_needs(stage, WATCH_STREAMS="true"))
        stage.sign_up(30)
        stage.assert_equal(at_least=30)
        assert_well(stage)
        assert_doctor_says(stage, 0, "sent by Auth0, drained here", "one came from Auth0 just now", "failed events")

        # Tokens are wrong for a while: a log stream tries on, an event stream gives up at once.
        stage.replace_web(LOG_STREAM_TOKENS=WRONG, EVENT_STREAM_TOKENS=WRONG)
        stage.live(40, seed=2)
        simulate(stage, "POST", "event-streams/drain", {"seconds": 30})
        simulate(stage, "POST", "streams/pause")
        simulate(stage, "POST", "event-streams/disable")
        stage.live(40, seed=3)  # of these the event stream keeps nothing
        wrong = ("wrong token", "paused our log stream", "disabled our event stream", "of our event stream failed")
        stage.wait_until(lambda: says(stage, *wrong), " and ".join(wrong))

        # Our own end refuses what Auth0 would send: nothing is started, however much that is wanted.
        stage.environ.update(BOTH)
        assert_doctor_says(
            stage, 1, "Auth0 has paused it", "Auth0 has disabled it", "refuses the first of LOG_STREAM_TOKENS"
        )
        stage.replace_worker(**with_the_scopes_it_needs(stage, **HEALING))
        stage.wait_until(lambda: "no stream is started" in stage.output.of("worker"), "a look at our own end")
        assert stage.counter("streams_started") == 0

        stage.replace_web(**BOTH)
        stage.wait_until(lambda: stage.counter("streams_started") == 2, "both streams to be started")
        assert stage.counter("redeliveries_asked_for") > 0
        stage.wait_until(lambda: runs(stage) > 0, "the gap to be reconciled")
        stage.wait_until(lambda: not says(stage, "stream"), "the streams to be well")
        [stream] = simulate(stage, "GET", "event-streams")["streams"]
        assert (stream["status"], stream["failed"]) == ("enabled", 0)
        assert stream["lost"] > 0
        stage.assert_equal(at_least=10)
        stage.execute("UPDATE counters SET latest_at = now() - interval '1 hour' WHERE name LIKE 'unauthorized%'")
        assert_well(stage)


def test_with_event_streams_alone_a_thousand_logins_cost_no_call(play: OnStage) -> None:
    alone = {"LOG_STREAM_TOKENS": "", "EVENT_STREAM_TOKENS": EVENT_TOKEN, "RECONCILE_EVERY": "0"}
    with play(stream=False, settings={**OFTEN, **alone}) as stage:
        stage.set_up()
        stage.sign_up(100, connection="Username-Password-Authentication")  # no event tells of a `locale`
        simulate(stage, "POST", "event-streams/drain", {"seconds": 30})
        stage.assert_equal(at_least=100)
        simulate(stage, "POST", "stats/reset")
        stage.burst(1000, 5)
        assert simulate(stage, "POST", "event-streams/drain", {"seconds": 60})["pending"] == 0
        stage.assert_equal(at_least=100)
        assert stage.counter("events_user") >= 1000
        assert simulate(stage, "GET", "stats")["api_calls_total"] == 0


def test_what_aged_out_before_it_was_pulled_is_found_by_a_reconcile(play: OnStage) -> None:
    settings = {**OFTEN, **BOTH, "PULL_EVENTS": "true", "RECONCILE_EVERY": "0"}
    with play(stream=False, settings=settings) as stage:
        simulate(stage, "POST", "logs", {"records": [of_an_hour_ago()]})
        stage.sign_up(30)  # no stream at all: pulls alone bring them
        stage.wait_until(lambda: stage.count("feeds WHERE position IS NOT NULL") == 2, "both pulls to begin")
        stage.assert_equal(at_least=30)
        assert runs(stage) == 0

        stage.product.worker.stop()
        stage.live(60, seed=2)
        simulate(stage, "POST", "logs/expire", {"keep": 1})
        simulate(stage, "POST", "events/expire", {"keep": 1})
        stage.replace_worker()
        stage.wait_until(lambda: "checkpoint has expired" in stage.output.of("worker"), "the log's checkpoint")
        stage.wait_until(lambda: "offset of the events has expired" in stage.output.of("worker"), "the events' offset")
        stage.replace_beat()  # a wanted reconcile is looked for every minute, and when beat starts
        stage.wait_until(lambda: runs(stage) > 0, "a reconcile")
        stage.assert_equal(documented=True)
        stage.wait_until(lambda: not says(stage, "cannot be pulled"), "pulls that go on")
        calls = simulate(stage, "GET", "stats")["api_calls"]
        made = "', '".join(stage.sign_up(5))
        stage.wait_until(lambda: stage.count(f"users WHERE user_id IN ('{made}')") == 5, "what is pulled after it")
        stage.assert_equal(documented=True)
        assert calls["GET /api/v2/events"] > 0
