"""Streams that Auth0 stopped are noticed and started again, and what an event stream failed to deliver is asked for once more."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import Engine

from tests.simulator.running import Simulator
from tests.worker.sync.pulling import Copy, copy_of
from worker.auth0.streams import Kind, Stream, Streams
from worker.errors import Permanent, Refused
from worker.sync.heal import Heal


class Unhealthy(Permanent):
    """Our own end does not answer."""


class Receiver:
    """A web server of ours: the events it was sent and took, and what it answers."""

    def __init__(self) -> None:
        self.status = 204
        self.got: list[bytes] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                if receiver.status == 204 and self.path == "/events":
                    receiver.got.append(body)
                self.send_response(receiver.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        Thread(target=self.server.serve_forever, daemon=True).start()

    def check(self) -> None:
        if self.status != 204:
            raise Unhealthy("it answers an error")


@pytest.fixture
def auth0() -> Iterator[Simulator]:
    simulator = Simulator("--plan", "none", "--index-lag", "0", "--log-skew", "0")
    simulator.control("PUT", "event-streams/pace", {"scale": 0.01})
    yield simulator
    simulator.stop()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


@pytest.fixture
def copy(auth0: Simulator, engine: Engine, redis_url: str, receiver: Receiver) -> Iterator[Copy]:
    with copy_of(auth0, engine, redis_url) as copy:
        copy.tenant.ask(
            "other", "", lambda api: api.log_streams.create(request=_log_stream(receiver.url)), lambda _: None
        )
        bearer = {"method": "bearer", "token": "t"}
        destination = {
            "type": "webhook",
            "configuration": {"webhook_endpoint": f"{receiver.url}/events", "webhook_authorization": bearer},
        }
        body: Any = {"name": "ours", "subscriptions": [{"event_type": "user.created"}], "destination": destination}
        copy.tenant.ask("other", "", lambda api: api.event_streams.create(request=body), lambda _: None)
        yield copy


def _log_stream(url: str) -> Any:
    sink = {"httpEndpoint": f"{url}/logs", "httpContentFormat": "JSONLINES", "httpAuthorization": "t"}
    return {"name": "ours", "type": "http", "sink": sink}


def heal(
    copy: Copy,
    receiver: Receiver,
    *,
    starts: bool = True,
    streams: Streams | None = None,
    log_kept: timedelta | None = None,
) -> None:
    endpoints: dict[Kind, str] = {"log": f"{receiver.url}/logs", "event": f"{receiver.url}/events"}
    streams = streams or Streams(copy.tenant)
    loop = Heal(copy.engine, streams, copy.budget, endpoints, receiver.check, starts, log_kept)
    loop.run(go_on=lambda: True)


def streams(copy: Copy) -> dict[Kind, Stream]:
    kinds: tuple[Kind, ...] = ("log", "event")
    return {kind: Streams(copy.tenant).list(kind)[0] for kind in kinds}


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_where_both_streams_run_nothing_is_said_or_changed(copy: Copy, receiver: Receiver) -> None:
    heal(copy, receiver)
    assert copy.conditions() == {}
    assert copy.count("streams_started") == 0


@pytest.mark.parametrize("status", ["paused", "suspended"])
def test_a_stopped_log_stream_is_said_and_started_again(copy: Copy, receiver: Receiver, status: str) -> None:
    copy.auth0.control("POST", "streams/pause", {"status": status})
    heal(copy, receiver, starts=False)
    assert f"Auth0 has {status} our log stream" in copy.conditions()["log_stream_stopped"]
    assert not streams(copy)["log"].runs
    heal(copy, receiver)
    assert streams(copy)["log"].runs
    assert "log_stream_stopped" not in copy.conditions()


def test_no_stream_is_started_while_our_own_end_is_not_healthy(copy: Copy, receiver: Receiver) -> None:
    copy.auth0.control("POST", "streams/pause")
    receiver.status = 503
    heal(copy, receiver)
    assert not streams(copy)["log"].runs
    assert "log_stream_stopped" in copy.conditions()


def test_a_disabled_event_stream_is_enabled_and_its_gap_reconciled(copy: Copy, receiver: Receiver) -> None:
    copy.auth0.control("POST", "event-streams/disable")
    heal(copy, receiver)
    assert streams(copy)["event"].runs
    assert set(copy.conditions()) == {"reconcile_wanted"}


WANTED = "reconcile_wanted"


class Dying(Streams):
    """Starts a stream, and its process dies of it."""

    def start(self, stream: Stream) -> None:
        super().start(stream)
        raise KeyboardInterrupt


def test_the_gap_of_a_stream_that_was_started_by_who_died_of_it_is_reconciled(copy: Copy, receiver: Receiver) -> None:
    copy.auth0.control("POST", "event-streams/disable")
    with pytest.raises(KeyboardInterrupt):
        heal(copy, receiver, streams=Dying(copy.tenant))
    assert streams(copy)["event"].runs
    assert set(copy.conditions()) == {"event_stream_stopped", WANTED}
    copy.tell("DELETE FROM conditions WHERE name = :wanted", wanted=WANTED)  # it was reconciled, before the start
    heal(copy, receiver)
    assert set(copy.conditions()) == {WANTED}


def test_the_gap_of_a_stream_that_was_started_by_hand_is_reconciled(copy: Copy, receiver: Receiver) -> None:
    copy.auth0.control("POST", "event-streams/disable")
    heal(copy, receiver, starts=False)
    assert set(copy.conditions()) == {"event_stream_stopped", WANTED}
    copy.tell("DELETE FROM conditions WHERE name = :wanted", wanted=WANTED)  # it was reconciled
    heal(copy, receiver, starts=False)
    assert set(copy.conditions()) == {"event_stream_stopped"}  # once is enough, until something changes
    copy.auth0.control("POST", "event-streams/enable")
    heal(copy, receiver, starts=False)
    assert set(copy.conditions()) == {WANTED}
    copy.tell("DELETE FROM conditions")
    heal(copy, receiver, starts=False)
    assert copy.conditions() == {}


@pytest.mark.parametrize(
    ("since", "kept", "wanted"),
    [("25 h", timedelta(days=1), {WANTED}), ("23 h", timedelta(days=1), set()), ("25 h", None, set())],
)
def test_a_log_stream_that_was_stopped_for_longer_than_auth0_queues_is_reconciled(
    copy: Copy, receiver: Receiver, since: str, kept: timedelta | None, wanted: set[str]
) -> None:
    copy.auth0.control("POST", "streams/pause")
    heal(copy, receiver, starts=False, log_kept=kept)
    assert set(copy.conditions()) == {"log_stream_stopped"}
    copy.tell("UPDATE conditions SET since = now() - CAST(:since AS interval)", since=since)
    copy.auth0.control("POST", "streams/resume")
    heal(copy, receiver, starts=False, log_kept=kept)
    assert set(copy.conditions()) == wanted


def test_a_stream_that_cannot_be_started_is_said_and_stops_nothing_else(copy: Copy, receiver: Receiver) -> None:
    copy.auth0.control("POST", "streams/pause")
    copy.auth0.control("POST", "event-streams/disable")
    refused = {"where": "api", "kind": "status", "status": 400, "match": {"method": "PATCH", "path": "/log-streams/"}}
    copy.auth0.control("PUT", "faults", [refused])
    heal(copy, receiver)
    assert not streams(copy)["log"].runs
    assert streams(copy)["event"].runs
    assert set(copy.conditions()) == {"log_stream_stopped", WANTED}
    assert copy.count("streams_started") == 1


def test_failed_deliveries_are_said_and_redelivered(copy: Copy, receiver: Receiver) -> None:
    receiver.status = 401
    copy.auth0.sign_up(5)
    copy.auth0.control("POST", "event-streams/drain", {"seconds": 20})
    receiver.status = 204
    heal(copy, receiver, starts=False)
    assert copy.conditions()["event_deliveries_failed"].startswith("5 deliveries")
    receiver.got.clear()
    heal(copy, receiver)
    eventually(lambda: len(receiver.got) == 5)
    heal(copy, receiver)
    assert copy.conditions() == {}


def test_a_stream_is_started_though_what_failed_cannot_be_asked_for(copy: Copy, receiver: Receiver) -> None:
    receiver.status = 401
    copy.auth0.sign_up(5)
    copy.auth0.control("POST", "event-streams/drain", {"seconds": 20})
    receiver.status = 204
    copy.auth0.control("POST", "event-streams/disable")
    refused = {"where": "api", "kind": "status", "status": 409, "match": {"method": "POST", "path": "/redeliver"}}
    copy.auth0.control("PUT", "faults", [refused])
    heal(copy, receiver)
    assert streams(copy)["event"].runs
    assert set(copy.conditions()) == {"event_deliveries_failed", WANTED}
    assert copy.count("redeliveries_asked_for") == 0


def test_streams_to_others_are_left_alone(copy: Copy) -> None:
    elsewhere = Receiver()
    copy.auth0.control("POST", "streams/pause")
    heal(copy, elsewhere)
    assert "run `understudy setup`" in copy.conditions()["log_stream_stopped"]
    assert not streams(copy)["log"].runs
    elsewhere.server.shutdown()
    elsewhere.server.server_close()


def test_a_missing_scope_is_said(auth0: Simulator, engine: Engine, redis_url: str, receiver: Receiver) -> None:
    client = auth0.control("POST", "clients", {"scopes": ["read:users"]})
    granted = {"auth0_m2m_client_id": client["client_id"], "auth0_m2m_client_secret": client["client_secret"]}
    with copy_of(auth0, engine, redis_url, **granted) as copy:
        with pytest.raises(Refused):
            heal(copy, receiver)
        assert "read:log_streams" in copy.conditions()["streams_unwatched"]
