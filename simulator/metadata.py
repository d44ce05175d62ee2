"""What a profile may hold: types and sizes of attributes, and how metadata merges."""

from typing import Any

import msgspec

from simulator.errors import ApiError, invalid_body
from simulator.users import Metadata, User

MAX_PROFILE_BYTES = 10 * 1024
"""Auth0's cap on a whole profile (deprecations page, 2026-08-04)."""

FORBIDDEN_IN_APP_METADATA = frozenset(
    [
        "__tenant",
        "_id",
        "blocked",
        "clientID",
        "created_at",
        "email_verified",
        "email",
        "globalClientID",
        "global_client_id",
        "identities",
        "lastIP",
        "lastLogin",
        "loginsCount",
        "metadata",
        "multifactor_last_modified",
        "multifactor",
        "updated_at",
        "user_id",
    ]
)

_TEXT_LENGTHS = {
    "email": 254, "username": 128, "phone_number": 30, "name": 300, "given_name": 150, "family_name": 150,
    "nickname": 300, "picture": 2048, "password": 1024, "connection": 256, "client_id": 256, "user_id": 255, "locale": 35,
}  # fmt: skip
_FLAGS = frozenset(
    {"blocked", "email_verified", "phone_verified", "verify_email", "verify_phone_number", "verify_password"}
)
_OBJECTS = frozenset({"user_metadata", "app_metadata"})
_UNSETTABLE = (
    frozenset({"name", "given_name", "family_name", "nickname", "picture", "phone_number", "username", "blocked"})
    | _OBJECTS
)
_TYPE_NAMES = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
    type(None): "null",
}


def check(body: Any, allowed: frozenset[str]) -> Metadata:
    """Answer a request's body, if it is one that Auth0 takes. ApiError 400 otherwise."""
    if not isinstance(body, dict):
        raise invalid_body(f"Expected type object but found type {_TYPE_NAMES.get(type(body), 'undefined')}")
    if not body:
        raise invalid_body("Too few properties defined (0), minimum 1")
    unknown = sorted(set(body) - allowed)
    if unknown:
        raise invalid_body(
            f"Additional properties not allowed: {','.join(unknown)} (consider storing them in app_metadata or user_metadata)"
        )
    for key, value in body.items():
        _check_value(key, value)
    _check_metadata(body)
    return body


def _check_value(key: str, value: Any) -> None:
    if value is None and key in _UNSETTABLE:
        return
    expected = "boolean" if key in _FLAGS else "object" if key in _OBJECTS else "string"
    found = _TYPE_NAMES.get(type(value), "unknown")
    if found != expected:
        raise invalid_body(f"Expected type {expected} but found type {found} on property {key}")
    longest = _TEXT_LENGTHS.get(key)
    if isinstance(value, str) and longest is not None and len(value) > longest:
        raise invalid_body(f"String is too long ({len(value)} chars), maximum {longest} on property {key}")
    if key == "email" and "@" not in str(value)[1:-1]:
        raise invalid_body("Object didn't pass validation for format email on property email")


def _check_metadata(body: Metadata) -> None:
    for key in _OBJECTS & body.keys():
        wrong = sorted(name for name in body[key] or () if "." in name or name.startswith("$"))
        if key == "app_metadata":
            wrong += sorted(FORBIDDEN_IN_APP_METADATA.intersection(body[key] or ()))
        if wrong:
            raise invalid_body(f"Invalid property names in {key}: {','.join(wrong)}")


def merged(held: Metadata | msgspec.UnsetType, sent: Metadata | None) -> Metadata | msgspec.UnsetType:
    """Metadata after a PATCH: merged at the first level alone; a null deletes its key; `{}` wipes everything."""
    if sent is None:
        return msgspec.UNSET
    kept = held if isinstance(held, dict) and sent else {}
    return {key: value for key, value in {**kept, **sent}.items() if value is not None}


def check_size(user: User) -> None:
    """ApiError 400 when the profile has outgrown Auth0's cap."""
    size = len(msgspec.json.encode(user))
    if size > MAX_PROFILE_BYTES:
        raise ApiError(
            400, f"User profile size {size} exceeds the maximum of {MAX_PROFILE_BYTES} bytes.", "invalid_body"
        )
