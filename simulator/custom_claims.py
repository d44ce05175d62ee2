"""Which custom claims of an Action reach a token (Create Custom Claims, Auth0 docs): the rest is dropped without a word."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import msgspec

MAX_BYTES = 100 * 1024
"""All custom claims of one login together; more than that fails it."""

RESERVED = frozenset((
    "acr", "act", "active", "amr", "at_hash", "ath", "attest", "aud", "auth_time", "authorization_details", "azp",
    "c_hash", "client_id", "cnf", "cty", "dest", "entitlements", "events", "exp", "groups", "gty", "htm", "htu",
    "iat", "internalService", "iss", "jcard", "jku", "jti", "jwe", "jwk", "kid", "may_act", "mky", "nbf", "nonce",
    "object_id", "org_id", "org_name", "orig", "origid", "permissions", "roles", "rph", "s_hash", "scope", "sid",
    "sip_callid", "sip_cseq_num", "sip_date", "sip_from_tag", "sip_via_branch", "sub", "sub_jwk", "toe", "txn", "typ",
    "uuid", "vot", "vtm", "x5t#S256",
))  # fmt: skip
_AUTH0S_OWN_HOSTS = ("auth0.com", "webtask.io", "webtask.run")


def kept(claims: dict[str, Any], *, for_auth0_api: bool = False) -> dict[str, Any]:
    """Answer the claims that a token may carry; one for an API of Auth0's own takes namespaced ones alone."""
    return {name: value for name, value in claims.items() if _may(name, for_auth0_api=for_auth0_api)}


def size(*claims: dict[str, Any]) -> int:
    return sum(len(msgspec.json.encode(part)) for part in claims)


def _may(name: str, *, for_auth0_api: bool) -> bool:
    if name.startswith(("http://", "https://")):
        host = urlsplit(name).hostname or ""
        return not any(host == own or host.endswith(f".{own}") for own in _AUTH0S_OWN_HOSTS)
    return not for_auth0_api and name not in RESERVED and not name.startswith("urn:auth0")
