"""The tenant's Actions: drafts, their builds, deployed versions, and which of them a trigger runs."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from simulator import action_runner
from simulator.action_runner import Code, Outcome
from simulator.clock import Clock, iso
from simulator.errors import ApiError

MAX_ACTIONS = 100
MAX_BOUND = 20
POST_LOGIN = "post-login"
TRIGGERS = {
    POST_LOGIN: "v3",
    "credentials-exchange": "v2",
    "pre-user-registration": "v2",
    "post-user-registration": "v2",
    "post-change-password": "v2",
    "send-phone-message": "v2",
}
"""The triggers an Action can be made for, and their current versions. Post-login alone is ever pulled."""


@dataclass
class Secret:
    value: str = field(repr=False)
    updated_at: str


@dataclass(frozen=True)
class Version:
    """What was deployed: a draft as it was then."""

    id: str
    number: int
    code: str
    runtime: str
    dependencies: list[dict[str, str]]
    secrets: dict[str, Secret]
    created_at: str


@dataclass
class Action:
    """An Action, its draft and what is deployed of it. `status` is that of the draft's build."""

    id: str
    name: str
    trigger: str
    created_at: str
    updated_at: str
    code: str = ""
    runtime: str = "node22"
    dependencies: list[dict[str, str]] = field(default_factory=list)
    secrets: dict[str, Secret] = field(default_factory=dict)
    status: str = "pending"
    problem: str | None = None
    built_at: str | None = None
    draft: int = 0
    deployed_draft: int = -1
    versions: list[Version] = field(default_factory=list)

    @property
    def deployed(self) -> Version | None:
        return self.versions[-1] if self.versions else None


@dataclass(frozen=True)
class Binding:
    """A place of an Action among those that a trigger runs."""

    id: str
    trigger: str
    display_name: str
    action: Action
    created_at: str


class Actions:
    """All Actions of one tenant. Refusals are ApiErrors."""

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        self._clock = clock
        self._rng = rng
        self._actions: dict[str, Action] = {}
        self._bindings: dict[str, list[Binding]] = {}
        self._builds: set[asyncio.Task[None]] = set()
        self.executions: deque[dict[str, Any]] = deque(maxlen=100)

    def __iter__(self) -> Iterator[Action]:
        return iter(self._actions.values())

    def get(self, action_id: str) -> Action:
        if action_id not in self._actions:
            raise ApiError(404, "That action does not exist.", "inexistent_action")
        return self._actions[action_id]

    def create(self, name: str, trigger: str, draft: dict[str, Any]) -> Action:
        if len(self._actions) >= MAX_ACTIONS:
            raise ApiError(403, f"A tenant can have {MAX_ACTIONS} actions.", "too_many_entities")
        if any(action.name == name for action in self):
            raise ApiError(409, "An action with the same name already exists.", "resource_conflict")
        now = iso(self._clock())
        action = Action(self._new_id(), name, trigger, created_at=now, updated_at=now)
        self._actions[action.id] = action
        self.change(action, draft)
        return action

    def change(self, action: Action, draft: dict[str, Any]) -> None:
        """Replace any of `name`, `code`, `runtime`, `dependencies`, `secrets` in the draft, and build it."""
        secrets = draft.pop("secrets", None)
        for name, value in draft.items():
            setattr(action, name, value)
        if secrets is not None:
            action.secrets = {name: self._secret(action, name, value) for name, value in secrets.items()}
        action.updated_at = iso(self._clock())
        action.draft += 1
        action.status, action.problem = "pending", None
        build = asyncio.get_running_loop().create_task(self._build(action, action.draft))
        self._builds.add(build)
        build.add_done_callback(self._builds.discard)

    def deploy(self, action: Action) -> Version:
        if action.status != "built":
            why = f" ({action.problem})" if action.problem else ""
            raise ApiError(400, f"A draft must be in the 'built' state before it can be deployed.{why}")
        version = Version(
            self._new_id(), len(action.versions) + 1, action.code, action.runtime, list(action.dependencies),
            dict(action.secrets), iso(self._clock()),
        )  # fmt: skip
        action.versions.append(version)
        action.deployed_draft = action.draft
        return version

    def delete(self, action: Action, *, force: bool) -> None:
        """Take an Action away; one that is bound only by force."""
        if not force and any(binding.action is action for binding in self.bindings(action.trigger)):
            raise ApiError(409, "Cannot delete an action that is bound to a trigger.", "resource_conflict")
        del self._actions[action.id]
        self._bindings[action.trigger] = [b for b in self.bindings(action.trigger) if b.action is not action]

    def bindings(self, trigger: str) -> list[Binding]:
        return self._bindings.get(trigger, [])

    def bind(self, trigger: str, wanted: list[tuple[Action, str]]) -> list[Binding]:
        """Let a trigger run these Actions, in this order, and no others. A binding that was there keeps its id."""
        if len(wanted) > MAX_BOUND:
            raise ApiError(400, f"A trigger can have {MAX_BOUND} bindings.", "invalid_body")
        for action, _ in wanted:
            if action.trigger != trigger or action.deployed is None:
                raise ApiError(400, "One or more of the actions being bound does not exist at this trigger.")
        held = {binding.action.id: binding for binding in self.bindings(trigger)}
        now = iso(self._clock())
        self._bindings[trigger] = [
            Binding(
                held[action.id].id if action.id in held else self._new_id(),
                trigger,
                name or action.name,
                action,
                held[action.id].created_at if action.id in held else now,
            )
            for action, name in wanted
        ]
        return self.bindings(trigger)

    async def run_post_login(self, event: dict[str, Any]) -> Outcome:
        """Run what is bound to post-login and deployed. Keeps a note of it for the control plane."""
        bound = [(binding.action, binding.action.deployed) for binding in self.bindings(POST_LOGIN)]
        codes = [
            Code(action.name, version.code, {name: secret.value for name, secret in version.secrets.items()})
            for action, version in bound
            if version is not None
        ]
        if not codes:
            return Outcome()
        outcome = await action_runner.run(codes, event)
        self.executions.append(
            {
                "date": iso(self._clock()),
                "user_id": event["user"]["user_id"],
                "actions": outcome.ran,
                "error": outcome.error,
                "denied": outcome.denied,
                "console": outcome.console,
            }
        )
        return outcome

    async def _build(self, action: Action, draft: int) -> None:
        unknown = ", ".join(dependency.get("name", "") for dependency in action.dependencies)
        problem = (
            f"This simulator installs no npm modules: {unknown}" if unknown else await action_runner.check(action.code)
        )
        if action.draft == draft:
            action.status, action.problem = ("failed", problem) if problem else ("built", None)
            action.built_at = iso(self._clock())

    def _secret(self, action: Action, name: str, value: str | None) -> Secret:
        """Keep the value of a secret that is sent without one."""
        held = action.secrets.get(name)
        if value is None and held is not None:
            return held
        return Secret(value or "", iso(self._clock()))

    def _new_id(self) -> str:
        digits = f"{self._rng.getrandbits(128):032x}"
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
