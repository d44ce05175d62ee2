"""What Auth0 does to users: create, patch, delete, link, unlink and log in, by its own rules.

It changes state and refuses with `ApiError`; who asked, and what is logged of it, is the caller's business.
"""

from __future__ import annotations

import hashlib
import random
from typing import Any

from msgspec import UNSET
from msgspec.structs import replace

from simulator import connections, metadata
from simulator.clock import Clock, iso
from simulator.connections import Connection, Connections
from simulator.errors import ApiError, invalid_body, no_such_user
from simulator.users import Identity, Metadata, User, Users

PATCHABLE = frozenset(
    [
        "app_metadata",
        "blocked",
        "email",
        "email_verified",
        "family_name",
        "given_name",
        "name",
        "nickname",
        "password",
        "phone_number",
        "phone_verified",
        "picture",
        "username",
        "user_metadata",
        "verify_email",
        "verify_phone_number",
        "verify_password",
        "connection",
        "client_id",
    ]
)
CREATABLE = (PATCHABLE | {"user_id"}) - {"client_id", "verify_password", "verify_phone_number"}
_INSTRUCTIONS = frozenset(
    {"password", "connection", "client_id", "verify_email", "verify_phone_number", "verify_password"}
)
_OF_ONE_IDENTITY = frozenset({"email", "email_verified", "phone_number", "phone_verified", "username"})


class Directory:
    """The tenant's users and the only ways to change them."""

    def __init__(self, users: Users, open_connections: Connections, clock: Clock, rng: random.Random) -> None:
        self.users = users
        self.connections = open_connections
        self._clock = clock
        self._rng = rng

    def get(self, user_id: str) -> User:
        """ApiError 404 when there is none; a linked identity is no user either."""
        user = self.users.get(user_id)
        if user is None:
            raise no_such_user()
        return user

    def create(self, body: Any) -> User:
        """`POST /api/v2/users`."""
        sent = metadata.check(body, CREATABLE)
        if "connection" not in sent:
            raise invalid_body("Missing required property: connection")
        connection = self.connections.named(sent["connection"])
        if connection.is_database and not sent.get("password"):
            raise invalid_body("Missing required property: password")
        identity = self._identity_for(connection, sent)
        fields = {
            key: value for key, value in sent.items() if key not in _INSTRUCTIONS | {"user_id"} and value is not None
        }
        return self.add(connection, identity, fields)

    def add(self, connection: Connection, identity: Identity, fields: Metadata, at: float | None = None) -> User:
        """Make a new user of a connection, now or `at` a time (UNIX seconds). ApiError 409 when it exists."""
        user_id = identity.full_id
        self.connections.named(connection.name)
        if self.users.get(user_id) is not None or self.users.primary_of(user_id) is not None:
            raise ApiError(409, "The user already exists.", "auth0_idp_error")
        if connection.is_database and isinstance(fields.get("email"), str):
            fields["email"] = fields["email"].lower()
            self._check_email_is_free(fields["email"], connection, user_id)
        now = iso(self._clock() if at is None else at)
        user = User(
            user_id=user_id,
            created_at=now,
            updated_at=now,
            identities=(identity,),
            **_with_defaults(connection, fields),
        )
        metadata.check_size(user)
        return self.users.put(user)

    def patch(self, user_id: str, body: Any) -> User:
        """`PATCH /api/v2/users/{id}`: new values replace, metadata merges at its first level, null unsets."""
        user = self.get(user_id)
        sent = metadata.check(body, PATCHABLE)
        _refuse_mixed_changes(sent)
        secondary = self._secondary_named(user, sent)
        if secondary is not None:
            return self._patch_secondary(user, secondary, sent)
        changes: dict[str, Any] = {
            key: UNSET if value is None else value for key, value in sent.items() if key not in _INSTRUCTIONS
        }
        connection = connections.of_identity(user.primary)
        if "email" in changes:
            self._prepare_email(user, connection, changes)
        elif "email_verified" in changes and connection.strategy in {"samlp", "sms"}:
            raise ApiError(
                400, f"Cannot update email_verified for {connection.strategy} users", "operation_not_supported"
            )
        for key in ("user_metadata", "app_metadata"):
            if key in sent:
                changes[key] = metadata.merged(getattr(user, key), sent[key])
        if "password" in sent:
            changes |= self._password_changes(user)
        return self._replace(user, changes, limited=True)

    def change_password(self, user_id: str) -> User:
        user = self.get(user_id)
        return self._replace(user, self._password_changes(user))

    def delete(self, user_id: str) -> User | None:
        """Take a user and its linked identities away. None when there was none: Auth0 answers 204 all the same."""
        return self.users.remove(user_id) if self.users.get(user_id) is not None else None

    def link(self, primary_id: str, secondary_id: str) -> User:
        """Turn the secondary from a user into an identity of the primary; its metadata is lost."""
        primary, secondary = self.get(primary_id), self.users.get(secondary_id)
        if primary_id == secondary_id:
            raise ApiError(400, "Main account and specified identity are the same.", "identity_conflict")
        if secondary is None:
            if self.users.primary_of(secondary_id) is not None:
                raise ApiError(409, "Specified identity already exists.", "identity_conflict")
            raise no_such_user()
        self.users.remove(secondary_id)
        first = replace(secondary.primary, profile_data=_profile_data(secondary))
        return self._replace(primary, {"identities": (*primary.identities, first, *secondary.identities[1:])})

    def unlink(self, primary_id: str, identity_id: str) -> User:
        """Make the identity a user of its own again, under its old id, without metadata. Answers the primary."""
        primary = self.get(primary_id)
        identity = next((i for i in primary.identities[1:] if i.full_id == identity_id), None)
        if identity is None:
            raise ApiError(400, "The identity is not linked to this user.", "inexistent_identity")
        left = tuple(i for i in primary.identities if i is not identity)
        primary = self._replace(primary, {"identities": left})
        now = iso(self._clock())
        profile = identity.profile_data if isinstance(identity.profile_data, dict) else {}
        known = {key: value for key, value in profile.items() if key in User.__struct_fields__}
        alone = replace(identity, profile_data=UNSET)
        self.users.put(User(user_id=identity_id, created_at=now, updated_at=now, identities=(alone,), **known))
        return primary

    def log_in(self, user_id: str, ip: str) -> User:
        """Count a login. A blocked user's attempt counts as well (User Profile Structure, Auth0 docs)."""
        user = self.get(user_id)
        now = iso(self._clock())
        count = user.logins_count if isinstance(user.logins_count, int) else 0
        return self.users.put(replace(user, last_login=now, last_ip=ip, logins_count=count + 1, updated_at=now))

    def delete_connection(self, connection: Connection) -> int:
        """Take a connection away with all users whose first identity is of it; answers how many those were."""
        gone = [user.user_id for user in self.users if user.primary.connection == connection.name]
        for user_id in gone:
            self.users.remove(user_id)
        self.connections.remove(connection)
        return len(gone)

    def _replace(self, user: User, changes: dict[str, Any], *, limited: bool = False) -> User:
        changed = replace(user, **changes, updated_at=iso(self._clock()))
        if limited:
            metadata.check_size(changed)
        return self.users.put(changed)

    def _identity_for(self, connection: Connection, sent: Metadata) -> Identity:
        email = str(sent.get("email", ""))
        if not isinstance(sent.get("user_id"), str):
            return connection.new_identity(self._rng, email.lower())
        return Identity(
            user_id=sent["user_id"],
            provider=connection.strategy,
            connection=connection.name,
            is_social=connection.is_social,
        )

    def _check_email_is_free(self, email: str, connection: Connection, user_id: str) -> None:
        for other in self.users.with_email(email):
            if other.user_id != user_id and other.primary.connection == connection.name:
                raise ApiError(409, "The user already exists.", "auth0_idp_error")

    def _prepare_email(self, user: User, connection: Connection, changes: dict[str, Any]) -> None:
        if not connection.is_database:
            raise ApiError(400, f"Cannot change email of {connection.strategy} users.", "operation_not_supported")
        changes["email"] = changes["email"].lower()
        try:
            self._check_email_is_free(changes["email"], connection, user.user_id)
        except ApiError:
            raise ApiError(400, "The specified new email already exists", "auth0_idp_error") from None
        changes.setdefault("email_verified", False)

    def _password_changes(self, user: User) -> dict[str, Any]:
        """Lift an admin's block too, as a new password does (Block and Unblock Users, Auth0 docs)."""
        unblocked = {"blocked": False} if user.blocked is True else {}
        return {"last_password_reset": iso(self._clock()), **unblocked}

    def _secondary_named(self, user: User, sent: Metadata) -> Identity | None:
        """Find the linked identity that `connection` in a PATCH points at."""
        named = sent.get("connection")
        if named is None or named == user.primary.connection:
            return None
        found = next((i for i in user.identities[1:] if i.connection == named), None)
        if found is None:
            raise ApiError(400, "The user does not belong to the specified connection.", "invalid_body")
        return found

    def _patch_secondary(self, user: User, identity: Identity, sent: Metadata) -> User:
        held = identity.profile_data if isinstance(identity.profile_data, dict) else {}
        changed = replace(identity, profile_data={**held, **{k: v for k, v in sent.items() if k in _OF_ONE_IDENTITY}})
        return self._replace(user, {"identities": tuple(changed if i is identity else i for i in user.identities)})


def _with_defaults(connection: Connection, fields: Metadata) -> Metadata:
    """Add what Auth0 fills in by itself when a user is made."""
    filled = dict(fields)
    email = filled.get("email")
    if isinstance(email, str):
        filled.setdefault("email_verified", False)
        filled.setdefault("name", email)
        filled.setdefault("nickname", email.split("@")[0])
    elif isinstance(filled.get("phone_number"), str):
        filled.setdefault("phone_verified", connection.strategy == "sms")
        filled.setdefault("name", filled["phone_number"])
    label = str(email or filled.get("name") or "user")
    digest = hashlib.md5(label.encode(), usedforsecurity=False).hexdigest()
    filled.setdefault("picture", f"https://s.gravatar.com/avatar/{digest}?s=480&r=pg&d=https%3A%2F%2Fcdn.auth0.com%2Favatars%2F{label[:2].lower()}.png")  # fmt: skip
    return filled


def _profile_data(user: User) -> Metadata:
    shown = ("email", "email_verified", "name", "given_name", "family_name", "nickname", "picture", "username", "phone_number", "phone_verified", "locale")  # fmt: skip
    return {key: value for key in shown if (value := getattr(user, key)) is not UNSET}


def _refuse_mixed_changes(sent: Metadata) -> None:
    """One credential at a time (Update a User, Management API reference)."""
    for pair in (
        ("email", "password"),
        ("email", "username"),
        ("email_verified", "password"),
        ("password", "username"),
    ):
        if all(key in sent for key in pair):
            raise ApiError(400, f"Cannot update {pair[0]} and {pair[1]} simultaneously", "operation_not_supported")
