"""What the tokens of a person say: access tokens and ID tokens, with Auth0's claims."""

from __future__ import annotations

from typing import Any

import msgspec

from simulator.users import User

ID_TOKEN_SECONDS = 36_000
"""Ten hours, as a new application has it."""

_PROFILE = ("name", "given_name", "family_name", "nickname", "picture", "locale", "updated_at")
_BY_SCOPE = {
    "profile": _PROFILE,
    "email": ("email", "email_verified"),
    "phone": ("phone_number", "phone_verified"),
}


def access_claims(
    issuer: str, userinfo: str, user_id: str, audience: str, client_id: str, scope: str, lifetime: tuple[int, int]
) -> dict[str, Any]:
    """Claims of an access token; `userinfo` joins the audience when `openid` was granted. `lifetime` is `(iat, exp)`."""
    return {
        "iss": issuer,
        "sub": user_id,
        "aud": [audience, userinfo] if "openid" in scope.split() else audience,
        "iat": lifetime[0],
        "exp": lifetime[1],
        "scope": scope,
        "azp": client_id,
    }


def profile_claims(user: User, scope: str) -> dict[str, Any]:
    """Answer `sub`, and of the profile what the granted scopes show."""
    shown = [name for granted in scope.split() for name in _BY_SCOPE.get(granted, ())]
    held = {name: value for name in shown if (value := getattr(user, name)) is not msgspec.UNSET}
    if "phone_verified" in held:
        held["phone_number_verified"] = held.pop("phone_verified")
    return {"sub": user.user_id, **held}


def id_claims(
    issuer: str, user: User, client_id: str, scope: str, lifetime: tuple[int, int], extra: dict[str, Any]
) -> dict[str, Any]:
    """Claims of an ID token; `extra` are those of the flow: `nonce`, `sid`, `auth_time`."""
    own = {"iss": issuer, "aud": client_id, "iat": lifetime[0], "exp": lifetime[1]}
    return {**profile_claims(user, scope), **own, **extra}
