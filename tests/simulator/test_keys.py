"""Signing keys, their rotation, and tokens that need no browser."""

from __future__ import annotations

from typing import Any

import jwt
import pytest

from tests.simulator.running import Simulator

API = "https://api.music.example/"
PERSON = "samlp|acme-saml|ada@example.com"


def keys_of(tenant: Simulator) -> jwt.PyJWKSet:
    return jwt.PyJWKSet.from_dict(tenant.http.get("/.well-known/jwks.json").json())


def verified(tenant: Simulator, token: str, audience: str = API) -> dict[str, Any]:
    """The claims, checked as an API would check them."""
    key = keys_of(tenant)[jwt.get_unverified_header(token)["kid"]]
    claims: dict[str, Any] = jwt.decode(
        token, key.key, algorithms=["RS256"], audience=audience, issuer=f"{tenant.origin}/"
    )
    return claims


def token_for(tenant: Simulator, user_id: str = PERSON, **how: Any) -> str:
    answer = tenant.control("POST", "tokens", {"user_id": user_id, "audience": API, **how})
    return str(answer["access_token"])


def test_a_person_without_a_browser_has_auth0s_claims(tenant: Simulator) -> None:
    claims = verified(tenant, token_for(tenant))
    assert claims["sub"] == PERSON
    assert claims["aud"] == [API, f"{tenant.origin}/userinfo"]
    assert (claims["scope"], claims["exp"] - claims["iat"]) == ("openid profile email", 86_400)
    assert "gty" not in claims


def test_without_openid_the_audience_is_a_text(tenant: Simulator) -> None:
    assert verified(tenant, token_for(tenant, scope="read:songs"))["aud"] == API


def test_lifetime_claims_and_headers_can_be_otherwise(tenant: Simulator) -> None:
    with pytest.raises(jwt.ExpiredSignatureError):
        verified(tenant, token_for(tenant, seconds=-1))
    odd = token_for(tenant, claims={"nbf": 7, "azp": None}, headers={"kid": "other", "typ": "at+jwt"})
    claims = jwt.decode(odd, options={"verify_signature": False})
    assert claims["nbf"] == 7
    assert "azp" not in claims
    assert jwt.get_unverified_header(odd) == {"alg": "RS256", "kid": "other", "typ": "at+jwt"}


def test_many_people_have_their_tokens_in_one_call(tenant: Simulator) -> None:
    people = tenant.sign_up(3)
    asked = {"user_ids": people, "audience": API}
    tokens = tenant.control("POST", "tokens", asked)["access_tokens"]
    assert [verified(tenant, token)["sub"] for token in tokens] == people


def test_an_id_token_is_for_the_client_and_shows_the_profile(tenant: Simulator) -> None:
    (user_id,) = tenant.sign_up(connection="acme-saml")
    token = token_for(tenant, user_id, kind="id", client_id="an app")
    claims = verified(tenant, token, "an app")
    assert (claims["sub"], claims["email"]) == (user_id, tenant.user(user_id)["email"])


def test_a_token_is_no_login(tenant: Simulator) -> None:
    (user_id,) = tenant.sign_up()
    before = tenant.user(user_id)
    assert tenant.logs_of(lambda: token_for(tenant, user_id)) == []
    assert tenant.user(user_id) == before


def test_a_rotated_key_was_published_before_and_the_old_one_verifies_until_it_is_revoked(tenant: Simulator) -> None:
    before, old = tenant.control("GET", "keys"), token_for(tenant)
    published = {key.key_id for key in keys_of(tenant).keys}
    assert {before["current"], before["next"]} <= published

    after = tenant.control("POST", "keys/rotate")
    assert (after["current"], after["previous"][0]) == (before["next"], before["current"])
    assert jwt.get_unverified_header(token_for(tenant))["kid"] == before["next"]
    assert verified(tenant, old)["sub"] == PERSON

    assert tenant.control("POST", "keys/revoke")["revoked"] == after["previous"]
    with pytest.raises(KeyError):
        verified(tenant, old)
    assert tenant.refused("POST", "keys/revoke", {"kid": after["current"]})


def test_the_management_api_refuses_a_token_of_a_revoked_key(tenant: Simulator) -> None:
    token = tenant.token("read:users")
    assert tenant.api("GET", "users", token).status_code == 200
    tenant.control("POST", "keys/rotate")
    assert tenant.api("GET", "users", token).status_code == 200
    tenant.control("POST", "keys/revoke")
    assert tenant.api("GET", "users", token).status_code == 401
    del tenant._default_token


def test_a_token_can_be_signed_by_the_next_key(tenant: Simulator) -> None:
    kid = tenant.control("GET", "keys")["next"]
    token = token_for(tenant, kid=kid)
    assert jwt.get_unverified_header(token)["kid"] == kid
    assert verified(tenant, token)["sub"] == PERSON


def test_a_fetch_of_the_keys_can_fail_and_is_counted(tenant: Simulator) -> None:
    tenant.control("PUT", "faults", [{"where": "jwks", "kind": "status", "status": 503, "times": 1}])
    before = tenant.control("GET", "stats")["jwks_fetches"]
    assert tenant.http.get("/.well-known/jwks.json").status_code == 503
    assert len(keys_of(tenant).keys) >= 2
    assert tenant.control("GET", "stats")["jwks_fetches"] == before + 2
