"""A tenant as a model: what Auth0 would hold, and what it would tell of it, act by act."""

import copy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

EPOCH = datetime(2026, 11, 1, tzinfo=UTC)

State = dict[str, dict[str, Any]]


def iso(seconds: float) -> str:
    return (EPOCH + timedelta(seconds=seconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass
class Tenant:
    """Auth0, as far as users go. Time is in seconds; `states` is what was true since when."""

    now: float = 0.0
    users: State = field(default_factory=dict)
    states: list[tuple[float, State]] = field(default_factory=lambda: [(0.0, {})])
    records: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    changes: int = 0
    linked_at_first: dict[str, str] = field(default_factory=dict)
    """By id: when somebody who is linked now was first created."""

    def act(self, act: str, user_id: str, other: str, skew: float, variant: int) -> None:
        user = self.users.get(user_id)
        self.changes += 1
        if act == "sign_up" and user is None and not self._linked(user_id):
            self._create(user_id)
            self._log("ss" if user_id.startswith("auth0") else "s", skew, user_id=user_id)
        elif act == "log_in" and user:
            user |= {"last_login": iso(self.now), "logins_count": user["logins_count"] + 1, "updated_at": iso(self.now)}
            self._tell("user.updated", user)
            self._log("s" if variant else "sepft", skew, user_id=user_id)
        elif act == "change" and user:
            user |= {"nickname": f"{user_id} {self.changes}", "updated_at": iso(self.now)}
            self._merge(user, "user_metadata", {"changed": self.changes if variant else None})
            self._tell("user.updated", user)
            self._api("PATCH", user_id, skew)
        elif act == "delete" and user:
            self._tell("user.deleted", self.users.pop(user_id), deleted_at=iso(self.now))
            if variant:
                self._log("sdu", skew, user_id=user_id)
            else:
                self._api("DELETE", user_id, skew)
        elif (
            act == "link"
            and user
            and other in self.users
            and other != user_id
            and len(self.users[other]["identities"]) == 1
        ):
            provider, _, key = other.partition("|")
            self.linked_at_first[other] = self.users[other]["created_at"]
            self._tell("user.deleted", self.users.pop(other), deleted_at=iso(self.now))
            user["identities"] = [
                *user["identities"],
                {"provider": provider, "user_id": key, "connection": "c", "isSocial": True},
            ]
            user["updated_at"] = iso(self.now)
            self._tell("user.updated", user)
            self._api("POST", user_id, skew, "/identities", {"provider": provider, "user_id": key})
        elif act == "unlink" and user and len(user["identities"]) > 1:
            gone = user["identities"][-1]
            user["identities"] = user["identities"][:-1]
            user["updated_at"] = iso(self.now)
            self._tell("user.updated", user)
            freed = f"{gone['provider']}|{gone['user_id']}"
            # Auth0 does not say what time an account that is free again was last updated: perhaps when it was first made.
            self._create(freed, updated_at=self.linked_at_first[freed] if variant else iso(self.now))
            self._api("DELETE", user_id, skew, f"/identities/{gone['provider']}/{gone['user_id']}")
        self.users = copy.deepcopy(self.users)
        self.states.append((self.now, copy.deepcopy(self.users)))

    def at(self, moment: float) -> State:
        """Return what was true at a moment: of a tie, the last."""
        return [state for since, state in self.states if since <= moment][-1]

    @staticmethod
    def _merge(user: dict[str, Any], place: str, said: dict[str, Any]) -> None:
        """Write metadata as Auth0 does: merged at its first level, null takes a key away."""
        merged = {key: value for key, value in {**user.get(place, {}), **said}.items() if value is not None}
        user.pop(place, None)
        if merged:
            user[place] = merged

    def _create(self, user_id: str, updated_at: str = "") -> None:
        provider, _, key = user_id.partition("|")
        self.users[user_id] = {
            "user_id": user_id,
            "created_at": iso(self.now),
            "updated_at": updated_at or iso(self.now),
            "logins_count": 0,
            "identities": [{"provider": provider, "user_id": key, "connection": "c", "isSocial": False}],
        }
        self._tell("user.created", self.users[user_id])

    def _linked(self, user_id: str) -> bool:
        return any(
            f"{one['provider']}|{one['user_id']}" == user_id
            for user in self.users.values()
            for one in user["identities"][1:]
        )

    def _tell(self, kind: str, user: dict[str, Any], **more: Any) -> None:
        said = copy.deepcopy(user) | more
        self.events.append(
            {"id": f"evt_{len(self.events)}", "type": kind, "time": iso(self.now), "data": {"object": said}}
        )

    def _log(self, code: str, skew: float, **data: Any) -> None:
        self.records.append(
            {"log_id": str(len(self.records)), "data": {"type": code, "date": iso(self.now + skew), **data}}
        )

    def _api(self, method: str, user_id: str, skew: float, rest: str = "", body: Any = None) -> None:
        path = "/api/v2/users/" + user_id.replace("|", "%7C") + rest
        self._log(
            "sapi",
            skew,
            details={
                "request": {"method": method.lower(), "path": path, "body": body},
                "response": {"statusCode": 200},
            },
        )
