"""People who use the tenant: they sign up, log in, change things, get blocked, linked and deleted."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from msgspec import UNSET
from msgspec.structs import replace

from simulator import connections, names
from simulator.connections import Connection
from simulator.errors import ApiError, no_such_user
from simulator.journal import ApiRequest
from simulator.tenant import Tenant
from simulator.users import User

Params = dict[str, Any]
_REMEMBERED_GONE = 1000


class People:
    """Acts of people and admins on one tenant. Each act changes state and writes what Auth0 would log of it.

    An act takes the user's id, parameters that say how, and the randomness for what they leave open.
    """

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._users = tenant.users
        self._directory = tenant.directory
        self._journal = tenant.journal
        self._count = 0
        self._gone: dict[str, User] = {}
        self.acts: dict[str, Callable[[str, Params, random.Random], object]] = {
            "login": self.login,
            "change_email": self.change_email,
            "change_name": self.change_name,
            "change_username": self.change_username,
            "change_phone": self.change_phone,
            "change_password": self.change_password,
            "verify_email": self.verify_email,
            "block": self.block,
            "unblock": self.unblock,
            "delete": self.delete,
            "link": self.link,
            "unlink": self.unlink,
            "metadata": self.metadata,
            "failed_login": self.failed_login,
            "brute_force": self.brute_force,
            "scim": self.scim,
            "recreate": self.recreate,
            "admin_create": self.admin_create,
            "noise": self.noise,
        }

    def sign_up(
        self,
        rng: random.Random,
        connection_name: str | None = None,
        *,
        log_in: bool = True,
        profile: Params | None = None,
    ) -> User:
        """Make a new person, with this `profile` or an invented one. Social and enterprise users have no `ss`: their first login makes them.

        So whoever signs up without logging in, or with a profile of their own, does it at the database connection, unless another is named.
        """
        at_any = log_in and not profile
        connection = self._connection(rng, connection_name or (None if at_any else connections.DATABASE))
        user = self._new_user(rng, connection, profile)
        if connection.strategy_type in {"database", "passwordless"}:
            self._journal.signed_up(user, self._journal.any_ip())
        return self.log_in(user.user_id) if log_in else user

    def load(self, rng: random.Random, count: int, span: tuple[float, float] | None = None) -> None:
        """Make users who were there before: no logs, no events, no logins, in the search index at once.

        They were created now, or somewhen in the `span` (UNIX seconds).
        """
        with self._tenant.events.silence():
            for _ in range(count):
                self._new_user(rng, self._connection(rng, None), at=rng.uniform(*span) if span else None)
        self._tenant.index.catch_up()

    def import_users(self, rng: random.Random, count: int) -> list[User]:
        """Bulk import into the database connection: one `sui` that names nobody."""
        connection = self._connection(rng, connections.DATABASE)
        made = [self._new_user(rng, connection) for _ in range(count)]
        self._journal.imported(connection.name)
        return made

    def log_in(self, user_id: str, ip: str | None = None) -> User:
        """Log in by any identity's id; for a linked one it is the primary who has logged in."""
        primary_id = self._users.primary_of(user_id) or user_id
        address = ip or self._journal.any_ip()
        user = self._directory.log_in(primary_id, address)
        identity = next((i for i in user.identities if i.full_id == user_id), user.primary)
        if user.blocked is True:
            self._journal.login_refused(user, identity, address)
        else:
            self._journal.logged_in(user, identity, address)
            self._journal.code_exchanged(user, identity, address)
        return user

    def login(self, user_id: str, params: Params, rng: random.Random) -> User:
        """Log in with `ip`, by any of the user's identities."""
        user = self._users.get(user_id)
        linked = user.identities[1:] if user is not None else ()
        if linked and rng.random() < 0.5:
            return self.log_in(rng.choice(linked).full_id, params.get("ip"))
        return self.log_in(user_id, params.get("ip"))

    def change_email(self, user_id: str, params: Params, rng: random.Random) -> User:
        """Change to `email`: the user does (`sce`), or an admin when `via` is `dashboard`."""
        self._count += 1
        old = self._directory.get(user_id)
        email = params.get("email") or names.email_of(rng, "new", "address", self._count)
        if params.get("via") == "dashboard":
            return self._by_admin(user_id, {"email": email})
        user = self._directory.patch(user_id, {"email": email})
        body = {"email": _or_none(old.email), "newEmail": user.email, "user_id": user_id, "email_verified": "false"}
        said = "You can now login to the application with the new email."
        self._journal.profile_act("sce", said, user, {"body": body})
        return user

    def change_name(self, user_id: str, params: Params, rng: random.Random) -> User:
        return self._by_admin(user_id, {"name": params.get("name") or names.full_name(rng)})

    def change_username(self, user_id: str, params: Params, rng: random.Random) -> User:
        old = self._directory.get(user_id)
        username = params.get("username") or f"user{rng.randrange(10**9)}"
        user = self._directory.patch(user_id, {"username": username})
        body = {"newUsername": username, "oldUsername": _or_none(old.username)}
        self._journal.profile_act("scu", "Successful username change", user, {"body": body})
        return user

    def change_phone(self, user_id: str, params: Params, rng: random.Random) -> User:
        number = params.get("phone_number") or f"+4478{rng.randrange(10**8):08d}"
        user = self._directory.patch(user_id, {"phone_number": number})
        body = {"new_phone_number": number}
        self._journal.profile_act("scpn", "Successful phone number change", user, {"body": body})
        return user

    def change_password(self, user_id: str, _params: Params, _rng: random.Random) -> User:
        user = self._directory.change_password(user_id)
        said = "You can now login to the application with the new password."
        self._journal.profile_act("scp", said, user, {})
        return user

    def verify_email(self, user_id: str, _params: Params, _rng: random.Random) -> User:
        user = self._directory.patch(user_id, {"email_verified": True})
        said = "Your email was verified. You can continue using the application."
        self._journal.profile_act("sv", said, user, {"query": {"user_id": user_id}})
        return user

    def block(self, user_id: str, _params: Params, _rng: random.Random) -> User:
        return self._by_admin(user_id, {"blocked": True})

    def unblock(self, user_id: str, _params: Params, _rng: random.Random) -> User:
        return self._by_admin(user_id, {"blocked": False})

    def metadata(self, user_id: str, params: Params, rng: random.Random) -> User:
        """Change `user_metadata` and `app_metadata`, as given or by chance."""
        change = {key: value for key, value in params.items() if key in ("user_metadata", "app_metadata")}
        return self._by_admin(user_id, change or _some_metadata(rng))

    def delete(self, user_id: str, params: Params, rng: random.Random) -> None:
        """Delete by an admin. `log` says what is written: `both` (`sapi` and `sdu`), `sapi`, `sdu` or `none`."""
        user = self._directory.delete(user_id)
        if user is None:
            raise no_such_user()
        self._remember(user)
        written = params.get("log") or rng.choices(("both", "sapi", "sdu"), (70, 15, 15))[0]
        if written in {"both", "sapi"}:
            self._journal.dashboard("DELETE", user_id, None, None, status=204)
        if written in {"both", "sdu"}:
            self._journal.deleted(user)

    def link(self, user_id: str, params: Params, rng: random.Random) -> User:
        """Link `secondary` (a user id) or anybody. Where `link_with` was used, the log may not say whom."""
        other = params.get("secondary") or self._anybody_but(user_id, rng)
        secondary = self._directory.get(other)
        primary = self._directory.link(user_id, other)
        if params.get("link_with", rng.random() < 0.3):
            answer = primary.identities if rng.random() < 0.5 else None
            self._journal.dashboard("POST", user_id, {"link_with": "*****"}, answer, rest="/identities", status=201)
        else:
            body = {"provider": secondary.primary.provider, "user_id": str(secondary.primary.user_id)}
            self._journal.dashboard("POST", user_id, body, primary.identities, rest="/identities", status=201)
        return primary

    def unlink(self, user_id: str, params: Params, rng: random.Random) -> User:
        """Unlink the identity `identity` (`provider|id`), or any linked one."""
        linked = self._directory.get(user_id).identities[1:]
        if not linked:
            raise ApiError(400, "Nothing is linked to this user.")
        identity_id = params.get("identity") or rng.choice(linked).full_id
        primary = self._directory.unlink(user_id, identity_id)
        provider, _, rest = identity_id.partition("|")
        path = f"/identities/{provider}/{quote(rest, safe='')}"
        self._journal.dashboard("DELETE", user_id, None, primary.identities, rest=path)
        return primary

    def failed_login(self, user_id: str, _params: Params, _rng: random.Random) -> None:
        """Fail with a wrong password; a `user_id` nobody has is a failed login of nobody."""
        user = self._users.get(user_id)
        typed = user.email if user is not None and isinstance(user.email, str) else user_id
        self._journal.wrong_password(typed, user, self._journal.any_ip())

    def brute_force(self, user_id: str, _params: Params, _rng: random.Random) -> None:
        """Block for too many wrong passwords, and release: not the `blocked` attribute."""
        user = self._directory.get(user_id)
        self._journal.attack_protection("limit_wc", "Blocked Account", user)
        self._journal.attack_protection("ublkdu", "User login block released", user)

    def scim(self, user_id: str, params: Params, rng: random.Random) -> User:
        """Let the company's directory rename someone."""
        name = params.get("name") or names.full_name(rng)
        user = self._directory.patch(user_id, {"name": name})
        self._journal.scim("update", user, {"displayName": name})
        return user

    def recreate(self, user_id: str, _params: Params, rng: random.Random) -> User:
        """Bring somebody deleted back under the same id: by logging in again, or by an admin."""
        user = self._gone.pop(user_id, None)
        if user is None or self._users.get(user_id) is not None:
            raise no_such_user()
        identity = replace(user.primary, profile_data=UNSET)
        connection = self._connection(rng, identity.connection)
        back = self._directory.add(connection, identity, names.person(rng, connection, self._next_number()))
        if not connection.is_database:
            return self.log_in(back.user_id)
        self._log_admin_create(back)
        return back

    def recreate_any(self, rng: random.Random) -> User:
        if not self._gone:
            raise no_such_user()
        return self.recreate(rng.choice(list(self._gone)), {}, rng)

    def admin_create(self, _user_id: str, params: Params, rng: random.Random) -> User:
        """Make a database user through the dashboard, under `new_user_id` or, now and then, an id of a strange form."""
        connection = self._connection(rng, connections.DATABASE)
        number = self._next_number()
        fields = names.person(rng, connection, number)
        identity = connection.new_identity(rng, str(fields["email"]))
        if params.get("new_user_id") or rng.random() < 0.2:
            identity = replace(identity, user_id=params.get("new_user_id") or names.odd_id(rng, number))
        user = self._directory.add(connection, identity, fields)
        self._log_admin_create(user)
        return user

    def noise(self, user_id: str, _params: Params, _rng: random.Random) -> None:
        """Write a record that changes nothing about the user."""
        self._journal.noise(self._directory.get(user_id))

    def delete_connection(self, name: str) -> int:
        """Delete a connection in the dashboard: all its users go, and the log names none of them."""
        connection = self._tenant.connections.named(name)
        gone = self._directory.delete_connection(connection)
        path = f"/api/v2/connections/{connection.id}"
        self._journal.api_call(ApiRequest("DELETE", "/api/v2/connections/{id}", path), 204, None, None)
        return gone

    def _by_admin(self, user_id: str, change: Params) -> User:
        user = self._directory.patch(user_id, change)
        self._journal.dashboard("PATCH", user_id, change, user)
        return user

    def _log_admin_create(self, user: User) -> None:
        body = {"connection": user.primary.connection, "email": _or_none(user.email), "password": "*****"}
        self._journal.signed_up(user, self._journal.any_ip(), by_admin=True)
        self._journal.api_call(ApiRequest("POST", "/api/v2/users", "/api/v2/users", body), 201, user, None)

    def _new_user(
        self, rng: random.Random, connection: Connection, profile: Params | None = None, at: float | None = None
    ) -> User:
        fields = dict(profile) if profile else names.person(rng, connection, self._next_number())
        identity = connection.new_identity(rng, str(fields.get("email", "")))
        while connection.is_social and self._users.get(identity.full_id) is not None:  # among a million it happens
            identity = connection.new_identity(rng, "")
        return self._directory.add(connection, identity, fields, at)

    def _connection(self, rng: random.Random, name: str | None) -> Connection:
        return self._tenant.connections.named(name) if name else self._tenant.connections.pick(rng)

    def _next_number(self) -> int:
        self._count += 1
        return self._count

    def _remember(self, user: User) -> None:
        self._gone[user.user_id] = user
        if len(self._gone) > _REMEMBERED_GONE:
            del self._gone[next(iter(self._gone))]

    def _anybody_but(self, user_id: str, rng: random.Random) -> str:
        others = [other for other in self._users.sample(rng, 2) if other != user_id]
        if not others:
            raise no_such_user()
        return others[0]


def _some_metadata(rng: random.Random) -> Params:
    """Invent a change of metadata, the dangerous ones included: a null deletes a key, `{}` wipes everything."""
    changes: tuple[Params, ...] = (
        {"user_metadata": {"fav_genre": rng.choice(("rock", "jazz", "fado"))}},
        {"user_metadata": {"fav_genre": None}},
        {"user_metadata": {}},
        {"app_metadata": {"plan": rng.choice(("free", "pro"))}},
        {"app_metadata": {"limits": {"songs": rng.randrange(100)}, "plan": "team"}},
    )
    return rng.choice(changes)


def _or_none(value: Any) -> Any:
    return None if value is UNSET else value
