"""What the tenant log says of each act: one method per kind of record, with the quirks real ones have."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import UNSET

from simulator import connections
from simulator.applications import MUSIC_API
from simulator.clock import Clock
from simulator.logs import Fields, LogBook
from simulator.users import Identity, User

APP = {"client_id": "sJv0a7mQe2Xk9Lr4Yt1Wz8Hc3Nb6Pd5G", "client_name": "Music app"}
_ADMIN = {
    "user_id": "auth0|5f0c0ffee0c0ffee0c0ffee0",
    "name": "tenant.admin@example.com",
    "email": "tenant.admin@example.com",
}
_BROWSERS = ("Chrome 141.0.0 / Mac OS X 10.15.7", "Mobile Safari 19.0 / iOS 19.1.0", "Firefox 143.0.0 / Linux 0.0.0", "Edge 141.0.0 / Windows 10.0.0")  # fmt: skip
_SURROUNDINGS: Fields = {
    "auth0_client": {"name": "auth0-spa-js", "version": "2.4.1"},
    "location_info": {
        "country_code": "PT", "country_code3": "PRT", "country_name": "Portugal", "city_name": "Lisbon", "latitude": 38.7, "longitude": -9.1,
        "time_zone": "Europe/Lisbon", "continent_code": "EU",
    },
    "security_context": {"ja3": "8f1c6a0d4be57f92a3d1c0e4b7f65a21", "ja4": "t13d1516h2_8daaf6152771_02713d6af862"},
}  # fmt: skip
_NOISE = (
    ("sertft", "Refresh Token for Access Token"), ("ssa", "Silent authentication"), ("slo", "User successfully logged out"),
    ("scpr", "Change password request sent"), ("svr", "Verification e-mail queued"), ("si", "Invitation accepted"),
    ("organization_member_added", "Member added"), ("gd_send_sms", "Guardian SMS sent"), ("wum", "User management warning"),
    ("limit_mu", "Blocked IP address"), ("pwd_leak", "Breached password"), ("fsa", "Login required"), ("cls", "Code sent"),
)  # fmt: skip
_SECRETS = frozenset({"password", "httpAuthorization", "link_with", "secrets", "token", "header_value", "users"})
_DESCRIPTIONS = {
    "POST /users": "Create a User",
    "PATCH /users/{id}": "Update a User",
    "DELETE /users/{id}": "Delete a User",
    "POST /users/{id}/identities": "Link a User Account",
    "DELETE /users/{id}/identities/{provider}/{uid}": "Unlink a User Identity",
    "POST /log-streams": "Create log stream",
    "PATCH /log-streams/{id}": "Update log stream",
    "DELETE /log-streams/{id}": "Delete log stream",
    "DELETE /connections/{id}": "Delete a connection",
    "DELETE /connections/{id}/users": "Delete a connection user",
}


@dataclass(frozen=True)
class ApiRequest:
    """A Management API request as the log shows it: `path` is percent-encoded, `template` names the operation."""

    method: str
    template: str
    path: str
    body: Any = None
    query: dict[str, str] = field(default_factory=dict)


class Journal:
    """Writes the records of one tenant into its log."""

    def __init__(self, book: LogBook, clock: Clock, rng: random.Random, hostname: str) -> None:
        self._book = book
        self._clock = clock
        self._rng = rng
        self._hostname = hostname

    def any_ip(self) -> str:
        """Invent an address of the documentation range."""
        return f"203.0.113.{self._rng.randrange(1, 255)}"

    def logged_in(
        self,
        user: User,
        identity: Identity,
        ip: str,
        app: Fields = APP,
        *,
        silent: bool | None = None,
        session: str = "",
    ) -> None:
        """`s`; `silent` when a single sign-on session stood in for the prompt, by chance unless it is said."""
        now = self._clock()
        about = self._about(user, identity)
        session = session or f"{self._rng.getrandbits(128):032x}"
        if silent is None:
            silent = self._rng.random() < 0.1
        sso = {"connection": None, "connection_id": ""} if silent else {}
        details = {
            "prompts": [] if silent else [self._prompt(user, identity, now)],
            "completedAt": int(now * 1000),
            "elapsedTime": None if silent else self._rng.randrange(300, 20_000),
            "session_id": session,
            "stats": {"loginsCount": user.logins_count if user.logins_count is not UNSET else 0},
        }
        login = {
            **about,
            **sso,
            **self._visit(ip),
            **app,
            "details": details,
            "identity_user_id": str(identity.user_id),
        }
        self._book.write("s", "Successful login", login)

    def code_exchanged(
        self, user: User, identity: Identity, ip: str, app: Fields = APP, audience: str = MUSIC_API,
        scope: str = "openid profile email",
    ) -> None:  # fmt: skip
        """`seacft`: the application's server exchanges the code of a login."""
        details = {"code": f"*************{self._rng.getrandbits(12):03x}", "accessedSecrets": []}
        exchange = {
            **self._about(user, identity),
            **app,
            "ip": ip,
            "user_agent": "Other 0.0.0 / Other 0.0.0",
            "hostname": self._hostname,
            "audience": audience,
            "scope": scope,
            "details": details,
        }
        self._book.write("seacft", "Authorization Code for Access Token", exchange)

    def token_refused(self, code: str, why: str, client_id: str) -> None:
        """`feacft`, `fertft`: a code or a refresh token that is good for nothing."""
        self._book.write(code, why, {"client_id": client_id, "hostname": self._hostname, "details": {}})

    def login_refused(
        self, user: User, identity: Identity, ip: str, app: Fields = APP, why: str = "user is blocked"
    ) -> None:
        """`f`: somebody with the right password, whom an admin has blocked or an Action denied."""
        details = {"error": {"message": why}, "stats": {"loginsCount": user.logins_count or 0}}
        self._book.write("f", why, {**self._about(user, identity), **self._visit(ip), **app, "details": details})

    def wrong_password(self, user_name: str, user: User | None, ip: str) -> None:
        """`fp` names the user, `fu` (no such user) whatever was typed."""
        typed = {
            "user_name": user_name,
            "connection": connections.DATABASE,
            "strategy": "auth0",
            "strategy_type": "database",
        }
        known = self._about(user, user.primary) if user is not None else {**typed, "user_id": ""}
        code, why = ("fp", "Wrong email or password.") if user is not None else ("fu", "Wrong email or password.")
        self._book.write(code, why, {**known, **self._visit(ip), **APP, "details": {"error": {"message": why}}})

    def signed_up(self, user: User, ip: str, *, by_admin: bool = False) -> None:
        """`ss`; it fires for users that an admin makes as well, with `is_signup` false."""
        body: Fields = {
            "connection": user.primary.connection,
            "email": _or_none(user.email),
            "password": "*****",
            "tenant": "*****",
            "is_signup": not by_admin,
            "user_metadata": _or_none(user.user_metadata),
            "app_metadata": _or_none(user.app_metadata),
        }
        actor = {} if by_admin else APP
        fields = {**self._about(user, user.primary), **self._visit(ip), **actor, "details": {"body": body}}
        self._book.write("ss", "", fields)

    def profile_act(self, code: str, description: str, user: User, details: Fields, app: Fields = APP) -> None:
        """`sce`, `scu`, `scp`, `scpn`, `sv`, `ssa`, `slo` and their like: the user did it, `details` say what."""
        fields = {**self._about(user, user.primary), **self._visit(self.any_ip()), **app, "details": details}
        self._book.write(code, description, fields)

    def deleted(self, user: User) -> None:
        """`sdu`, in one of the shapes seen: with user_id, or with an empty one and half an id in the description."""
        about = self._about(user, user.primary)
        variant = self._rng.random()
        if variant < 0.6:
            self._book.write("sdu", f"user_id: {user.user_id}", {**about, "ip": self.any_ip()})
        elif variant < 0.8:
            short = {**about, "user_id": "", "user_name": ""}
            self._book.write("sdu", f"user_id: {user.primary.user_id}", {**short, "ip": self.any_ip()})
        else:
            self._book.write("sdu", None, {**about, "user_name": None})

    def api_call(
        self, asked: ApiRequest, status: int, answer: Any, caller: Fields | None, correlation: str | None = None
    ) -> None:
        """`sapi`: a write through the Management API or (no `caller`) the dashboard; `fapi` when it was refused.

        `user_id` is the actor's: the admin's in the dashboard, absent for a machine.
        """
        dashboard = caller is None
        request = {
            "method": asked.method.lower(),
            "path": asked.path,
            "query": asked.query,
            "body": scrub(asked.body),
            "channel": "https://manage.auth0.com/" if dashboard else "api",
            "ip": self.any_ip(),
            "userAgent": "Mozilla/5.0" if dashboard else "Python/3 auth0-python",
            "auth": self._auth(caller),
        }
        fields = {
            "client_id": None if caller is None else caller["azp"],
            "ip": request["ip"],
            "user_agent": request["userAgent"],
            "user_id": _ADMIN["user_id"] if dashboard else None,
            "details": {
                "request": request,
                "response": {"statusCode": status, "body": scrub(answer) if answer else {}},
            },
            "references": {"correlation_id": correlation} if correlation else None,
        }
        name = f"{asked.method} {asked.template.removeprefix('/api/v2')}"
        self._book.write("sapi" if status < 400 else "fapi", _DESCRIPTIONS.get(name, name), fields)

    def dashboard(
        self, method: str, user_id: str, body: Any, answer: Any, *, rest: str = "", status: int = 200
    ) -> None:
        """Write the `sapi` of an admin's click on one user; `rest` is what follows the user's id in the path."""
        template = (
            "/api/v2/users/{id}"
            + ("/identities" if rest else "")
            + ("/{provider}/{uid}" if rest.count("/") > 1 else "")
        )
        path = f"/api/v2/users/{quote(user_id, safe='')}{rest}"
        self.api_call(ApiRequest(method, template, path, body), status, answer, None)

    def secret_read(self, path: str, caller: Fields) -> None:
        """`mgmt_api_read`: a GET whose answer held a secret."""
        request = {"method": "get", "path": path, "channel": "api", "auth": self._auth(caller)}
        details = {"request": request, "response": {"statusCode": 200, "body": {}}}
        self._book.write("mgmt_api_read", "Management API read", {"client_id": caller["azp"], "details": details})

    def machine_token(self, client_id: str, client_name: str, audience: str, scope: str) -> None:
        """`seccft`: no user at all."""
        fields = {
            "client_id": client_id,
            "client_name": client_name,
            "audience": audience,
            "scope": scope,
            "ip": "127.0.0.1",
            "user_agent": "Other 0.0.0 / Other 0.0.0",
            "hostname": self._hostname,
            "user_id": "",
            "user_name": "",
        }
        self._book.write("seccft", "Client Credentials for Access Token", fields)

    def machine_token_refused(self, client_id: str) -> None:
        self._book.write("feccft", "Unauthorized", {"client_id": client_id, "hostname": self._hostname, "user_id": ""})

    def attack_protection(self, code: str, description: str, user: User) -> None:
        """`limit_wc`, `ublkdu`: brute-force blocks, which are not the `blocked` attribute."""
        fields = {**self._about(user, user.primary), **self._visit(self.any_ip()), "details": {}}
        self._book.write(code, description, fields)

    def scim(self, action: str, user: User, body: Fields) -> None:
        """`sscim`: no user_id at the top."""
        connection = connections.of_identity(user.primary)
        path = f"/scim/v2/connections/{connection.id}/Users/{quote(user.user_id, safe='')}"
        details = {
            "action": action,
            "connection_id": connection.id,
            "request": {"method": "PATCH" if action == "update" else "DELETE", "path": path, "body": body},
            "response": {"statusCode": 200, "body": {}},
        }
        self._book.write("sscim", "Successful SCIM operation", {"connection_id": connection.id, "details": details})

    def imported(self, connection: str, *, failed: bool = False) -> None:
        """`sui`, or `fui`: names a connection, no user."""
        code, said = ("fui", "Failed users import") if failed else ("sui", "Successfully imported users")
        self._book.write(code, said, {"details": {"connection": connection, "tenant": "*****"}})

    def noise(self, user: User) -> None:
        """Write one of the many records that change nothing about anybody's profile."""
        code, said = self._rng.choice(_NOISE)
        fields = {**self._about(user, user.primary), **self._visit(self.any_ip()), **APP, "details": {}}
        self._book.write(code, said, fields)

    def from_the_future(self) -> None:
        """Write a code that no list knows yet."""
        code = self._rng.choice(("s_quantum", "sxtft", "fzzz", "user_mood", "con"))
        self._book.write(code, None, {"details": "free text, where an object was expected"})

    def api_limit(self, *, reached: bool) -> None:
        code, said = (
            ("api_limit", "You passed the limit") if reached else ("api_limit_warning", "80% of the limit is used")
        )
        self._book.write(code, said, {"details": {}})

    def _about(self, user: User, identity: Identity) -> Fields:
        connection = connections.of_identity(identity)
        name = next((v for v in (user.username, user.email, user.phone_number, user.name) if v is not UNSET), "")
        return {
            "connection": identity.connection,
            "connection_id": connection.id,
            "strategy": connection.strategy,
            "strategy_type": connection.strategy_type,
            "user_id": user.user_id,
            "user_name": name,
        }

    def _visit(self, ip: str) -> Fields:
        return {"ip": ip, "user_agent": self._rng.choice(_BROWSERS), "hostname": self._hostname, **_SURROUNDINGS}

    def _prompt(self, user: User, identity: Identity, now: float) -> Fields:
        started = int(now * 1000) - 3000
        return {
            "name": "login" if identity.provider == "auth0" else "federated-authenticate",
            "initiatedAt": started,
            "completedAt": started + 2900,
            "connection": identity.connection,
            "connection_id": connections.of_identity(identity).id,
            "strategy": identity.provider,
            "identity": str(identity.user_id),
            "stats": {"loginsCount": user.logins_count if user.logins_count is not UNSET else 0},
            "elapsedTime": 2900,
        }

    def _auth(self, caller: Fields | None) -> Fields:
        if caller is None:
            return {"strategy": "jwt", "user": _ADMIN, "credentials": {"jti": f"{self._rng.getrandbits(128):032x}"}}
        return {"strategy": "jwt", "user": {}, "credentials": {"scopes": caller["scope"].split()}}


def scrub(body: Any) -> Any:
    """Show a body as the log does: secrets starred."""
    if isinstance(body, msgspec.Struct):
        body = msgspec.to_builtins(body)
    if isinstance(body, dict):
        return {k: "*****" if k in _SECRETS else scrub(v) for k, v in body.items()}
    return body


def _or_none(value: Any) -> Any:
    return None if value is UNSET else value
