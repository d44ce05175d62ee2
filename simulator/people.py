"""People who use the tenant: they sign up, log in, change things, get blocked, linked and deleted."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from msgspec import UNSET

from simulator import connections, names
from simulator.connections import CONNECTIONS, Connection
from simulator.errors import ApiError, no_such_user
from simulator.tenant import Tenant
from simulator.users import Identity, User

Params = dict[str, Any]


class People:
    """Acts of people on one tenant. Each act changes state and writes what Auth0 would log of it."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._users = tenant.users
        self._directory = tenant.directory
        self._journal = tenant.journal
        self._count = 0
        self._gone: list[User] = []
        self.acts: dict[str, Callable[[str, Params, random.Random], Any]] = {
            "login": lambda user_id, params, rng: self.log_in(user_id, params.get("ip")),
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
        }

    def sign_up(self, rng: random.Random, connection_name: str | None = None, *, log_in: bool = True) -> User:
        """A new person. Social and enterprise users have no `ss`: their first login makes them."""
        connection = CONNECTIONS[connection_name] if connection_name else connections.pick(rng)
        fields = self._new_person(rng, connection)
        user = self._directory.add(connection, connection.new_identity(rng, str(fields.get("email", ""))), fields)
        if connection.strategy_type in {"database", "passwordless"}:
            self._journal.signed_up(user, self._journal.any_ip())
        return self.log_in(user.user_id) if log_in else user

    def load(self, rng: random.Random, count: int) -> None:
        """Users who were there before: no logs, no logins, in the search index at once."""
        for _ in range(count):
            connection = connections.pick(rng)
            fields = self._new_person(rng, connection)
            self._directory.add(connection, connection.new_identity(rng, str(fields.get("email", ""))), fields)
        self._tenant.index.catch_up()

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
        return user

    def change_email(self, user_id: str, params: Params, rng: random.Random) -> User:
        """By the user (`sce`), or by an admin when `via` is `dashboard`."""
        self._count += 1
        old = self._directory.get(user_id)
        email = params.get("email") or names.email_of(rng, "new", "address", self._count)
        user = self._directory.patch(user_id, {"email": email})
        if params.get("via") == "dashboard":
            self._journal.dashboard("PATCH", "/api/v2/users/{id}", user_id, "", {"email": email}, user)
        else:
            body = {"email": old.email if old.email is not UNSET else None, "newEmail": user.email, "user_id": user_id, "email_verified": "false"}  # fmt: skip
            self._journal.profile_act(
                "sce", "You can now login to the application with the new email.", user, {"body": body}
            )
        return user

    def change_name(self, user_id: str, params: Params, rng: random.Random) -> User:
        return self._by_admin(user_id, {"name": params.get("name") or names.full_name(rng)})

    def change_username(self, user_id: str, params: Params, rng: random.Random) -> User:
        old = self._directory.get(user_id)
        username = params.get("username") or f"user{rng.randrange(10**9)}"
        user = self._directory.patch(user_id, {"username": username})
        body = {"newUsername": username, "oldUsername": old.username if old.username is not UNSET else None}
        self._journal.profile_act("scu", "Successful username change", user, {"body": body})
        return user

    def change_phone(self, user_id: str, params: Params, rng: random.Random) -> User:
        number = params.get("phone_number") or f"+4478{rng.randrange(10**8):08d}"
        user = self._directory.patch(user_id, {"phone_number": number})
        self._journal.profile_act(
            "scpn", "Successful phone number change", user, {"body": {"new_phone_number": number}}
        )
        return user

    def change_password(self, user_id: str, params: Params, rng: random.Random) -> User:  # noqa: ARG002 one signature for all acts
        user = self._directory.change_password(user_id)
        self._journal.profile_act("scp", "You can now login to the application with the new password.", user, {})
        return user

    def verify_email(self, user_id: str, params: Params, rng: random.Random) -> User:  # noqa: ARG002
        user = self._directory.patch(user_id, {"email_verified": True})
        self._journal.profile_act("sv", "Your email was verified. You can continue using the application.", user, {"query": {"user_id": user_id}})  # fmt: skip
        return user

    def block(self, user_id: str, params: Params, rng: random.Random) -> User:  # noqa: ARG002
        return self._by_admin(user_id, {"blocked": True})

    def unblock(self, user_id: str, params: Params, rng: random.Random) -> User:  # noqa: ARG002
        return self._by_admin(user_id, {"blocked": False})

    def metadata(self, user_id: str, params: Params, rng: random.Random) -> User:
        """Change `user_metadata` and `app_metadata`, as given or by chance."""
        change = {key: params[key] for key in ("user_metadata", "app_metadata") if key in params}
        return self._by_admin(user_id, change or _some_metadata(rng))

    def delete(self, user_id: str, params: Params, rng: random.Random) -> None:
        """By an admin: `sapi` and `sdu`. With `log` false nothing is logged, with `sdu` only that record."""
        user = self._directory.delete(user_id)
        if user is None:
            raise no_such_user()
        self._gone = [*self._gone[-99:], user]
        how = params.get("log") or ("both" if rng.random() < 0.7 else "sapi" if rng.random() < 0.5 else "sdu")
        if how in {"both", "sapi"}:
            self._journal.dashboard("DELETE", "/api/v2/users/{id}", user_id, "", None, None)
        if how in {"both", "sdu"}:
            self._journal.deleted(user)

    def link(self, user_id: str, params: Params, rng: random.Random) -> User:
        """With `secondary` (a user id), or with anybody."""
        other = params.get("secondary") or self._anybody_but(user_id, rng)
        secondary = self._directory.get(other)
        body = {"provider": secondary.primary.provider, "user_id": str(secondary.primary.user_id)}
        primary = self._directory.link(user_id, other)
        shown = {"link_with": "*****"} if params.get("link_with") or rng.random() < 0.3 else body
        answer = primary.identities
        self._journal.dashboard("POST", "/api/v2/users/{id}/identities", user_id, "/identities", shown, answer)
        return primary

    def unlink(self, user_id: str, params: Params, rng: random.Random) -> User:
        """The identity `identity` (`provider|id`), or any linked one."""
        linked = self._directory.get(user_id).identities[1:]
        if not linked:
            raise ApiError(400, "Nothing is linked to this user.")
        identity_id = params.get("identity") or rng.choice(linked).full_id
        primary = self._directory.unlink(user_id, identity_id)
        provider, _, rest = identity_id.partition("|")
        template = "/api/v2/users/{id}/identities/{provider}/{uid}"
        self._journal.dashboard("DELETE", template, user_id, f"/identities/{provider}/{rest}", None, primary.identities)
        return primary

    def failed_login(self, user_id: str, params: Params, rng: random.Random) -> None:  # noqa: ARG002
        user = self._users.get(user_id)
        typed = user.email if user is not None and isinstance(user.email, str) else user_id
        self._journal.wrong_password(typed, user, self._journal.any_ip())

    def brute_force(self, user_id: str, params: Params, rng: random.Random) -> None:  # noqa: ARG002
        """Blocked for too many wrong passwords, and released: not the `blocked` attribute."""
        user = self._directory.get(user_id)
        self._journal.attack_protection("limit_wc", "Blocked Account", user)
        self._journal.attack_protection("ublkdu", "User login block released", user)

    def scim(self, user_id: str, params: Params, rng: random.Random) -> User:
        """The company's directory renames someone."""
        name = params.get("name") or names.full_name(rng)
        user = self._directory.patch(user_id, {"name": name})
        self._journal.scim("update", user, {"displayName": name})
        return user

    def recreate(self, user_id: str, params: Params, rng: random.Random) -> User:  # noqa: ARG002
        """Somebody deleted comes back under the same id: by logging in again, or as an admin's import."""
        user = next((gone for gone in self._gone if gone.user_id == user_id), None)
        if user is None:
            raise no_such_user()
        self._gone.remove(user)
        return self._come_back(user, rng)

    def recreate_any(self, rng: random.Random) -> User:
        if not self._gone:
            raise no_such_user()
        return self._come_back(self._gone.pop(rng.randrange(len(self._gone))), rng)

    def _come_back(self, user: User, rng: random.Random) -> User:
        identity = Identity(
            user_id=user.primary.user_id,
            provider=user.primary.provider,
            connection=user.primary.connection,
            is_social=user.primary.is_social,
        )
        connection = connections.of_identity(identity)
        fields = self._new_person(rng, connection)
        back = self._directory.add(connection, identity, fields)
        if not connection.is_database:
            return self.log_in(back.user_id)
        body = {"connection": connection.name, "email": fields.get("email"), "user_id": identity.user_id}
        self._journal.api_call("POST", "/api/v2/users", "/api/v2/users", body, 201, back, None, None)
        self._journal.signed_up(back, self._journal.any_ip(), by_admin=True)
        return back

    def _by_admin(self, user_id: str, change: Params) -> User:
        user = self._directory.patch(user_id, change)
        self._journal.dashboard("PATCH", "/api/v2/users/{id}", user_id, "", change, user)
        return user

    def _new_person(self, rng: random.Random, connection: Connection) -> Params:
        self._count += 1
        return names.person(rng, connection, self._count)

    def _anybody_but(self, user_id: str, rng: random.Random) -> str:
        others = [other for other in self._users.sample(rng, 2) if other != user_id]
        if not others:
            raise no_such_user()
        return others[0]


def _some_metadata(rng: random.Random) -> Params:
    """A change of metadata, the dangerous ones included: a null deletes a key, `{}` wipes everything."""
    return rng.choice(
        (
            {"user_metadata": {"fav_genre": rng.choice(("rock", "jazz", "fado"))}},
            {"user_metadata": {"fav_genre": None}},
            {"user_metadata": {}},
            {"app_metadata": {"plan": rng.choice(("free", "pro"))}},
            {"app_metadata": {"limits": {"songs": rng.randrange(100)}, "plan": "team"}},
        )
    )
