"""Management API: log streams to HTTP endpoints."""

from __future__ import annotations

from typing import Any

from simulator import log_categories, pii
from simulator.errors import ApiError, invalid_body
from simulator.log_streams import LogStream
from simulator.management import Answer, Call, Endpoint, required_body
from simulator.tenant import Tenant

_FORMATS = frozenset({"JSONARRAY", "JSONLINES", "JSONOBJECT"})
_SINK = frozenset({"httpEndpoint", "httpContentType", "httpContentFormat", "httpAuthorization", "httpCustomHeaders"})
_STREAM = "/api/v2/log-streams/{id}"


class LogStreamsApi:
    """Handlers of `/api/v2/log-streams*`."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._streams = tenant.streams

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint("GET", "/api/v2/log-streams", ("read:log_streams",), self.list),
            Endpoint("POST", "/api/v2/log-streams", ("create:log_streams",), self.create),
            Endpoint("GET", _STREAM, ("read:log_streams",), self.get),
            Endpoint("PATCH", _STREAM, ("update:log_streams",), self.patch),
            Endpoint("DELETE", _STREAM, ("delete:log_streams",), self.delete),
        ]

    def list(self, call: Call) -> Answer:
        self._tenant.journal.secret_read(call.path, call.claims)
        return Answer([stream.as_dict() for stream in self._streams])

    def get(self, call: Call) -> Answer:
        stream = self._stream(call)
        self._tenant.journal.secret_read(call.path, call.claims)
        return Answer(stream.as_dict())

    def create(self, call: Call) -> Answer:
        body = required_body(call)
        if body.get("type") != "http":
            raise ApiError(400, "This simulator streams to HTTP endpoints alone", "invalid_body")
        sink = _checked_sink(body.get("sink"), whole=True)
        stream = self._streams.create(
            str(body.get("name") or "HTTP log stream"),
            sink,
            filters=_checked_filters(body.get("filters")),
            pii_config=_checked_pii(body.get("pii_config")),
            is_priority=bool(body.get("isPriority")),
        )
        if body.get("startFrom"):
            self._replay(stream, str(body["startFrom"]))
        return Answer(stream.as_dict())

    def patch(self, call: Call) -> Answer:
        stream, body = self._stream(call), required_body(call)
        unknown = set(body) - {"name", "status", "sink", "filters", "pii_config"}
        if unknown:
            raise invalid_body(f"Additional properties not allowed: {','.join(sorted(unknown))}")
        if body.get("status", "active") not in {"active", "paused"}:
            raise invalid_body("No enum match for: status")
        if "sink" in body:
            stream.sink = {**stream.sink, **_checked_sink(body["sink"], whole=False)}
        if "filters" in body:
            stream.filters = _checked_filters(body["filters"])
        if "pii_config" in body:
            stream.pii_config = _checked_pii(body["pii_config"])
        stream.name = str(body.get("name", stream.name))
        if "status" in body:
            self._streams.set_status(stream, body["status"])
        return Answer(stream.as_dict())

    def delete(self, call: Call) -> Answer:
        self._streams.delete(call.params["id"])
        return Answer(status=204)

    def _stream(self, call: Call) -> LogStream:
        stream = self._streams.get(call.params["id"])
        if stream is None:
            raise ApiError(404, "The log stream does not exist", "inexistent_log_stream")
        return stream

    def _replay(self, stream: LogStream, start: str) -> None:
        """Queue what was logged since `start` (ISO 8601) and is still kept."""
        kept = [
            r for r in self._tenant.logs.newest()[::-1] if stream.wants(r) and str(r.flat().get("date", "")) >= start
        ]
        stream.pending.extendleft(reversed(kept))
        stream.wake.set()


def _checked_sink(sink: Any, *, whole: bool) -> dict[str, Any]:
    if not isinstance(sink, dict) or set(sink) - _SINK:
        raise invalid_body("Invalid sink")
    if (whole or "httpEndpoint" in sink) and not str(sink.get("httpEndpoint", "")).startswith(("http://", "https://")):
        raise invalid_body("Object didn't pass validation for format absolute-https-uri on property httpEndpoint")
    if sink.get("httpContentFormat", "JSONLINES") not in _FORMATS:
        raise invalid_body("No enum match for: httpContentFormat")
    return sink


def _checked_filters(filters: Any) -> list[dict[str, str]]:
    for item in filters or ():
        if not isinstance(item, dict) or item.get("type") != "category" or item.get("name") not in log_categories.NAMES:
            raise invalid_body("No enum match on property filters")
    return list(filters or ())


def _checked_pii(config: Any) -> dict[str, Any] | None:
    if config is None:
        return None
    if not isinstance(config, dict) or not set(config.get("log_fields", ())) <= pii.LOG_FIELDS:
        raise invalid_body("No enum match on property log_fields")
    return config
