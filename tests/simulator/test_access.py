"""Tokens, scopes and how the Management API refuses."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime

import jwt
import pytest
from auth0.management.core.api_error import ApiError
from auth0.management.token_provider import TokenProvider

from tests.simulator.running import Simulator, eventually

NOBODY = "users/auth0%7Cnobody"


def test_a_token_is_signed_by_a_published_key_and_names_its_scopes(tenant: Simulator) -> None:
    token = tenant.token("read:users", "read:logs")
    keys = jwt.PyJWKSet.from_dict(tenant.http.get("/.well-known/jwks.json").json())
    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(
        token, key.key, algorithms=["RS256"], audience=f"{tenant.origin}/api/v2/", issuer=f"{tenant.origin}/"
    )
    assert claims["scope"] == "read:users read:logs"
    assert claims["sub"] == f"{claims['azp']}@clients"
    assert claims["exp"] - claims["iat"] == 86_400


def test_a_form_and_basic_credentials_fetch_a_token_too(tenant: Simulator) -> None:
    form = {"grant_type": "client_credentials", "audience": f"{tenant.origin}/api/v2/"}
    client = (tenant.ready["client_id"], tenant.ready["client_secret"])
    assert tenant.http.post("/oauth/token", data=form, auth=client).status_code == 200
    credentials = {"client_id": client[0], "client_secret": client[1]}
    assert tenant.http.post("/oauth/token", data={**form, **credentials}).status_code == 200


@pytest.mark.parametrize(
    ("change", "status", "error"),
    [
        ({"client_secret": "wrong"}, 401, {"error": "access_denied", "error_description": "Unauthorized"}),
        ({"client_id": "nobody"}, 401, {"error": "access_denied", "error_description": "Unauthorized"}),
        ({"audience": "https://other/"}, 403, {"error": "access_denied", "error_description": "Service not found: https://other/"}),
    ],
)  # fmt: skip
def test_a_token_is_refused_as_auth0_refuses_it(
    tenant: Simulator, change: dict[str, str], status: int, error: dict[str, str]
) -> None:
    answer = tenant.ask_for_token(**change)
    assert (answer.status_code, answer.json()) == (status, error)


def test_a_machine_has_tokens_for_an_api_too(tenant: Simulator) -> None:
    token = tenant.ask_for_token(audience="https://api.music.example/").json()["access_token"]
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["aud"], claims["gty"]) == ("https://api.music.example/", "client-credentials")
    assert claims["sub"] == f"{tenant.ready['client_id']}@clients"
    assert tenant.api("GET", NOBODY, token).status_code == 401


def test_a_missing_scope_is_named(tenant: Simulator) -> None:
    answer = tenant.api("GET", NOBODY, tenant.token("read:logs"))
    assert answer.status_code == 403
    assert answer.json() == {
        "statusCode": 403,
        "error": "Forbidden",
        "message": "Insufficient scope, expected any of: read:users",
        "errorCode": "insufficient_scope",
    }


def test_app_metadata_alone_can_be_written_with_its_own_scope(tenant: Simulator) -> None:
    (user_id,) = tenant.sign_up()
    token, path = tenant.token("update:users_app_metadata"), f"users/{user_id.replace('|', '%7C')}"
    assert tenant.api("PATCH", path, token, json={"app_metadata": {"plan": "pro"}}).status_code == 200
    assert tenant.api("PATCH", path, token, json={"name": "X"}).status_code == 403


@pytest.mark.parametrize(
    ("authorization", "status", "message"),
    [
        (None, 401, "Missing authentication"),
        ("Bearer nonsense", 401, "Invalid token"),
        ("Basic abc", 400, "Bad HTTP authentication header format"),
    ],
)
def test_a_call_without_a_good_token_is_refused(
    tenant: Simulator, authorization: str | None, status: int, message: str
) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    answer = tenant.http.get(f"/api/v2/{NOBODY}", headers=headers)
    assert (answer.status_code, answer.json()["message"]) == (status, message)


def test_a_token_of_another_tenant_is_refused(tenant: Simulator) -> None:
    header, payload, _ = tenant.default_token.split(".")
    other = jwt.encode({"scope": "read:users"}, "k" * 32, algorithm="HS256").split(".")[2]
    answer = tenant.api("GET", NOBODY, f"{header}.{payload}.{other}")
    assert (answer.status_code, answer.json()["error"]) == (401, "Unauthorized")


def test_a_token_expires(tenant: Simulator) -> None:
    token = tenant.token("read:users", seconds=1)
    answer = eventually(lambda: (a := tenant.api("GET", NOBODY, token)).status_code == 401 and a)
    assert answer.json()["message"] == "Expired token received for JSON Web Token validation"


def test_the_date_header_is_right(tenant: Simulator) -> None:
    date = parsedate_to_datetime(tenant.api("GET", NOBODY).headers["date"])
    assert abs(date.timestamp() - time.time()) < 3


def test_auth0s_own_client_fetches_its_token_here(tenant: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", tenant.ready["ca_file"])  # its token fetch has an HTTP client of its own
    provider = TokenProvider(
        domain=tenant.ready["domain"], client_id=tenant.ready["client_id"], client_secret=tenant.ready["client_secret"]
    )
    assert provider.get_token().count(".") == 2


def test_auth0s_own_client_reads_the_error(tenant: Simulator) -> None:
    with pytest.raises(ApiError) as caught:
        tenant.management().users.get("auth0|nobody", request_options={"max_retries": 0})
    assert caught.value.status_code == 404
    assert caught.value.body["errorCode"] == "inexistent_user"
