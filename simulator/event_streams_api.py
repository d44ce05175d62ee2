"""Management API: event streams to webhooks, their failed deliveries and redelivery."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

from simulator.clock import iso
from simulator.cloud_events import TYPES
from simulator.errors import ApiError, invalid_body, invalid_query
from simulator.event_delivery import Delivery, EventStream
from simulator.management import Answer, Call, Endpoint, required_body
from simulator.tenant import Tenant
from simulator.users_api import number_of

_STREAMS = "/api/v2/event-streams"
_STREAM = _STREAMS + "/{id}"
_SECRETS = {
    "basic": ("username", "password"),
    "bearer": ("token",),
    "custom_header": ("header_key", "header_value"),
}
_TO_THE_SECOND = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d([Zz]|[+-]\d\d:\d\d)")
_DAY = 86_400
_STATS_DAYS = 15
STREAMS_OF_PLAN = {"free": 1, "essentials": 4, "professional": 4, "enterprise": 8, "enterprise-nonprod": 8, "private-cloud": 8}  # fmt: skip
"""How many a tenant may have (Consume Events with the Events API, Auth0 docs); plans of the simulator's own have no limit."""


class EventStreamsApi:
    """Handlers of `/api/v2/event-streams*`."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._streams = tenant.event_streams

    def endpoints(self) -> list[Endpoint]:
        read, update = ("read:event_streams",), ("update:event_streams",)
        deliveries, redeliver = ("read:event_deliveries",), ("update:event_deliveries",)
        return [
            Endpoint("GET", _STREAMS, read, self.list),
            Endpoint("POST", _STREAMS, ("create:event_streams",), self.create),
            Endpoint("GET", _STREAM, read, self.get),
            Endpoint("PATCH", _STREAM, update, self.patch),
            Endpoint("DELETE", _STREAM, ("delete:event_streams",), self.delete),
            Endpoint("POST", _STREAM + "/test", update, self.test),
            Endpoint("GET", _STREAM + "/stats", read + deliveries, self.stats),
            Endpoint("GET", _STREAM + "/deliveries", deliveries, self.deliveries),
            Endpoint("GET", _STREAM + "/deliveries/{event}", deliveries, self.delivery),
            Endpoint("POST", _STREAM + "/redeliver", redeliver, self.redeliver),
            Endpoint("POST", _STREAM + "/redeliver/{event}", redeliver, self.redeliver_one),
        ]

    def list(self, call: Call) -> Answer:
        take, start = number_of(call.query, "take", 50, 100), number_of(call.query, "from", 0, None)
        shown = [stream.as_dict() for stream in self._streams]
        following = {"next": str(start + take)} if start + take < len(shown) else {}
        return Answer({"eventStreams": shown[start : start + take], **following})

    def get(self, call: Call) -> Answer:
        return Answer(self._stream(call).as_dict())

    def create(self, call: Call) -> Answer:
        body = required_body(call)
        _refuse_unknown(body, {"name", "subscriptions", "destination", "status"})
        subscriptions = _checked_subscriptions(body.get("subscriptions"))
        endpoint, authorization = _checked_destination(body.get("destination"))
        if len(self._streams) >= STREAMS_OF_PLAN.get(self._tenant.limits.plan, len(self._streams) + 1):
            raise ApiError(403, "You have reached the maximum number of event streams.", "too_many_event_streams")
        name, status = str(body.get("name") or "event stream"), _checked_status(body.get("status", "enabled"))
        return Answer(self._streams.create(name, subscriptions, endpoint, authorization, status).as_dict(), 201)

    def patch(self, call: Call) -> Answer:
        stream, body = self._stream(call), required_body(call)
        _refuse_unknown(body, {"name", "subscriptions", "destination", "status"})
        status = _checked_status(body.get("status", stream.status))
        if status == "enabled" != stream.status and len(stream.failed) >= self._streams.pace.disable_at:
            raise ApiError(400, "The stream cannot be enabled before its failed events are redelivered.")
        if "subscriptions" in body:
            stream.subscriptions = _checked_subscriptions(body["subscriptions"])
        if "destination" in body:
            stream.endpoint, stream.authorization = _checked_destination(body["destination"])
        stream.name = str(body.get("name", stream.name))
        stream.updated_at = iso(self._tenant.clock())
        if status != stream.status:
            self._streams.set_status(stream, status)
        return Answer(stream.as_dict())

    def delete(self, call: Call) -> Answer:
        self._streams.delete(call.params["id"])
        return Answer(status=204)

    def test(self, call: Call) -> Answer:
        """Send a made-up event, marked `a0purpose: test`, to this stream alone."""
        stream, body = self._stream(call), required_body(call)
        if body.get("event_type") not in TYPES:
            raise invalid_body("No enum match for: event_type")
        if stream.status != "enabled":
            raise ApiError(400, "Events cannot be sent to a disabled stream.")
        delivery = Delivery(self._tenant.events.new_test(body["event_type"], body.get("data")))
        self._streams.queue(stream, delivery)
        return Answer(delivery.as_dict(stream, self._tenant.name, "pending"), 202)

    def stats(self, call: Call) -> Answer:
        """Deliveries by day; everything is of today, for a simulator does not live longer."""
        stream, now = self._stream(call), self._tenant.clock()
        today = now - now % _DAY
        days = [iso(today - _DAY * back) for back in range(_STATS_DAYS - 1, -1, -1)]
        counts = {"successful": stream.delivered, "failed": stream.failures}
        metrics = [
            {
                "name": f"auth0.event_streams.{name}_deliveries",
                "window_total": count,
                "type": "sum",
                "data": [0] * (_STATS_DAYS - 1) + [count],
            }
            for name, count in counts.items()
        ]
        window = {"date_from": days[0], "date_to": iso(now), "bucket_interval": {"scale_factor": _DAY}}
        return Answer({"id": stream.id, "name": stream.name, "window": window, "buckets": days, "metrics": metrics})

    def deliveries(self, call: Call) -> Answer:
        """The failed ones, oldest first. The next page's `from` is `nextPageToken`, as in recorded answers; the SDK looks for `next`."""
        stream = self._stream(call)
        take, start = number_of(call.query, "take", 50, 100), call.query.get("from", "")
        lists: dict[str, Any] = {
            name: call.query[name].split(",") for name in ("statuses", "event_types") if name in call.query
        }
        wanted = {**call.query, **lists}
        chosen = _chosen(stream, wanted, invalid_query)
        ids = [delivery.event.id for delivery in chosen]
        if start and start not in ids:
            raise invalid_query("Invalid from")
        first = ids.index(start) if start else 0
        page = [delivery.as_dict(stream, self._tenant.name, "failed") for delivery in chosen[first : first + take]]
        following = {"nextPageToken": ids[first + take]} if first + take < len(ids) else {}
        return Answer({"deliveries": page, **following})

    def delivery(self, call: Call) -> Answer:
        stream = self._stream(call)
        return Answer(self._failed(stream, call).as_dict(stream, self._tenant.name, "failed"))

    def redeliver(self, call: Call) -> Answer:
        """Try everything failed again, or what `date_from`, `date_to`, `statuses`, `event_types` choose."""
        stream, body = self._stream(call), call.body if call.body is not None else {}
        if not isinstance(body, dict):
            raise invalid_body("Expected type object")
        _refuse_unknown(body, {"date_from", "date_to", "statuses", "event_types"})
        self._streams.redeliver(stream, _chosen(stream, body, invalid_body))
        return Answer(body, 202)

    def redeliver_one(self, call: Call) -> Answer:
        stream = self._stream(call)
        self._streams.redeliver(stream, [self._failed(stream, call)])
        return Answer({}, 202)

    def _stream(self, call: Call) -> EventStream:
        stream = self._streams.get(call.params["id"])
        if stream is None:
            raise ApiError(404, "The requested stream does not exist.")
        return stream

    def _failed(self, stream: EventStream, call: Call) -> Delivery:
        if call.params["event"] not in stream.failed:
            raise ApiError(404, "The requested delivery does not exist.")
        return stream.failed[call.params["event"]]


def _chosen(stream: EventStream, wanted: dict[str, Any], refuse: Callable[[str], ApiError]) -> list[Delivery]:
    """Find the failed deliveries that `date_from` (inclusive), `date_to`, `event_types` and `statuses` let through."""
    since, until = (_utc(wanted.get(name), refuse) for name in ("date_from", "date_to"))
    types, statuses = wanted.get("event_types"), wanted.get("statuses")
    return [
        delivery
        for delivery in stream.failed.values()
        if (not types or delivery.event.type in types)
        and (not statuses or "failed" in statuses)
        and (since is None or delivery.event.time >= since)
        and (until is None or delivery.event.time < until)
    ]


def _utc(date: Any, refuse: Callable[[str], ApiError]) -> str | None:
    """Write an RFC 3339 date without sub-second precision as the events' own times are written."""
    if date is None:
        return None
    if not isinstance(date, str) or not _TO_THE_SECOND.fullmatch(date):
        raise refuse("Object didn't pass validation for format date-time without sub-second precision")
    return iso(datetime.fromisoformat(date.upper()).timestamp())


def _refuse_unknown(body: dict[str, Any], known: set[str]) -> None:
    unknown = set(body) - known
    if unknown:
        raise invalid_body(f"Additional properties not allowed: {','.join(sorted(unknown))}")


def _checked_subscriptions(subscriptions: Any) -> tuple[str, ...]:
    if not isinstance(subscriptions, list) or not subscriptions:
        raise invalid_body("Array is too short (0), minimum 1, on property subscriptions")
    types = [str(item.get("event_type")) if isinstance(item, dict) else "" for item in subscriptions]
    if not TYPES.issuperset(types):
        raise invalid_body("No enum match on property event_type")
    return tuple(dict.fromkeys(types))


def _checked_destination(destination: Any) -> tuple[str, dict[str, str]]:
    """Answer the endpoint and its authorization, secrets included. This simulator pushes to webhooks alone."""
    if not isinstance(destination, dict) or destination.get("type") != "webhook":
        raise invalid_body("This simulator pushes to destinations of type webhook alone")
    configuration = destination.get("configuration")
    if not isinstance(configuration, dict):
        raise invalid_body("Missing required property: configuration")
    endpoint, authorization = configuration.get("webhook_endpoint"), configuration.get("webhook_authorization")
    if not str(endpoint).startswith(("http://", "https://")):
        raise invalid_body("Object didn't pass validation for format absolute-https-uri on property webhook_endpoint")
    if not isinstance(authorization, dict) or (method := str(authorization.get("method"))) not in _SECRETS:
        raise invalid_body("No enum match on property webhook_authorization")
    missing = [name for name in _SECRETS[method] if not isinstance(authorization.get(name), str)]
    if missing:
        raise invalid_body(f"Missing required property: {missing[0]}")
    return str(endpoint), {"method": method, **{name: authorization[name] for name in _SECRETS[method]}}


def _checked_status(status: Any) -> str:
    if status not in {"enabled", "disabled"}:
        raise invalid_body("No enum match on property status")
    return str(status)
