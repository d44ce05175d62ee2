"""The Events API: events pulled as server-sent events."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tests.simulator.running import Simulator, eventually

DATABASE = "Username-Password-Authentication"
Message = dict[str, Any]


@pytest.fixture(autouse=True)
def _usual(tenant: Simulator) -> Iterator[None]:
    tenant.control("PUT", "events", {"logins": True, "previous_object": 0, "context": 0, "social_false": 0})
    tenant.control("PUT", "events/pull", {"heartbeat": 15, "cycle": 60, "connections": None})
    yield
    tenant.control("DELETE", "faults")


@contextmanager
def pulling(
    tenant: Simulator, headers: dict[str, str] | None = None, **params: Any
) -> Iterator[tuple[httpx.Response, Iterator[Message]]]:
    """An open connection and its messages: `{event, id, data}`, or `{comment}`."""
    sent = {"Authorization": f"Bearer {tenant.default_token}", **(headers or {})}
    with tenant.http.stream("GET", "/api/v2/events", params=params, headers=sent) as answer:
        yield answer, _messages(answer)


def _messages(answer: httpx.Response) -> Iterator[Message]:
    message: Message = {}
    for line in answer.iter_lines():
        if not line and message:
            yield message
            message = {}
        elif line.startswith(":"):
            yield {"comment": line[1:].strip()}
        elif line:
            name, _, value = line.partition(": ")
            message[name] = json.loads(value) if name == "data" else value


def events(messages: Iterator[Message], count: int) -> list[Message]:
    """The next `count` events, other messages left out."""
    found: list[Message] = []
    while len(found) < count:
        message = next(messages)
        if message.get("event", "").startswith("user."):
            found.append(message)
    return found


def newcomers(tenant: Simulator, count: int = 1) -> list[str]:
    return tenant.sign_up(count, connection=DATABASE, login=False)


def now() -> str:
    return datetime.now(UTC).isoformat()


def test_a_connection_tells_what_happens_from_now_on(tenant: Simulator) -> None:
    newcomers(tenant)
    with pulling(tenant) as (answer, messages):
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert next(messages) == {"comment": "connected"}
        assert next(messages) == {"retry": "2000"}
        (user_id,) = newcomers(tenant)
        (message,) = events(messages, 1)
    assert (message["event"], message["id"]) == ("user.created", message["data"]["offset"])
    event = message["data"]["event"]
    assert (event["type"], event["data"]["object"]["user_id"]) == ("user.created", user_id)
    assert "a0stream" not in event


@pytest.mark.parametrize("by_header", [True, False])
def test_reading_resumes_behind_an_offset(tenant: Simulator, by_header: bool) -> None:
    since = now()
    user_ids = newcomers(tenant, 4)
    with pulling(tenant, from_timestamp=since) as (_, messages):
        first, second = events(messages, 2)
    place = second["id"]
    other = {"from": first["id"]} if by_header else {"from": place}
    with pulling(tenant, {"Last-Event-ID": place} if by_header else None, **other) as (_, messages):
        rest = events(messages, 2)
    told = [message["data"]["event"]["data"]["object"]["user_id"] for message in (first, second, *rest)]
    assert told == user_ids


def test_only_the_types_asked_for_are_told_and_the_offset_goes_on(tenant: Simulator) -> None:
    tenant.control("PUT", "events/pull", {"heartbeat": 0.1})
    since = now()
    (user_id,) = newcomers(tenant)
    for act in ("change_name", "change_name", "delete"):
        tenant.act(user_id, act)
    (other,) = newcomers(tenant)
    with pulling(tenant, from_timestamp=since, event_type=["user.updated", "user.deleted"]) as (_, messages):
        found = events(messages, 3)
        place = next(message for message in messages if message.get("event") == "offset-only")
    assert [message["event"] for message in found] == ["user.updated", "user.updated", "user.deleted"]
    assert place["id"] == place["data"]["offset"] != found[-1]["id"]
    tenant.act(other, "delete")
    with pulling(tenant, {"Last-Event-ID": place["id"]}) as (_, messages):
        assert events(messages, 1)[0]["event"] == "user.deleted"


def test_an_idle_connection_has_heartbeats(tenant: Simulator) -> None:
    tenant.control("PUT", "events/pull", {"heartbeat": 0.05})
    with pulling(tenant) as (_, messages):
        seen = [next(messages) for _ in range(6)]
    assert seen.count({"comment": "heartbeat"}) == 2
    assert [message["event"] for message in seen if "event" in message] == ["offset-only"] * 2


def test_a_connection_is_cycled(tenant: Simulator) -> None:
    tenant.control("PUT", "events/pull", {"cycle": 0.2})
    with pulling(tenant) as (_, messages):
        assert [message for message in messages if "event" in message] == []


def test_a_connection_ends_with_its_token(tenant: Simulator) -> None:
    token = tenant.token("read:events", seconds=2)
    with pulling(tenant, {"Authorization": f"Bearer {token}"}) as (answer, messages):
        assert answer.status_code == 200
        assert list(messages)[-1] == {"retry": "2000"}


def test_an_expired_offset_is_gone(start: Callable[..., Simulator]) -> None:
    tenant = start("--plan", "none")
    since = now()
    newcomers(tenant, 3)
    with pulling(tenant, from_timestamp=since) as (_, messages):
        first, *_ = events(messages, 3)
    assert tenant.control("POST", "events/expire", {"keep": 1}) == {"kept": 1}
    with pulling(tenant, {"Last-Event-ID": first["id"]}) as (answer, _):
        assert answer.status_code == 410
    with pulling(tenant, from_timestamp=since) as (answer, messages):
        assert len(events(messages, 1)) == 1


def test_a_reader_overtaken_by_expiry_is_told_so(start: Callable[..., Simulator]) -> None:
    tenant = start("--plan", "none")
    since = now()
    newcomers(tenant)
    tenant.control("PUT", "faults", [{"where": "pull", "kind": "delay", "seconds": 1, "times": 1}])
    with pulling(tenant, from_timestamp=since) as (_, messages):
        next(messages)
        newcomers(tenant, 2)
        tenant.control("POST", "events/expire")
        *_, last = messages
    assert (last["event"], last["data"]["error"]["code"]) == ("error", "cursor_expired")


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({"from": "nonsense"}, 400),
        ({"from": "b2Zmc2V0IDk5OTk5OQ=="}, 400),  # further than anything that happened
        ({"from": "b2Zmc2V0IDA=", "from_timestamp": "2026-01-01T00:00:00Z"}, 400),
        ({"from_timestamp": "yesterday"}, 400),
        ({"event_type": "user.renamed"}, 400),
    ],
)
def test_what_makes_no_sense_is_refused(tenant: Simulator, params: dict[str, str], status: int) -> None:
    assert tenant.api("GET", "events", params=params).status_code == status


def test_it_needs_its_scope(tenant: Simulator) -> None:
    assert tenant.api("GET", "events", tenant.token("read:users")).status_code == 403


def test_a_plan_bounds_the_open_connections(tenant: Simulator) -> None:
    tenant.control("PUT", "events/pull", {"connections": 1})
    with pulling(tenant) as (_, messages):
        next(messages)
        refused = tenant.api("GET", "events")
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")

    def opens() -> bool:
        with pulling(tenant) as (answer, _):
            return answer.status_code == 200

    eventually(opens)  # the one before has gone


def test_faults_repeat_lose_and_break_off(tenant: Simulator) -> None:
    since = now()
    newcomers(tenant, 4)
    fault = {"where": "pull", "times": 1}
    tenant.control("PUT", "faults", [{**fault, "kind": "duplicate"}])
    with pulling(tenant, from_timestamp=since) as (_, messages):
        ids = [message["id"] for message in events(messages, 5)]
    assert len(set(ids)) == 4
    tenant.control("PUT", "faults", [{**fault, "kind": "lose"}])
    with pulling(tenant, from_timestamp=since) as (_, messages):
        assert [message["id"] for message in events(messages, 3)] == ids[2:]
    tenant.control("PUT", "faults", [{**fault, "kind": "error", "message": "timeout"}])
    with pulling(tenant, from_timestamp=since) as (_, messages):
        *_, last = messages
    assert (last["event"], last["data"]["error"]["code"]) == ("error", "timeout")
    tenant.control("PUT", "faults", [{**fault, "kind": "drop"}])
    with pytest.raises(httpx.RemoteProtocolError), pulling(tenant, from_timestamp=since) as (_, messages):
        list(messages)


def test_auth0s_own_client_pulls_events(tenant: Simulator) -> None:
    tenant.control("PUT", "events", {"social_false": 1})  # its models insist on isSocial
    since = now()
    (user_id,) = newcomers(tenant)
    message = next(tenant.management().events.subscribe(from_timestamp=since, event_type="user.created"))
    assert message.event.data.object.user_id == user_id  # type: ignore[union-attr]


def test_it_ends_with_a_reader_connected(start: Callable[..., Simulator]) -> None:
    tenant = start("--plan", "none")
    with pulling(tenant) as (_, messages):
        next(messages)
        tenant.process.terminate()
        list(messages)
        assert tenant.process.wait(30) == 0
    assert tenant.stop() == (0, "")
