"""Event streams: what is pushed, repeated, lost, listed as failed and redelivered."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest
from auth0.management.core.api_error import ApiError
from auth0.management.types import CreateEventStreamWebHookRequestContent

from tests.simulator.feeds import USER_TYPES, destination, drained, events_of, push_to, stream_of, subscribed, told
from tests.simulator.running import Receiver, Simulator, eventually

DATABASE = "Username-Password-Authentication"
EMISSION: dict[str, Any] = {"logins": True, "unlinks": "both", "previous_object": 0, "context": 0, "social_false": 0, "bare_deletes": 0}  # fmt: skip
PACE = {"retry_delays": [1, 2, 4], "scale": 0.01, "disable_after": 500, "disable_at": 5000, "while_disabled": "lost"}


@pytest.fixture(autouse=True)
def _quiet(tenant: Simulator) -> Any:
    """Each test has the streams to itself, and hurries."""
    tenant.control("PUT", "event-streams/pace", PACE)
    tenant.control("PUT", "events", EMISSION)
    yield
    tenant.control("DELETE", "faults")
    for stream in tenant.control("GET", "event-streams")["streams"]:
        tenant.api("DELETE", f"event-streams/{stream['id']}")


def newcomer(tenant: Simulator, connection: str = DATABASE) -> str:
    (user_id,) = tenant.sign_up(connection=connection, login=False)
    return user_id


def listed(tenant: Simulator, stream_id: str, **params: Any) -> list[dict[str, Any]]:
    answer = tenant.api("GET", f"event-streams/{stream_id}/deliveries", params=params)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["deliveries"]
    return found


def test_an_event_carries_the_whole_profile(tenant: Simulator, receiver: Receiver) -> None:
    stream_id = push_to(tenant, receiver)
    user_id = newcomer(tenant)
    tenant.act(user_id, "metadata", user_metadata={"fav_genre": "fado"})
    drained(tenant)
    created, updated = sorted(events_of(receiver), key=lambda event: str(event["type"]))
    assert (created["type"], updated["type"]) == ("user.created", "user.updated")
    assert (created["specversion"], created["a0stream"], created["a0tenant"]) == ("1.0", stream_id, "simulated")
    profile = tenant.user(user_id)
    assert updated["data"]["object"]["user_metadata"]["fav_genre"] == "fado"
    assert {**updated["data"]["object"], "identities": None} == {**profile, "identities": None}


def test_what_was_cleared_is_absent_and_social_is_left_out_when_false(tenant: Simulator, receiver: Receiver) -> None:
    user_id = newcomer(tenant)
    push_to(tenant, receiver)
    assert tenant.api("PATCH", f"users/{user_id}", json={"nickname": None, "user_metadata": None}).status_code == 200
    drained(tenant)
    (event,) = events_of(receiver)
    assert not {"nickname", "user_metadata"} & event["data"]["object"].keys()
    (identity,) = event["data"]["object"]["identities"]
    assert set(identity) == {"connection", "provider", "user_id"}


def test_ids_from_github_are_integers(tenant: Simulator, receiver: Receiver) -> None:
    push_to(tenant, receiver, "user.created")
    user_id = newcomer(tenant, "github")
    drained(tenant)
    (identity,) = events_of(receiver)[0]["data"]["object"]["identities"]
    assert identity["user_id"] == int(user_id.partition("|")[2])
    assert identity["isSocial"] is True


def test_shapes_that_are_left_open_can_be_chosen(tenant: Simulator, receiver: Receiver) -> None:
    settings = {"previous_object": 1, "context": 1, "social_false": 1, "bare_deletes": 1}
    tenant.control("PUT", "events", settings)
    user_id = newcomer(tenant)
    before = tenant.user(user_id)
    push_to(tenant, receiver)
    tenant.act(user_id, "change_name", name="New Name")
    drained(tenant)
    tenant.act(user_id, "delete")
    drained(tenant)
    updated, deleted = events_of(receiver)
    assert updated["data"]["previous_object"]["name"] == before["name"]
    assert updated["data"]["context"]["tenant"] == {"id": "simulated"}
    assert updated["data"]["object"]["identities"][0]["isSocial"] is False
    assert set(deleted["data"]["object"]) == {"user_id", "deleted_at"}


def test_a_deletion_tells_who_it_was(tenant: Simulator, receiver: Receiver) -> None:
    user_id = newcomer(tenant)
    before = tenant.user(user_id)
    push_to(tenant, receiver)
    tenant.act(user_id, "delete")
    drained(tenant)
    (event,) = events_of(receiver)
    assert event["data"]["object"]["email"] == before["email"]
    assert event["data"]["object"]["deleted_at"] == event["time"]


def test_a_link_deletes_the_secondary_and_updates_the_primary(tenant: Simulator, receiver: Receiver) -> None:
    primary, secondary = newcomer(tenant), newcomer(tenant, "google-oauth2")
    push_to(tenant, receiver)
    tenant.act(primary, "link", secondary=secondary)
    drained(tenant)
    assert Counter(told(receiver)) == {("user.deleted", secondary): 1, ("user.updated", primary): 1}


@pytest.mark.parametrize(
    ("unlinks", "types"),
    [("both", {"user.updated", "user.created"}), ("primary", {"user.updated"}), ("none", set())],
)
def test_what_an_unlink_tells_can_be_chosen(
    tenant: Simulator, receiver: Receiver, unlinks: str, types: set[str]
) -> None:
    tenant.control("PUT", "events", {"unlinks": unlinks})
    primary, secondary = newcomer(tenant), newcomer(tenant, "google-oauth2")
    tenant.act(primary, "link", secondary=secondary)
    push_to(tenant, receiver)
    tenant.act(primary, "unlink")
    drained(tenant)
    assert {event["type"] for event in events_of(receiver)} == types
    tenant.act(secondary, "change_name")
    drained(tenant)
    assert told(receiver)[-1] == ("user.updated", secondary)


@pytest.mark.parametrize("tells", [True, False])
def test_whether_a_login_alone_is_told_can_be_chosen(tenant: Simulator, receiver: Receiver, tells: bool) -> None:
    tenant.control("PUT", "events", {"logins": tells})
    user_id = newcomer(tenant)
    push_to(tenant, receiver)
    tenant.act(user_id, "login")
    drained(tenant)
    assert told(receiver) == [("user.updated", user_id)] * tells


def test_a_deleted_connection_tells_of_everyone(start: Callable[..., Simulator], receiver: Receiver) -> None:
    tenant = start("--plan", "none")
    user_ids = tenant.sign_up(20, connection="email")
    push_to(tenant, receiver, "user.deleted")
    tenant.control("POST", "connections/delete", {"connection": "email"})
    drained(tenant)
    assert sorted(told(receiver)) == sorted(("user.deleted", user_id) for user_id in user_ids)


def test_nobody_is_told_of_users_who_were_always_there(tenant: Simulator, receiver: Receiver) -> None:
    push_to(tenant, receiver)
    happened = tenant.control("GET", "events")["happened"]
    tenant.control("POST", "users/load", {"count": 5})
    assert tenant.control("GET", "events")["happened"] == happened
    user_id = newcomer(tenant)
    drained(tenant)
    assert told(receiver) == [("user.created", user_id)]


def test_only_what_was_subscribed_to_is_pushed(tenant: Simulator, receiver: Receiver) -> None:
    push_to(tenant, receiver, "user.deleted", "organization.created")
    tenant.act(newcomer(tenant), "delete")
    organization = {"type": "organization.created", "data": {"object": {"id": "org_1"}}}
    (event_id,) = tenant.control("POST", "events", {"events": [organization]})["event_ids"]
    drained(tenant)
    assert {event["type"] for event in events_of(receiver)} == {"user.deleted", "organization.created"}
    assert event_id in {event["id"] for event in events_of(receiver)}


@pytest.mark.parametrize(
    ("authorization", "header", "value"),
    [
        ({"method": "bearer", "token": "s3cret"}, "authorization", "Bearer s3cret"),
        (
            {"method": "basic", "username": "u", "password": "s3cret"},
            "authorization",
            f"Basic {base64.b64encode(b'u:s3cret').decode()}",
        ),
        ({"method": "custom_header", "header_key": "X-Key", "header_value": "s3cret"}, "x-key", "s3cret"),
    ],
)
def test_a_secret_is_sent_and_never_shown(
    tenant: Simulator, receiver: Receiver, authorization: dict[str, str], header: str, value: str
) -> None:
    stream_id = push_to(tenant, receiver, authorization=authorization)
    newcomer(tenant)
    drained(tenant)
    headers = {key.lower(): held for key, held in receiver.deliveries[0][0].items()}
    assert (headers[header], headers["content-type"]) == (value, "application/json")
    shown = tenant.api("GET", f"event-streams/{stream_id}").text
    assert authorization["method"] in shown
    assert "s3cret" not in shown + tenant.api("GET", "event-streams").text


def test_a_failing_endpoint_has_four_attempts(tenant: Simulator, receiver: Receiver) -> None:
    receiver.answers = [500, 503, 500, 204]
    stream_id = push_to(tenant, receiver)
    newcomer(tenant)
    drained(tenant)
    assert len({event["id"] for event in events_of(receiver)}) == 1
    assert len(receiver.deliveries) == 4
    assert (stream_of(tenant, stream_id)["delivered"], stream_of(tenant, stream_id)["failures"]) == (1, 0)


def test_after_the_fourth_attempt_an_event_is_listed_as_failed(tenant: Simulator, receiver: Receiver) -> None:
    receiver.answers = [500] * 4
    tenant.control("PUT", "event-streams/pace", {"scale": 0.1})
    stream_id = push_to(tenant, receiver)
    user_id = newcomer(tenant)
    drained(tenant)
    (delivery,) = listed(tenant, stream_id)
    assert (delivery["status"], delivery["event_type"], delivery["id"]) == ("failed", "user.created", delivery["event"]["id"])  # fmt: skip
    assert delivery["event"]["data"]["object"]["user_id"] == user_id
    times = [datetime.fromisoformat(attempt["timestamp"]) for attempt in delivery["attempts"]]
    pauses = [(later - sooner).total_seconds() for sooner, later in pairwise(times)]
    assert len(pauses) == 3
    assert pauses[0] >= 0.1
    assert pauses[2] >= 0.4
    assert tenant.api("GET", f"event-streams/{stream_id}/deliveries/{delivery['id']}").json() == delivery


@pytest.mark.parametrize("status", [400, 401, 404, 409, 422, 429])
def test_a_4xx_loses_an_event_at_once(tenant: Simulator, receiver: Receiver, status: int) -> None:
    receiver.answers = [status]
    stream_id = push_to(tenant, receiver)
    newcomer(tenant)
    drained(tenant)
    assert len(receiver.deliveries) == 1
    (delivery,) = listed(tenant, stream_id)
    assert [attempt["error_message"] for attempt in delivery["attempts"]] == [f"answered {status}"]


def test_a_redelivered_event_keeps_its_id_and_leaves_the_list(tenant: Simulator, receiver: Receiver) -> None:
    receiver.answers = [404, 404]
    stream_id = push_to(tenant, receiver)
    newcomer(tenant), newcomer(tenant)
    drained(tenant)
    first, second = (delivery["id"] for delivery in listed(tenant, stream_id))
    assert tenant.api("POST", f"event-streams/{stream_id}/redeliver/{first}").status_code == 202
    drained(tenant)
    assert [delivery["id"] for delivery in listed(tenant, stream_id)] == [second]
    assert tenant.api("POST", f"event-streams/{stream_id}/redeliver/{first}").status_code == 404
    receiver.answers = [500] * 4
    assert tenant.api("POST", f"event-streams/{stream_id}/redeliver", json={}).status_code == 202
    drained(tenant)
    (failed,) = listed(tenant, stream_id)
    assert [attempt["status"] for attempt in failed["attempts"]] == ["failed", "retrying"] + ["failed"] * 4
    tenant.api("POST", f"event-streams/{stream_id}/redeliver", json={})
    drained(tenant)
    assert listed(tenant, stream_id) == []
    assert Counter(event["id"] for event in events_of(receiver)) == {first: 2, second: 6}


def test_what_is_listed_and_redelivered_can_be_narrowed(tenant: Simulator, receiver: Receiver) -> None:
    receiver.answers = [404] * 3
    stream_id = push_to(tenant, receiver)
    user_id = newcomer(tenant)
    tenant.act(user_id, "change_name")
    tenant.act(user_id, "delete")
    drained(tenant)
    assert len(listed(tenant, stream_id, event_types="user.created,user.deleted")) == 2
    assert listed(tenant, stream_id, date_to="2020-01-01T00:00:00Z") == []
    assert len(listed(tenant, stream_id, date_from="2020-01-01T00:00:00Z", statuses="failed")) == 3
    path = f"event-streams/{stream_id}"
    assert tenant.api("GET", f"{path}/deliveries", params={"date_from": "2020-01-01T00:00:00.5Z"}).status_code == 400
    first = tenant.api("GET", f"{path}/deliveries", params={"take": 2}).json()
    second = tenant.api("GET", f"{path}/deliveries", params={"take": 2, "from": first["nextPageToken"]}).json()
    assert (len(first["deliveries"]), len(second["deliveries"])) == (2, 1)
    assert "nextPageToken" not in second
    narrowed = {"event_types": ["user.updated"], "date_from": "2020-01-01T00:00:00Z"}
    assert tenant.api("POST", f"{path}/redeliver", json=narrowed).json() == narrowed
    drained(tenant)
    assert {delivery["event_type"] for delivery in listed(tenant, stream_id)} == {"user.created", "user.deleted"}
    assert tenant.api("POST", f"{path}/redeliver", json={"date_to": "2020-01-01T00:00:00.123Z"}).status_code == 400


@pytest.mark.parametrize("fate", ["lost", "failed"])
def test_a_stream_disables_itself_after_too_many_failures(tenant: Simulator, receiver: Receiver, fate: str) -> None:
    tenant.control("PUT", "event-streams/pace", {"disable_after": 3, "while_disabled": fate})
    receiver.answers = [404] * 3
    stream_id = push_to(tenant, receiver)
    for _ in range(3):
        newcomer(tenant)
        drained(tenant)
    assert tenant.api("GET", f"event-streams/{stream_id}").json()["status"] == "disabled"
    newcomer(tenant)
    drained(tenant)
    assert len(receiver.deliveries) == 3
    assert (len(listed(tenant, stream_id)), stream_of(tenant, stream_id)["lost"]) == ((4, 0) if fate == "failed" else (3, 1))  # fmt: skip


def test_a_success_in_between_begins_the_count_anew(tenant: Simulator, receiver: Receiver) -> None:
    tenant.control("PUT", "event-streams/pace", {"disable_after": 2})
    receiver.answers = [404, 204, 404, 204]
    stream_id = push_to(tenant, receiver)
    for _ in range(4):
        newcomer(tenant)
        drained(tenant)
    assert tenant.api("GET", f"event-streams/{stream_id}").json()["status"] == "enabled"


def test_a_stream_with_too_many_failures_is_enabled_only_after_redelivery(
    tenant: Simulator, receiver: Receiver
) -> None:
    tenant.control("PUT", "event-streams/pace", {"disable_at": 2})
    receiver.answers = [404] * 2
    stream_id = push_to(tenant, receiver)
    path = f"event-streams/{stream_id}"
    newcomer(tenant), newcomer(tenant)
    drained(tenant)
    assert tenant.api("PATCH", path, json={"status": "enabled"}).status_code == 400
    assert tenant.api("POST", f"{path}/redeliver", json={}).status_code == 202  # though it is disabled
    drained(tenant)
    assert tenant.api("PATCH", path, json={"status": "enabled"}).json()["status"] == "enabled"
    newcomer(tenant)
    drained(tenant)
    assert len(receiver.deliveries) == 5


def test_a_test_event_is_marked_and_goes_to_one_stream(tenant: Simulator, receiver: Receiver) -> None:
    stream_id, _ = push_to(tenant, receiver), push_to(tenant, receiver)
    answer = tenant.api("POST", f"event-streams/{stream_id}/test", json={"event_type": "user.created"})
    assert (answer.status_code, answer.json()["status"]) == (202, "pending")
    drained(tenant)
    (event,) = events_of(receiver)
    assert (event["a0purpose"], event["a0stream"], event["id"]) == ("test", stream_id, answer.json()["id"])


@pytest.mark.parametrize(
    ("fault", "copies"),
    [
        ({"kind": "duplicate"}, 2),
        ({"kind": "status", "status": 502, "times": 10}, 2),  # the receiver had it, the stream does not know
        ({"kind": "hang", "seconds": 0.01, "times": 10}, 2),
        ({"kind": "status", "status": 404}, 1),  # had, and listed as failed all the same
        ({"kind": "drop", "times": 10}, 1),
        ({"kind": "delay", "seconds": 0.01}, 1),
        ({"kind": "lose"}, 0),
    ],
)
def test_faults_repeat_delay_and_lose_events(
    tenant: Simulator, receiver: Receiver, fault: dict[str, Any], copies: int
) -> None:
    tenant.control("PUT", "event-streams/pace", {"retry_delays": [1] * 10})
    push_to(tenant, receiver, "user.created")
    tenant.control("PUT", "faults", [{"where": "event", **fault}])
    tenant.sign_up(10, connection=DATABASE, login=False)
    drained(tenant)
    assert len(receiver.deliveries) == 10 * copies
    assert len({event["id"] for event in events_of(receiver)}) == (10 if copies else 0)


def test_a_fault_puts_events_out_of_order(tenant: Simulator, receiver: Receiver) -> None:
    push_to(tenant, receiver, "user.updated")
    user_id = newcomer(tenant)
    tenant.control("PUT", "faults", [{"where": "event", "kind": "reorder", "seconds": 0.3}])
    for number in range(20):
        tenant.act(user_id, "change_name", name=f"Name {number:02d}")
    drained(tenant)
    names = [event["data"]["object"]["name"] for event in events_of(receiver)]
    assert len(names) == 20
    assert names != sorted(names)


def test_auth0s_own_client_manages_event_streams(tenant: Simulator, receiver: Receiver) -> None:
    tenant.control("PUT", "events", {"social_false": 1})
    client = tenant.management().event_streams
    wanted = {"name": "by hand", "subscriptions": subscribed(*USER_TYPES), "destination": destination(receiver.url)}
    made = client.create(request=CreateEventStreamWebHookRequestContent.model_validate(wanted))
    assert made.id is not None
    assert [stream.id for stream in client.list()] == [made.id]
    assert client.update(made.id, name="renamed", status="disabled").status == "disabled"
    assert client.update(made.id, status="enabled").name == "renamed"
    assert client.test(made.id, event_type="user.created").status == "pending"
    drained(tenant)
    receiver.answers = [404, 404]
    newcomer(tenant), newcomer(tenant)
    drained(tenant)
    first, second = list(client.deliveries.list(made.id))
    assert client.deliveries.get_history(made.id, first.id).event_type == "user.created"
    client.redeliveries.create_by_id(made.id, first.id)
    client.redeliveries.create(made.id, date_from=datetime.fromisoformat("2020-01-01T00:00:00+00:00"))
    drained(tenant)
    assert list(client.deliveries.list(made.id)) == []
    assert {event["id"] for event in events_of(receiver)} >= {first.id, second.id}
    client.delete(made.id)
    with pytest.raises(ApiError) as refusal:
        client.get(made.id)
    assert refusal.value.status_code == 404


def test_a_redelivery_that_is_lost_can_be_asked_for_again(tenant: Simulator, receiver: Receiver) -> None:
    receiver.answers = [404]
    stream_id = push_to(tenant, receiver)
    newcomer(tenant)
    drained(tenant)
    tenant.control("PUT", "faults", [{"where": "event", "kind": "lose", "times": 1}])
    for left in (1, 0):
        tenant.api("POST", f"event-streams/{stream_id}/redeliver", json={})
        drained(tenant)
        assert len(listed(tenant, stream_id)) == left


def test_the_same_seed_tells_the_same_events(start: Callable[..., Simulator], receiver: Receiver) -> None:
    ids = []
    for seed in ("7", "7", "8"):
        tenant = start("--plan", "none", "--seed", seed)
        push_to(tenant, receiver)
        tenant.control("POST", "people/live", {"actions": 60})
        drained(tenant)
        ids.append({(event["id"], event["type"], "context" in event["data"]) for event in events_of(receiver)})
        receiver.deliveries.clear()
    assert ids[0] == ids[1]
    assert ids[0] != ids[2]


def test_counts_by_day_are_told(tenant: Simulator, receiver: Receiver) -> None:
    receiver.answers = [204, 404]
    stream_id = push_to(tenant, receiver)
    newcomer(tenant)
    drained(tenant)
    newcomer(tenant)
    drained(tenant)
    stats = tenant.api("GET", f"event-streams/{stream_id}/stats").json()
    assert [(metric["name"].rpartition(".")[2], metric["window_total"]) for metric in stats["metrics"]] == [
        ("successful_deliveries", 1),
        ("failed_deliveries", 1),
    ]
    assert len(stats["buckets"]) == len(stats["metrics"][0]["data"])


@pytest.mark.parametrize(
    "change",
    [
        {"subscriptions": []},
        {"subscriptions": subscribed("user.renamed")},
        {"destination": {"type": "eventbridge", "configuration": {}}},
        {"destination": destination("ftp://x")},
        {"destination": destination("http://127.0.0.1:9/", {"method": "bearer"})},
        {"destination": destination("http://127.0.0.1:9/", {"method": "none"})},
        {"status": "paused"},
        {"colour": "red"},
    ],
)
def test_a_stream_that_makes_no_sense_is_refused(tenant: Simulator, change: dict[str, Any]) -> None:
    sound = {"name": "x", "subscriptions": subscribed("user.created"), "destination": destination("http://127.0.0.1:9/")}  # fmt: skip
    assert tenant.api("POST", "event-streams", json={**sound, **change}).status_code == 400


def test_a_plan_bounds_the_number_of_streams(start: Callable[..., Simulator], receiver: Receiver) -> None:
    tenant = start("--plan", "free")
    push_to(tenant, receiver)
    body = {"name": "x", "subscriptions": subscribed("user.created"), "destination": destination(receiver.url)}
    answer = eventually(lambda: (found := tenant.api("POST", "event-streams", json=body)).status_code != 429 and found)
    assert answer.status_code == 403


def test_each_part_needs_its_scope(tenant: Simulator, receiver: Receiver) -> None:
    stream_id = push_to(tenant, receiver)
    token = tenant.token("read:event_streams")
    assert tenant.api("GET", f"event-streams/{stream_id}", token).status_code == 200
    for method, rest in (("GET", "/deliveries"), ("POST", "/redeliver"), ("DELETE", ""), ("PATCH", ""), ("POST", "/test")):  # fmt: skip
        assert tenant.api(method, f"event-streams/{stream_id}{rest}", token, json={}).status_code == 403
