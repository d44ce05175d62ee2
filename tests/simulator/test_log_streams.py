"""Log streams: how records are pushed, repeated, filtered and masked."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from tests.simulator.running import Receiver, Simulator, eventually

HASTE = {"linger": 0.01, "retry_delay": 0.01, "cycle_delay": 0.05}


@pytest.fixture(autouse=True)
def _quiet(tenant: Simulator) -> Any:
    """Each test has the streams to itself, and hurries."""
    tenant.control("PUT", "streams/pace", {**HASTE, "batch": 100, "attempts": 3, "pause_after": 604_800})
    yield
    tenant.control("DELETE", "faults")
    for stream in tenant.control("GET", "streams")["streams"]:
        tenant.api("DELETE", f"log-streams/{stream['id']}")


def types(receiver: Receiver) -> Counter[str]:
    return Counter(record["data"]["type"] for record in receiver.records())


def test_records_arrive_as_the_stream_is_configured(tenant: Simulator, receiver: Receiver) -> None:
    sink = {"httpContentType": "application/x-odd", "httpCustomHeaders": [{"header": "X-Mine", "value": "yes"}]}
    tenant.stream_to(receiver, sink=sink)
    (user_id,) = tenant.sign_up(connection="google-oauth2")
    assert tenant.drain() == 0
    headers = receiver.deliveries[-1][0]
    assert (headers["Authorization"], headers["Content-Type"]) == ("a token", "application/x-odd")
    assert {key.lower(): value for key, value in headers.items()}["x-mine"] == "yes"
    logins = [record for record in receiver.records() if record["data"]["type"] == "s"]
    assert [record["data"]["user_id"] for record in logins] == [user_id]
    assert logins[0]["log_id"] == logins[0]["data"]["log_id"]
    assert None not in logins[0]["data"].values()  # streams leave out what is absent


@pytest.mark.parametrize("wanted", ["JSONARRAY", "JSONLINES", "JSONOBJECT"])
def test_each_format_carries_the_same_records(tenant: Simulator, receiver: Receiver, wanted: str) -> None:
    tenant.stream_to(receiver, sink={"httpContentFormat": wanted})
    tenant.sign_up(5)
    tenant.drain()
    records = []
    for _, body in receiver.deliveries:
        if wanted == "JSONLINES":
            records += [json.loads(line) for line in body.splitlines()]
        else:
            records += json.loads(body)["logs"] if wanted == "JSONOBJECT" else json.loads(body)
    assert sum(record["data"]["type"] == "s" for record in records) == 5


def test_batches_are_bounded_and_everything_arrives_once(tenant: Simulator, receiver: Receiver) -> None:
    tenant.control("PUT", "streams/pace", {"batch": 10})
    tenant.stream_to(receiver)
    tenant.sign_up(100)
    assert tenant.drain() == 0
    assert max(len(json.loads(body)) for _, body in receiver.deliveries) == 10
    assert set(Counter(record["log_id"] for record in receiver.records()).values()) == {1}
    assert types(receiver)["s"] == 100


def test_a_refused_delivery_is_repeated_beyond_the_third_attempt(tenant: Simulator, receiver: Receiver) -> None:
    receiver.answers = [500, 401, 503, 500, 204]
    stream = tenant.stream_to(receiver, filters=[{"type": "category", "name": "auth.login.success"}])
    tenant.sign_up(1)
    assert tenant.drain() == 0
    assert types(receiver) == {"s": 5}
    (shown,) = tenant.control("GET", "streams")["streams"]
    assert [error["reason"] for error in shown["errors"]] == [f"answered {status}" for status in (500, 401, 503, 500)]
    assert shown["id"] == stream["id"]


def test_a_stream_that_fails_for_long_pauses_itself_until_resumed(tenant: Simulator, receiver: Receiver) -> None:
    tenant.control("PUT", "streams/pace", {"pause_after": 0})
    receiver.answers = [500, 500, 500]
    stream = tenant.stream_to(receiver, filters=[{"type": "category", "name": "auth.login.success"}])
    tenant.sign_up(1)
    path = f"log-streams/{stream['id']}"
    eventually(lambda: tenant.api("GET", path).json()["status"] == "paused")
    tenant.sign_up(2)
    assert tenant.drain(seconds=0.1) == 3
    assert tenant.api("PATCH", path, json={"status": "active"}).json()["status"] == "active"
    assert tenant.drain() == 0
    assert types(receiver) == {"s": 3 + 3}


def test_a_pause_keeps_the_backlog(tenant: Simulator, receiver: Receiver) -> None:
    stream = tenant.stream_to(receiver)
    tenant.drain()
    tenant.control("POST", "streams/pause", {"id": stream["id"]})
    tenant.sign_up(20)
    assert tenant.drain(seconds=0.1) > 40
    assert types(receiver)["s"] == 0
    tenant.control("POST", "streams/resume")
    assert tenant.drain() == 0
    assert types(receiver)["s"] == 20


def test_filters_keep_other_categories_out(tenant: Simulator, receiver: Receiver) -> None:
    tenant.stream_to(receiver, filters=[{"type": "category", "name": "user.success"}])
    (user_id,) = tenant.sign_up(connection="Username-Password-Authentication")
    tenant.act(user_id, "change_email")
    tenant.drain()
    assert types(receiver) == {"sce": 1}


@pytest.mark.parametrize("method", ["mask", "hash"])
def test_personal_data_can_be_covered_but_never_the_user_id(tenant: Simulator, receiver: Receiver, method: str) -> None:
    config = {"log_fields": ["email", "username", "first_name"], "method": method, "algorithm": "xxhash"}
    tenant.stream_to(receiver, pii_config=config, filters=[{"type": "category", "name": "auth.signup.success"}])
    (user_id,) = tenant.sign_up(connection="Username-Password-Authentication")
    tenant.drain()
    ((_, body),) = receiver.deliveries
    email = tenant.user(user_id)["email"]
    assert email not in body.decode()
    data = json.loads(body)[0]["data"]
    assert data["user_id"] == user_id
    assert (data["user_name"] == "*****") is (method == "mask")


def test_a_stream_can_start_from_the_past(tenant: Simulator, receiver: Receiver) -> None:
    tenant.sign_up(3)
    tenant.stream_to(receiver, startFrom="2020-01-01T00:00:00.000Z")
    assert tenant.drain() == 0
    assert types(receiver)["s"] >= 3


@pytest.mark.parametrize(
    "change",
    [
        {"type": "splunk"},
        {"sink": {"httpEndpoint": "ftp://x"}},
        {"sink": {"httpContentFormat": "XML"}},
        {"filters": [{"type": "category", "name": "no.such"}]},
        {"pii_config": {"log_fields": ["shoe_size"]}},
    ],
)
def test_a_stream_that_makes_no_sense_is_refused(tenant: Simulator, change: dict[str, Any]) -> None:
    sink = {"httpEndpoint": "http://127.0.0.1:9/", **change.pop("sink", {})}
    answer = tenant.api("POST", "log-streams", json={"name": "x", "type": "http", "sink": sink, **change})
    assert answer.status_code == 400


def test_auth0s_own_client_manages_streams(tenant: Simulator, receiver: Receiver) -> None:
    stream = tenant.stream_to(receiver)
    client = tenant.management()
    assert client.log_streams.get(stream["id"]).name == "test"
    assert client.log_streams.update(stream["id"], name="renamed").name == "renamed"
    client.log_streams.delete(stream["id"])
    assert tenant.api("GET", f"log-streams/{stream['id']}").status_code == 404


def test_raw_records_go_through_as_they_are(tenant: Simulator, receiver: Receiver) -> None:
    tenant.stream_to(receiver)
    tenant.drain()
    odd = [
        {"type": "s", "user_id": 7, "date": "no date"},
        "not even an object",
        {"log_id": "mine", "data": {"type": "zz"}},
    ]
    log_ids = tenant.control("POST", "logs", {"records": odd})["log_ids"]
    tenant.drain()
    received = {record["log_id"]: record["data"] for record in receiver.records()}
    assert received[log_ids[0]] == {**odd[0], "log_id": log_ids[0]}  # type: ignore[dict-item]
    assert received[log_ids[1]] == "not even an object"
    assert received["mine"] == {"type": "zz"}


@pytest.mark.parametrize(
    ("fault", "copies"),
    [
        ({"kind": "duplicate", "times": 1}, 2),
        ({"kind": "status", "status": 502, "times": 1}, 2),  # the receiver had it, the stream does not know
        ({"kind": "hang", "seconds": 0.1, "times": 1}, 2),
        ({"kind": "drop", "times": 1}, 1),
        ({"kind": "delay", "seconds": 0.1, "times": 1}, 1),
        ({"kind": "reorder"}, 1),
    ],
)
def test_a_faulty_stream_repeats_but_never_loses(
    tenant: Simulator, receiver: Receiver, fault: dict[str, Any], copies: int
) -> None:
    tenant.stream_to(receiver, filters=[{"type": "category", "name": "auth.login.success"}])
    tenant.control("PUT", "faults", [{"where": "stream", **fault}])
    tenant.sign_up(20)
    assert tenant.drain() == 0
    assert types(receiver)["s"] == 20 * copies
    assert len({record["log_id"] for record in receiver.records()}) == 20


def test_a_fault_can_mask_and_another_can_shuffle(tenant: Simulator, receiver: Receiver) -> None:
    tenant.stream_to(receiver, filters=[{"type": "category", "name": "auth.login.success"}])
    tenant.control("PUT", "faults", [{"where": "stream", "kind": "mask_pii"}, {"where": "stream", "kind": "reorder"}])
    tenant.sign_up(50)
    tenant.drain()
    assert {record["data"]["user_name"] for record in receiver.records()} == {"*****"}
    ids = [record["log_id"] for record in receiver.records()]
    assert ids != sorted(ids)
