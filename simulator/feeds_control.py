"""The control plane's handlers for events, what carries them, the log's age, and jobs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any, TypeVar

import msgspec

from simulator.event_delivery import EventStream
from simulator.tenant import Tenant

Handler = Callable[[dict[str, Any]], Awaitable[Any]]
_Settings = TypeVar("_Settings")


class FeedsControl:
    """Handlers of `/_sim/events*`, `/_sim/event-streams*`, `/_sim/logs*` and `/_sim/jobs`."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._streams = tenant.event_streams

    def table(self) -> list[tuple[str, str, Handler]]:
        return [
            ("GET", "/_sim/events", self.events),
            ("PUT", "/_sim/events", self.set_emission),
            ("POST", "/_sim/events", self.inject),
            ("POST", "/_sim/events/expire", self.expire),
            ("PUT", "/_sim/events/pull", self.set_pull),
            ("GET", "/_sim/event-streams", self.streams),
            ("POST", "/_sim/event-streams/disable", self.disable),
            ("POST", "/_sim/event-streams/enable", self.enable),
            ("POST", "/_sim/event-streams/drain", self.drain),
            ("POST", "/_sim/event-streams/forget", self.forget),
            ("PUT", "/_sim/event-streams/pace", self.set_pace),
            ("PUT", "/_sim/logs", self.set_aging),
            ("POST", "/_sim/logs/expire", self.expire_logs),
            ("GET", "/_sim/jobs", self.jobs),
            ("PUT", "/_sim/jobs", self.set_jobs),
        ]

    async def events(self, asked: dict[str, Any]) -> Any:  # noqa: ARG002 one signature for all handlers
        """Answer how events are made, how many happened, and how many are kept."""
        events = self._tenant.events
        return {**asdict(events.emission), "happened": events.newest, "kept": events.kept}

    async def set_emission(self, asked: dict[str, Any]) -> Any:
        """Set any of Emission's fields."""
        self._tenant.events.emission = with_changes(self._tenant.events.emission, asked)
        return await self.events({})

    async def inject(self, asked: dict[str, Any]) -> Any:
        """Let `{events}` happen, CloudEvents whose keys replace the usual ones → `{event_ids}`."""
        return {"event_ids": [self._tenant.events.inject(raw).id for raw in asked["events"]]}

    async def expire(self, asked: dict[str, Any]) -> Any:
        """Forget all but the last `keep` events: offsets of the others are expired → `{kept}`."""
        return {"kept": self._tenant.events.expire(int(asked.get("keep", 0)))}

    async def set_pull(self, asked: dict[str, Any]) -> Any:
        """Set any of PullPace's fields."""
        self._tenant.events.pull = with_changes(self._tenant.events.pull, asked)
        return asdict(self._tenant.events.pull)

    async def streams(self, asked: dict[str, Any]) -> Any:  # noqa: ARG002
        return {"streams": [_shown(stream) for stream in self._streams]}

    async def disable(self, asked: dict[str, Any]) -> Any:
        """Disable the stream `id`, or all, as too many failures would."""
        return self._set_status(asked, "disabled")

    async def enable(self, asked: dict[str, Any]) -> Any:
        return self._set_status(asked, "enabled")

    def _set_status(self, asked: dict[str, Any], status: str) -> Any:
        chosen = self._chosen(asked)
        for stream in chosen:
            self._streams.set_status(stream, status)
        return {"streams": [stream.id for stream in chosen]}

    async def drain(self, asked: dict[str, Any]) -> Any:
        """`{seconds?}`: wait until every event is delivered, failed or lost → `{pending}` what is left."""
        return {"pending": await self._streams.drain(float(asked.get("seconds", 30)))}

    async def forget(self, asked: dict[str, Any]) -> Any:
        """Let the failed deliveries of the stream `id`, or of all, age out → `{forgotten}`."""
        chosen = self._chosen(asked)
        forgotten = sum(len(stream.failed) for stream in chosen)
        for stream in chosen:
            stream.failed.clear()
        return {"forgotten": forgotten}

    async def set_pace(self, asked: dict[str, Any]) -> Any:
        """Set any of EventPace's fields."""
        self._streams.pace = with_changes(self._streams.pace, asked)
        return asdict(self._streams.pace)

    async def set_aging(self, asked: dict[str, Any]) -> Any:
        """Set any of LogAging's fields."""
        self._tenant.logs.aging = with_changes(self._tenant.logs.aging, asked)
        return asdict(self._tenant.logs.aging)

    async def expire_logs(self, asked: dict[str, Any]) -> Any:
        """Forget all but the last `keep` log records: checkpoints before them are expired → `{kept}`."""
        return {"kept": self._tenant.logs.expire(int(asked.get("keep", 0)))}

    async def jobs(self, asked: dict[str, Any]) -> Any:  # noqa: ARG002
        return {**asdict(self._tenant.jobs.pace), "jobs": [job.as_dict() for job in self._tenant.jobs]}

    async def set_jobs(self, asked: dict[str, Any]) -> Any:
        """Set any of JobPace's fields."""
        self._tenant.jobs.pace = with_changes(self._tenant.jobs.pace, asked)
        return await self.jobs({})

    def _chosen(self, asked: dict[str, Any]) -> list[EventStream]:
        return [stream for stream in self._streams if asked.get("id") in (None, stream.id)]


def with_changes(settings: _Settings, changes: dict[str, Any]) -> _Settings:
    """Answer a dataclass with some of its fields replaced. ValueError for a field it does not have."""
    held: dict[str, Any] = msgspec.to_builtins(settings)
    unknown = changes.keys() - held.keys()
    if unknown:
        raise ValueError(f"no such setting: {', '.join(sorted(unknown))}; there are {', '.join(held)}")
    return msgspec.convert({**held, **changes}, type(settings), strict=False)


def _shown(stream: EventStream) -> dict[str, Any]:
    counts = {"pending": stream.left, "failed": len(stream.failed), "in_a_row": stream.in_a_row}
    return {**stream.as_dict(), **counts, "delivered": stream.delivered, "failures": stream.failures, "lost": stream.lost}  # fmt: skip
