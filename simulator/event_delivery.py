"""One event stream: its configuration, what it still has to deliver, and what failed."""

from __future__ import annotations

import asyncio
import base64
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from simulator import cloud_events
from simulator.cloud_events import Event

WHILE_DISABLED = ("lost", "failed")


@dataclass
class EventPace:
    """How event streams deliver. Attempts and limits are Auth0's (Events Best Practices), the rest is a guess."""

    retry_delays: tuple[float, ...] = (1.0, 2.0, 4.0)
    """Seconds between the four attempts."""
    scale: float = 1.0
    """Multiplies `retry_delays`, so that a test need not wait seven seconds."""
    concurrency: int = 8
    """Events of one stream under way at once; a stream keeps the number it was created with."""
    timeout: float = 5.0
    disable_after: int = 500
    """Failed events in a row after which a stream disables itself."""
    disable_at: int = 5000
    """Failed events in all at which a stream disables itself, and below which alone it may be enabled again."""
    while_disabled: str = "lost"
    """What becomes of a disabled stream's events: `lost`, or `failed` and listed as such."""

    def __post_init__(self) -> None:
        if self.while_disabled not in WHILE_DISABLED:
            raise ValueError(f"while_disabled is one of {', '.join(WHILE_DISABLED)}")


@dataclass(slots=True)
class Delivery:
    """One event on its way to one stream's endpoint."""

    event: Event
    attempts: list[dict[str, Any]] = field(default_factory=list)
    tries: int = 0
    """Attempts since it was queued, or queued again by a redelivery."""
    is_redelivery: bool = False
    is_held: bool = False
    """Held back once already by a `reorder` fault."""

    def as_dict(self, stream: EventStream, tenant: str, status: str) -> dict[str, Any]:
        """As the Management API lists it."""
        return {
            "id": self.event.id,
            "event_stream_id": stream.id,
            "event_type": self.event.type,
            "status": status,
            "attempts": self.attempts,
            "event": cloud_events.as_dict(self.event, tenant, stream.id),
        }


@dataclass
class EventStream:
    """One stream: its configuration, what it still has to deliver, and what failed."""

    id: str
    name: str
    subscriptions: tuple[str, ...]
    endpoint: str
    authorization: dict[str, str] = field(repr=False)
    created_at: str
    updated_at: str
    status: str = "enabled"
    pending: deque[Delivery] = field(default_factory=deque, repr=False)
    in_flight: int = 0
    waiting: int = 0
    """Deliveries that wait for their next attempt."""
    failed: dict[str, Delivery] = field(default_factory=dict, repr=False)
    in_a_row: int = 0
    delivered: int = 0
    failures: int = 0
    lost: int = 0
    wake: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """As the Management API answers it: secrets stay inside."""
        shown = {k: v for k, v in self.authorization.items() if k in {"method", "username", "header_key"}}
        configuration = {"webhook_endpoint": self.endpoint, "webhook_authorization": shown}
        return {
            "id": self.id,
            "status": self.status,
            "name": self.name,
            "subscriptions": [{"event_type": kind} for kind in self.subscriptions],
            "created_at": self.created_at,
            "updated_at": self.updated_at,
            "destination": {"type": "webhook", "configuration": configuration},
        }

    def headers(self) -> dict[str, str]:
        """What the endpoint recognizes the stream by; nothing is signed."""
        secret = self.authorization
        if secret["method"] == "custom_header":
            return {"Content-Type": "application/json", secret["header_key"]: secret["header_value"]}
        if secret["method"] == "bearer":
            credentials = f"Bearer {secret['token']}"
        else:
            pair = f"{secret['username']}:{secret['password']}".encode()
            credentials = f"Basic {base64.b64encode(pair).decode()}"
        return {"Content-Type": "application/json", "Authorization": credentials}

    @property
    def left(self) -> int:
        """Count the deliveries that are neither accepted nor failed yet."""
        return len(self.pending) + self.in_flight + self.waiting
