"""What setup cares for in a tenant: each thing knows what it should be, finds its own among the others, makes, mends and removes it.

Its own is what bears its name and leads to us: whatever else is in the tenant is never touched.
"""

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, ClassVar, Final, NamedTuple, Protocol

from worker.errors import TenantDown
from worker.setup.api import Management

NAME: Final = "Understudy"
ACTION_NAME: Final = "Understudy: roles and display name"
TRIGGER: Final = "post-login"
RUNTIME: Final = "node22"

# What touches a user, by Auth0's log categories. Source: auth0.com/docs, "Log Event Filters". Failed logins are among it for
# blocked users alone, whose attempts move last_login; token exchanges for those who log in without a login page.
CATEGORIES: Final = (
    "auth.login.success",
    "auth.login.fail",
    "auth.signup.success",
    "auth.token_exchange.success",
    "management.success",
    "user.success",
    "user.notification",
    "scim.event",
    "system.notification",
    "other",
)
EVENT_TYPES: Final = ("user.created", "user.updated", "user.deleted")

_BUILD_PATIENCE: Final = 60.0


class Step(NamedTuple):
    """One change: what a person reads, and what carries it out."""

    says: str
    do: Callable[[], object]


class Thing(Protocol):
    """Something of ours in the tenant."""

    title: ClassVar[str]
    reading: ClassVar[tuple[str, ...]]
    """Scopes to look at it."""
    changing: ClassVar[tuple[str, ...]]
    """Scopes to make, mend and remove it."""

    def missing(self, api: Management) -> Iterator[Step]:
        """Yield the changes that make it what it should be; none where it is."""

    def present(self, api: Management) -> Iterator[Step]:
        """Yield the changes that take it away; none where it is not there."""


@dataclass(frozen=True)
class LogStream:
    """The log stream to our webhook; `token` is the first of LOG_STREAM_TOKENS."""

    endpoint: str
    token: str
    send_token: bool = False
    title: ClassVar[str] = "log stream"
    reading: ClassVar[tuple[str, ...]] = ("read:log_streams",)
    changing: ClassVar[tuple[str, ...]] = ("create:log_streams", "update:log_streams", "delete:log_streams")

    def missing(self, api: Management) -> Iterator[Step]:
        """Compare the sink, the filter and the token where Auth0 shows it; a paused stream is started again."""
        sink = {
            "httpEndpoint": self.endpoint,
            "httpContentType": "application/json",
            "httpContentFormat": "JSONLINES",
            "httpAuthorization": self.token,
        }
        filters = [{"type": "category", "name": name} for name in CATEGORIES]
        held = self._held(api)
        if held is None:
            body = {"name": NAME, "type": "http", "sink": sink, "filters": filters}
            yield Step(f"create the log stream to {self.endpoint}", lambda: api.post("log-streams", body))
            return
        path = f"log-streams/{held['id']}"
        known = held.get("sink", {})
        if self.send_token or any(known.get(name, value) != value for name, value in sink.items()):
            yield Step("give the log stream its endpoint, format and token", lambda: api.patch(path, {"sink": sink}))
        if {one.get("name") for one in held.get("filters") or ()} != set(CATEGORIES):
            yield Step("give the log stream its categories", lambda: api.patch(path, {"filters": filters}))
        if held.get("status") != "active":
            yield Step("start the log stream again", lambda: api.patch(path, {"status": "active"}))

    def present(self, api: Management) -> Iterator[Step]:
        """Remove the stream."""
        held = self._held(api)
        if held is not None:
            yield Step("delete the log stream", lambda: api.delete(f"log-streams/{held['id']}"))

    def _held(self, api: Management) -> dict[str, Any] | None:
        streams = (one for one in api.get("log-streams") if one.get("type") == "http" and one.get("name") == NAME)
        return next((one for one in streams if one.get("sink", {}).get("httpEndpoint") == self.endpoint), None)


@dataclass(frozen=True)
class EventStream:
    """The event stream to our webhook; Auth0 never shows its token, so it is sent when made and when asked to."""

    endpoint: str
    token: str
    header: str = ""
    send_token: bool = False
    title: ClassVar[str] = "event stream"
    reading: ClassVar[tuple[str, ...]] = ("read:event_streams",)
    changing: ClassVar[tuple[str, ...]] = ("create:event_streams", "update:event_streams", "delete:event_streams")

    def missing(self, api: Management) -> Iterator[Step]:
        """Compare the subscriptions and the way it authenticates; a disabled stream is enabled again."""
        wanted = self._authorization()
        destination = {
            "type": "webhook",
            "configuration": {"webhook_endpoint": self.endpoint, "webhook_authorization": wanted},
        }
        subscriptions = [{"event_type": kind} for kind in EVENT_TYPES]
        held = self._held(api)
        if held is None:
            body = {"name": NAME, "subscriptions": subscriptions, "destination": destination}
            yield Step(f"create the event stream to {self.endpoint}", lambda: api.post("event-streams", body))
            return
        path = f"event-streams/{held['id']}"
        shown = held["destination"]["configuration"].get("webhook_authorization", {})
        if self.send_token or any(shown.get(name, wanted[name]) != wanted[name] for name in wanted):
            yield Step("give the event stream its token", lambda: api.patch(path, {"destination": destination}))
        if {one.get("event_type") for one in held.get("subscriptions", ())} != set(EVENT_TYPES):
            yield Step("subscribe the event stream to users", lambda: api.patch(path, {"subscriptions": subscriptions}))
        if held.get("status") != "enabled":
            says = "enable the event stream again; what happened meanwhile it does not bring: run `understudy verify --repair`"
            yield Step(says, lambda: api.patch(path, {"status": "enabled"}))

    def present(self, api: Management) -> Iterator[Step]:
        """Remove the stream."""
        held = self._held(api)
        if held is not None:
            yield Step("delete the event stream", lambda: api.delete(f"event-streams/{held['id']}"))

    def _authorization(self) -> dict[str, str]:
        if self.header:
            return {"method": "custom_header", "header_key": self.header, "header_value": self.token}
        name, colon, password = self.token.partition(":")
        if colon:
            return {"method": "basic", "username": name, "password": password}
        return {"method": "bearer", "token": self.token}

    def _held(self, api: Management) -> dict[str, Any] | None:
        said = api.get("event-streams", take="50")
        streams = said if isinstance(said, list) else said.get("eventStreams", said.get("event_streams", []))
        for one in streams:
            configuration = one.get("destination", {}).get("configuration", {})
            if one.get("name") == NAME and configuration.get("webhook_endpoint") == self.endpoint:
                found: dict[str, Any] = one
                return found
        return None


@dataclass(frozen=True)
class Action:
    """The post-login Action that puts roles and display name into tokens, bound after those that are there."""

    namespace: str
    default_name: str
    title: ClassVar[str] = "Action"
    reading: ClassVar[tuple[str, ...]] = ("read:actions",)
    changing: ClassVar[tuple[str, ...]] = ("create:actions", "update:actions", "delete:actions")

    @property
    def code(self) -> str:
        """The shipped code with its two constants written in."""
        shipped = resources.files("worker.setup").joinpath("action.js").read_text(encoding="utf-8")
        for name, value in (("NAMESPACE", self.namespace), ("DEFAULT_DISPLAY_NAME", self.default_name)):
            line = re.search(rf"(?m)^const {name} = .*;$", shipped)
            assert line is not None, name  # noqa: S101 the shipped code holds each
            shipped = shipped.replace(line[0], f"const {name} = {json.dumps(value)};")
        return shipped

    def missing(self, api: Management) -> Iterator[Step]:
        """Compare code and binding; what is deployed is what counts."""
        held = self._held(api)
        body = {
            "name": ACTION_NAME,
            "supported_triggers": [{"id": TRIGGER, "version": "v3"}],
            "code": self.code,
            "runtime": RUNTIME,
        }
        if held is None:
            yield Step("create, deploy and bind the Action", lambda: self._make(api, body))
            return
        action_id = held["id"]
        if held.get("code") != self.code:
            yield Step("give the Action its new code", lambda: self._mend(api, action_id, body))
        elif not _is_deployed(held):
            yield Step("deploy the Action", lambda: _deploy(api, action_id))
        if action_id not in _bound(api):
            yield Step("bind the Action to logins", lambda: _bind(api, action_id))

    def present(self, api: Management) -> Iterator[Step]:
        """Unbind it, then remove it; the others stay bound in their order."""
        held = self._held(api)
        if held is None:
            return
        action_id = held["id"]
        if action_id in _bound(api):
            yield Step("unbind the Action from logins", lambda: _unbind(api, action_id))
        yield Step("delete the Action", lambda: api.delete(f"actions/actions/{action_id}"))

    def _held(self, api: Management) -> dict[str, Any] | None:
        found = api.get("actions/actions", actionName=ACTION_NAME, per_page="100")["actions"]
        named = next((one for one in found if one["name"] == ACTION_NAME), None)
        return named and api.get(f"actions/actions/{named['id']}")

    def _make(self, api: Management, body: Mapping[str, Any]) -> None:
        action_id = api.post("actions/actions", body)["id"]
        _deploy(api, action_id)
        _bind(api, action_id)

    def _mend(self, api: Management, action_id: str, body: Mapping[str, Any]) -> None:
        api.patch(f"actions/actions/{action_id}", body)
        _deploy(api, action_id)


def _is_deployed(action: Mapping[str, Any]) -> bool:
    deployed = action.get("deployed_version") or {}
    return bool(action.get("all_changes_deployed")) and deployed.get("code", action.get("code")) == action.get("code")


def _deploy(api: Management, action_id: str) -> None:
    """Deploy once Auth0 has built it: an Action is "pending" right after it was made or changed."""
    deadline = time.monotonic() + _BUILD_PATIENCE
    while (status := api.get(f"actions/actions/{action_id}").get("status")) != "built":
        if status == "failed" or time.monotonic() > deadline:
            raise TenantDown(f"Auth0 did not build the Action ({status}): try again")
        time.sleep(0.5)
    api.post(f"actions/actions/{action_id}/deploy")


_BINDINGS: Final = f"actions/triggers/{TRIGGER}/bindings"


def _bound(api: Management) -> list[str]:
    """Return the ids of the bound Actions, in order."""
    return [one["action"]["id"] for one in api.get(_BINDINGS, per_page="100")["bindings"]]


def _bind(api: Management, action_id: str) -> None:
    _rebind(api, lambda held: [*held, {"ref": {"type": "action_id", "value": action_id}, "display_name": ACTION_NAME}])


def _unbind(api: Management, action_id: str) -> None:
    kept = [one["id"] for one in api.get(_BINDINGS, per_page="100")["bindings"] if one["action"]["id"] != action_id]
    _rebind(api, lambda held: [one for one in held if one["ref"]["value"] in kept])


def _rebind(api: Management, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    """Replace the list of bindings, as Auth0 wants it: those that stay are named by their binding's id."""
    held = [
        {"ref": {"type": "binding_id", "value": one["id"]}, "display_name": one["display_name"]}
        for one in api.get(_BINDINGS, per_page="100")["bindings"]
    ]
    api.patch(_BINDINGS, {"bindings": change(held)})
