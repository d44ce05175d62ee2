"""The tenant's streams, as Auth0 sees them: log streams and event streams, whether they run, and what an event stream failed to deliver.

Source: auth0.com/docs, "Check Log Stream Health", "Event Testing, Observability, and Failure Recovery".
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

import msgspec
from auth0.management import ManagementClient

from worker.auth0.client import NO_RETRIES, Tenant
from worker.auth0.transport import Answer, NotUsable

T = TypeVar("T")

Kind = Literal["log", "event"]

_RUNNING: Final[dict[Kind, str]] = {"log": "active", "event": "enabled"}
MOST: Final = 50
"""Failed deliveries asked for: enough to say that there are some, and since when."""


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream over HTTP: where it leads, and Auth0's word for how it is ("active", "paused", "suspended"; "enabled", "disabled")."""

    id: str
    kind: Kind
    endpoint: str
    status: str

    @property
    def runs(self) -> bool:
        """Whether Auth0 delivers by it."""
        return self.status == _RUNNING[self.kind]


class Streams:
    """The streams. Callers take from the budget before they ask: one token of "other" per method. Raises as Tenant does."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant

    def list(self, kind: Kind) -> Sequence[Stream]:
        """Return the streams of a kind that lead to an HTTP endpoint."""
        if kind == "log":
            return self._ask(
                "read:log_streams", lambda api: api.log_streams.list(request_options=NO_RETRIES), streams_in["log"]
            )
        return self._ask(
            "read:event_streams",
            lambda api: api.event_streams.list(take=50, request_options=NO_RETRIES),
            streams_in["event"],
        )

    def start(self, stream: Stream) -> None:
        """Start a stream that was paused, suspended or disabled. Rejected where Auth0 will not, as with 5000 failed deliveries."""
        if stream.kind == "log":
            self._ask(
                "update:log_streams",
                lambda api: api.log_streams.update(stream.id, status="active", request_options=NO_RETRIES),
                _done,
            )
        else:
            self._ask(
                "update:event_streams",
                lambda api: api.event_streams.update(stream.id, status="enabled", request_options=NO_RETRIES),
                _done,
            )

    def failed(self, stream: Stream) -> int:
        """Return how many deliveries of an event stream are listed as failed, MOST for that many or more."""
        return self._ask(
            "read:event_deliveries",
            lambda api: api.event_streams.deliveries.list(
                stream.id, statuses="failed", take=MOST, request_options=NO_RETRIES
            ),
            failed_in,
        )

    def redeliver(self, stream: Stream) -> None:
        """Ask for everything that failed once more, under the same ids."""
        self._ask(
            "update:event_deliveries",
            lambda api: api.event_streams.redeliveries.create(
                stream.id, statuses=["failed"], request_options=NO_RETRIES
            ),
            _done,
        )

    def _ask(self, scope: str, send: Callable[[ManagementClient], object], read: Callable[[Answer], T]) -> T:
        return self._tenant.ask("other", scope, send, read)


def _found(answer: Answer, *names: str) -> list[Mapping[str, Any]]:
    """Return the list that an answer is, or holds under one of `names`: documents and recordings differ."""
    try:
        body = msgspec.json.decode(answer.body) if answer.status == 200 else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise NotUsable from None
    if isinstance(body, dict):
        body = next((body[name] for name in names if name in body), None)
    if not isinstance(body, list):
        raise NotUsable
    return [one for one in body if isinstance(one, dict)]


def _at(value: Any, *path: str) -> str:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, str) else ""


def _logs(answer: Answer) -> Sequence[Stream]:
    return [
        Stream(_at(one, "id"), "log", _at(one, "sink", "httpEndpoint"), _at(one, "status"))
        for one in _found(answer)
        if one.get("type") == "http"
    ]


def _events(answer: Answer) -> Sequence[Stream]:
    path = ("destination", "configuration", "webhook_endpoint")
    return [
        Stream(_at(one, "id"), "event", _at(one, *path), _at(one, "status"))
        for one in _found(answer, "eventStreams", "event_streams")
        if _at(one, *path)
    ]


streams_in: Final[dict[Kind, Callable[[Answer], Sequence[Stream]]]] = {"log": _logs, "event": _events}
"""Reads the answer that lists the streams of a kind; raises NotUsable."""


def failed_in(answer: Answer) -> int:
    """Read how many failed deliveries an answer lists; raises NotUsable."""
    return len(_found(answer, "deliveries"))


def _done(answer: Answer) -> None:
    if answer.status not in (200, 201, 202):
        raise NotUsable
