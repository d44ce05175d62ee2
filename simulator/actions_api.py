"""Management API: Actions and the bindings of triggers."""

from __future__ import annotations

from typing import Any

from simulator.actions import TRIGGERS, Action, Binding, Version
from simulator.errors import ApiError, invalid_body
from simulator.management import Answer, Call, Endpoint, required_body
from simulator.tenant import Tenant
from simulator.users_api import number_of

MAX_CODE_BYTES = 100_000
MAX_SECRET_CHARS = 4096
_ACTIONS = "/api/v2/actions/actions"
_ACTION = f"{_ACTIONS}/{{id}}"
_BINDINGS = "/api/v2/actions/triggers/{trigger}/bindings"
_DRAFT = frozenset({"name", "supported_triggers", "code", "dependencies", "runtime", "secrets", "modules"})


class ActionsApi:
    """Handlers of `/api/v2/actions/*`."""

    def __init__(self, tenant: Tenant) -> None:
        self._actions = tenant.actions

    def endpoints(self) -> list[Endpoint]:
        read, update = ("read:actions",), ("update:actions",)
        return [
            Endpoint("GET", _ACTIONS, read, self.list),
            Endpoint("POST", _ACTIONS, ("create:actions",), self.create),
            Endpoint("GET", _ACTION, read, self.get),
            Endpoint("PATCH", _ACTION, update, self.patch),
            Endpoint("DELETE", _ACTION, ("delete:actions",), self.delete),
            Endpoint("POST", f"{_ACTION}/deploy", update, self.deploy),
            Endpoint("GET", f"{_ACTION}/versions", read, self.versions),
            Endpoint("GET", "/api/v2/actions/triggers", read, self.triggers),
            Endpoint("GET", _BINDINGS, read, self.bindings),
            Endpoint("PATCH", _BINDINGS, update, self.bind),
        ]

    def list(self, call: Call) -> Answer:
        wanted = call.query
        found = [
            action
            for action in self._actions
            if wanted.get("actionName") in (None, action.name)
            and wanted.get("triggerId") in (None, action.trigger)
            and wanted.get("deployed") in (None, "true" if action.deployed else "false")
        ]
        return Answer(_page("actions", [_action(action) for action in found], call))

    def get(self, call: Call) -> Answer:
        return Answer(_action(self._actions.get(call.params["id"])))

    def create(self, call: Call) -> Answer:
        body = dict(required_body(call))
        if not isinstance(body.get("name"), str) or not body["name"]:
            raise invalid_body("Missing required property: name")
        if "supported_triggers" not in body:
            raise invalid_body("Missing required property: supported_triggers")
        draft = _checked(body)
        trigger = draft.pop("trigger")
        return Answer(_action(self._actions.create(draft.pop("name"), trigger, draft)), 201)

    def patch(self, call: Call) -> Answer:
        action, draft = self._actions.get(call.params["id"]), _checked(required_body(call))
        if draft.pop("trigger", action.trigger) != action.trigger:
            raise invalid_body("The trigger of an action cannot change")
        self._actions.change(action, draft)
        return Answer(_action(action))

    def delete(self, call: Call) -> Answer:
        self._actions.delete(self._actions.get(call.params["id"]), force=call.query.get("force") == "true")
        return Answer(status=204)

    def deploy(self, call: Call) -> Answer:
        action = self._actions.get(call.params["id"])
        return Answer(_version(action, self._actions.deploy(action)), 202)

    def versions(self, call: Call) -> Answer:
        action = self._actions.get(call.params["id"])
        return Answer(_page("versions", [_version(action, version) for version in action.versions[::-1]], call))

    def triggers(self, call: Call) -> Answer:  # noqa: ARG002 one signature for all handlers
        runtimes = {"runtimes": ["node22"], "default_runtime": "node22", "binding_policy": "trigger-bound"}
        return Answer({"triggers": [{**_trigger(trigger), **runtimes} for trigger in TRIGGERS]})

    def bindings(self, call: Call) -> Answer:
        bound = self._actions.bindings(_known_trigger(call.params["trigger"]))
        return Answer(_page("bindings", [_binding(binding) for binding in bound], call))

    def bind(self, call: Call) -> Answer:
        trigger, wanted = _known_trigger(call.params["trigger"]), required_body(call).get("bindings")
        if not isinstance(wanted, list):
            raise invalid_body("Missing required property: bindings")
        bound = self._actions.bind(trigger, [self._referred(trigger, one) for one in wanted])
        return Answer({"bindings": [_binding(binding) for binding in bound]})

    def _referred(self, trigger: str, wanted: Any) -> tuple[Action, str]:
        """Find the Action that a binding of a PATCH means, and the name it is to have."""
        ref = wanted.get("ref") if isinstance(wanted, dict) else None
        if not isinstance(ref, dict):
            raise invalid_body("Missing required property: ref")
        by = {
            "action_id": {action.id: action for action in self._actions},
            "action_name": {action.name: action for action in self._actions},
            "binding_id": {binding.id: binding.action for binding in self._actions.bindings(trigger)},
        }.get(str(ref.get("type")))
        if by is None:
            raise invalid_body("No enum match for: ref.type")
        if ref.get("value") not in by:
            raise ApiError(400, "One or more of the actions being bound does not exist at this trigger.")
        return by[ref["value"]], str(wanted.get("display_name") or "")


def _checked(body: dict[str, Any]) -> dict[str, Any]:
    """Answer the draft that a body describes, `trigger` for its supported trigger. ApiError 400 for what Auth0 refuses."""
    unknown = sorted(set(body) - _DRAFT)
    if unknown:
        raise invalid_body(f"Additional properties not allowed: {','.join(unknown)}")
    draft = {name: value for name, value in body.items() if name in {"name", "code", "runtime"}}
    for name, value in draft.items():
        if not isinstance(value, str):
            raise invalid_body(f"Expected type string on property {name}")
    if len(draft.get("code", "").encode()) > MAX_CODE_BYTES:
        raise invalid_body(f"String is too long, maximum {MAX_CODE_BYTES} on property code")
    if "supported_triggers" in body:
        draft["trigger"] = _only_trigger(body["supported_triggers"])
    if "dependencies" in body:
        draft["dependencies"] = _named(body, "dependencies")
    if "secrets" in body:
        draft["secrets"] = {secret["name"]: _secret_value(secret) for secret in _named(body, "secrets")}
    return draft


def _only_trigger(asked: Any) -> str:
    if not isinstance(asked, list) or len(asked) != 1 or not isinstance(asked[0], dict):
        raise invalid_body("An action supports one trigger on property supported_triggers")
    if asked[0].get("id") not in TRIGGERS:
        raise invalid_body("No enum match on property supported_triggers.id")
    return str(asked[0]["id"])


def _named(body: dict[str, Any], key: str) -> list[dict[str, Any]]:
    items = body[key]
    if not isinstance(items, list) or not all(isinstance(i, dict) and isinstance(i.get("name"), str) for i in items):
        raise invalid_body(f"Expected an array of objects with a name on property {key}")
    return items


def _secret_value(secret: Any) -> str | None:
    value = secret.get("value")
    if value is not None and (not isinstance(value, str) or len(value) > MAX_SECRET_CHARS):
        raise invalid_body(f"Expected a string of at most {MAX_SECRET_CHARS} characters on property secrets.value")
    return value


def _known_trigger(trigger: str) -> str:
    if trigger not in TRIGGERS:
        raise ApiError(404, "That trigger does not exist.", "inexistent_trigger")
    return trigger


def _trigger(trigger: str) -> dict[str, str]:
    return {"id": trigger, "version": TRIGGERS[trigger], "status": "CURRENT"}


def _action(action: Action) -> dict[str, Any]:
    shown = {
        **_contents(action, action),
        "id": action.id,
        "name": action.name,
        "created_at": action.created_at,
        "updated_at": action.updated_at,
        "status": action.status,
        "all_changes_deployed": action.deployed_draft == action.draft,
        **({"built_at": action.built_at} if action.built_at else {}),
    }
    return {**shown, "deployed_version": _version(action, action.deployed)} if action.deployed else shown


def _version(action: Action, version: Version) -> dict[str, Any]:
    return {
        **_contents(action, version),
        "id": version.id,
        "action_id": action.id,
        "number": version.number,
        "deployed": version is action.deployed,
        "status": "built",
        "errors": [],
        "created_at": version.created_at,
        "updated_at": version.created_at,
        "built_at": version.created_at,
    }


def _contents(action: Action, of: Action | Version) -> dict[str, Any]:
    return {
        "supported_triggers": [_trigger(action.trigger)],
        "code": of.code,
        "runtime": of.runtime,
        "dependencies": of.dependencies,
        "secrets": [{"name": name, "updated_at": secret.updated_at} for name, secret in of.secrets.items()],
    }


def _binding(binding: Binding) -> dict[str, Any]:
    return {
        "id": binding.id,
        "trigger_id": binding.trigger,
        "display_name": binding.display_name,
        "created_at": binding.created_at,
        "updated_at": binding.created_at,
        "action": _action(binding.action),
    }


def _page(name: str, found: list[dict[str, Any]], call: Call) -> dict[str, Any]:
    per_page, page = number_of(call.query, "per_page", 50, 100), number_of(call.query, "page", 0, None)
    return {
        name: found[page * per_page : (page + 1) * per_page],
        "total": len(found),
        "page": page,
        "per_page": per_page,
    }
