"""What tests of event streams share: how one is connected, and what arrived."""

from __future__ import annotations

import json
from typing import Any

from tests.simulator.running import DEADLINE_SECONDS, Receiver, Simulator

BEARER = {"method": "bearer", "token": "a token"}
USER_TYPES = ("user.created", "user.updated", "user.deleted")


def destination(endpoint: str, authorization: dict[str, str] | None = None) -> dict[str, Any]:
    configuration = {"webhook_endpoint": endpoint, "webhook_authorization": authorization or BEARER}
    return {"type": "webhook", "configuration": configuration}


def subscribed(*types: str) -> list[dict[str, str]]:
    return [{"event_type": kind} for kind in types]


def push_to(tenant: Simulator, receiver: Receiver, *types: str, **settings: Any) -> str:
    """Connect an event stream to the receiver; answers its id."""
    body = {
        "name": "test",
        "subscriptions": subscribed(*(types or USER_TYPES)),
        "destination": destination(receiver.url, settings.pop("authorization", None)),
        **settings,
    }
    answer = tenant.api("POST", "event-streams", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def drained(tenant: Simulator) -> None:
    """Wait until every event is delivered, failed or lost."""
    assert tenant.control("POST", "event-streams/drain", {"seconds": DEADLINE_SECONDS}) == {"pending": 0}


def events_of(receiver: Receiver) -> list[dict[str, Any]]:
    return [json.loads(body) for _, body in list(receiver.deliveries)]


def told(receiver: Receiver) -> list[tuple[str, str]]:
    """Type and user of each event that arrived."""
    return [(event["type"], event["data"]["object"]["user_id"]) for event in events_of(receiver)]


def stream_of(tenant: Simulator, stream_id: str) -> dict[str, Any]:
    """The stream as the control plane shows it: with its counts."""
    shown: dict[str, Any] = next(s for s in tenant.control("GET", "event-streams")["streams"] if s["id"] == stream_id)
    return shown
