"""People who log in with a browser: the code flow, its tokens, single sign-on, logging out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import pytest

from tests.simulator.browsing import API, CALLBACK, HOME, Application, Browser, heard
from tests.simulator.running import Simulator

Open = Callable[..., Browser]


@pytest.fixture
def opened(tenant: Simulator) -> Iterator[Open]:
    """Call it for a browser at an application of its own."""
    browsers: list[Browser] = []

    def open_browser(**settings: object) -> Browser:
        browsers.append(Application(tenant, **settings).browser())  # type: ignore[arg-type]
        return browsers[-1]

    yield open_browser
    for browser in browsers:
        browser.close()


@pytest.fixture
def browser(opened: Open) -> Browser:
    return opened()


def email_of(tenant: Simulator, **how: Any) -> tuple[str, str]:
    (user_id,) = tenant.sign_up(connection="Username-Password-Authentication", **how)
    return user_id, tenant.user(user_id)["email"]


def test_a_person_logs_in_and_the_application_gets_both_tokens(tenant: Simulator, browser: Browser) -> None:
    user_id, email = email_of(tenant)
    back = browser.log_in(email)
    assert back.keys() == {"code", "state"}
    assert back["state"] == "a state"

    app = browser.application
    tokens = app.tokens(back["code"])
    assert tokens.keys() == {"access_token", "id_token", "scope", "expires_in", "token_type"}
    access = app.claims(tokens["access_token"], API)
    assert access["sub"] == user_id
    assert access["aud"] == [API, f"{tenant.origin}/userinfo"]
    assert (access["azp"], access["scope"]) == (app.client_id, "openid profile email")
    assert access["exp"] - access["iat"] == tokens["expires_in"]
    identity = app.claims(tokens["id_token"], app.client_id)
    assert (identity["sub"], identity["nonce"], identity["email"]) == (user_id, "a nonce", email)
    assert identity["name"] == tenant.user(user_id)["name"]


@pytest.mark.parametrize("user_name", ["samlp", "google-oauth2", "sms"])
def test_people_of_every_connection_log_in_by_their_id(tenant: Simulator, browser: Browser, user_name: str) -> None:
    connection = {"samlp": "acme-saml"}.get(user_name, user_name)
    (user_id,) = tenant.sign_up(connection=connection)
    tokens = browser.application.tokens(browser.log_in(user_id)["code"])
    assert browser.application.claims(tokens["access_token"], API)["sub"] == user_id


def test_a_login_counts_and_is_logged_as_auth0_logs_it(tenant: Simulator, browser: Browser) -> None:
    user_id, email = email_of(tenant)
    before, app = tenant.user(user_id), browser.application
    logs = tenant.logs_of(lambda: app.tokens(browser.log_in(email)["code"]))
    after = tenant.user(user_id)
    assert after["logins_count"] == before["logins_count"] + 1
    assert after["last_login"] > before["last_login"]
    assert [log["type"] for log in logs] == ["s", "seacft"]
    assert {log["user_id"] for log in logs} == {user_id}
    assert {log["client_id"] for log in logs} == {app.client_id}
    assert logs[0]["details"]["prompts"][0]["name"] == "login"
    assert logs[1]["audience"] == API


def test_who_is_blocked_hears_it_as_auth0_says_it(tenant: Simulator, browser: Browser) -> None:
    user_id, email = email_of(tenant)
    tenant.act(user_id, "block")
    found: list[dict[str, str]] = []
    logs = tenant.logs_of(lambda: found.append(browser.log_in(email)))
    assert found == [{"error": "unauthorized", "error_description": "user is blocked", "state": "a state"}]
    assert [(log["type"], log["description"]) for log in logs] == [("f", "user is blocked")]
    assert "Log in" in browser.authorize().text  # and no session was opened


def test_a_stranger_can_sign_up(tenant: Simulator, browser: Browser) -> None:
    page = browser.submit(browser.authorize(), who="New.Person@example.com")
    assert "Nobody has this address yet." in page.text
    answers: list[dict[str, str]] = []
    submit = lambda: answers.append(heard(browser.submit(page, who="New.Person@example.com", name="Neü", signup="yes")))  # noqa: E731
    assert [log["type"] for log in tenant.logs_of(submit)] == ["ss", "s"]
    claims = browser.application.claims(browser.application.tokens(answers[0]["code"])["access_token"], API)
    profile = tenant.user(claims["sub"])
    assert (profile["email"], profile["name"], profile["logins_count"]) == ("new.person@example.com", "Neü", 1)


def test_several_people_with_one_address_are_asked_who_they_are(tenant: Simulator, browser: Browser) -> None:
    profile = {"email": "twice@example.com"}
    database, social = (
        tenant.sign_up(connection=c, profile=profile)[0] for c in ("Username-Password-Authentication", "google-oauth2")
    )
    page = browser.submit(browser.authorize(), who="twice@example.com")
    assert database in page.text
    assert social in page.text
    tokens = browser.application.tokens(heard(browser.submit(page, user_id=social))["code"])
    assert browser.application.claims(tokens["access_token"], API)["sub"] == social


def test_a_linked_identity_logs_its_primary_in(tenant: Simulator, browser: Browser) -> None:
    primary, secondary = tenant.sign_up(2)
    tenant.act(primary, "link", secondary=secondary)
    tokens = browser.application.tokens(browser.log_in(secondary)["code"])
    assert browser.application.claims(tokens["access_token"], API)["sub"] == primary


def test_the_second_time_nobody_is_asked(tenant: Simulator, browser: Browser) -> None:
    user_id, email = email_of(tenant)
    browser.log_in(email)
    count, app = tenant.user(user_id)["logins_count"], browser.application
    (login,) = tenant.logs_of(lambda: heard(browser.authorize()))
    assert (login["type"], login["connection_id"], login["details"]["prompts"]) == ("s", "", [])
    assert tenant.user(user_id)["logins_count"] == count + 1

    (silent,) = tenant.logs_of(lambda: app.tokens(heard(browser.authorize(prompt="none"))["code"]) and None)[:1]
    assert silent["type"] == "ssa"
    assert tenant.user(user_id)["logins_count"] == count + 1
    assert "Log in" in browser.authorize(prompt="login").text
    assert "code" in heard(browser.authorize(max_age="1000"))
    time.sleep(1.1)
    assert "Log in" in browser.authorize(max_age="0").text


def test_prompt_none_without_a_session_is_refused(browser: Browser) -> None:
    assert heard(browser.authorize(prompt="none"))["error"] == "login_required"


def test_the_session_of_a_blocked_or_deleted_person_opens_nothing(tenant: Simulator, browser: Browser) -> None:
    user_id, email = email_of(tenant)
    browser.log_in(email)
    tenant.act(user_id, "block")
    assert heard(browser.authorize())["error"] == "unauthorized"
    tenant.act(user_id, "delete")
    assert "Log in" in browser.authorize().text


@pytest.mark.parametrize(
    ("change", "error", "description"),
    [
        ({"response_type": None}, "invalid_request", "Missing required parameter: response_type"),
        ({"response_type": "token"}, "unsupported_response_type", "Unsupported response type: token"),
        ({"audience": "https://nowhere/"}, "access_denied", "Service not found: https://nowhere/"),
        ({"code_challenge_method": "plain"}, "invalid_request", "Parameter 'code_challenge_method' must be S256"),
        ({"code_challenge": "short"}, "invalid_request", "Parameter 'code_challenge' must be 43 characters long"),
    ],
)
def test_the_callback_hears_what_is_wrong_with_a_request(
    browser: Browser, change: dict[str, str | None], error: str, description: str
) -> None:
    back = heard(browser.authorize(**change))
    assert back == {"error": error, "error_description": description, "state": "a state"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"client_id": None}, "Missing required parameter: client_id"),
        ({"client_id": "<b>nobody</b>"}, "Unknown client: &lt;b&gt;nobody&lt;/b&gt;"),
        ({"redirect_uri": "https://evil.example/"}, "Callback URL mismatch."),
        ({"redirect_uri": CALLBACK + "/more"}, "Callback URL mismatch."),
    ],
)
def test_nobody_is_sent_where_no_application_waits(browser: Browser, change: dict[str, str | None], said: str) -> None:
    page = browser.authorize(**change)
    assert page.status_code in {400, 403}
    assert said in page.text


def test_a_public_application_must_use_pkce_and_needs_no_secret(tenant: Simulator, opened: Open) -> None:
    browser = opened(is_public=True)
    assert heard(browser.authorize(code_challenge=None))["error"] == "invalid_request"
    code = browser.log_in(email_of(tenant)[1])["code"]
    assert browser.application.exchange(code, client_secret=None).status_code == 200


@pytest.mark.parametrize(
    ("change", "status", "error", "description"),
    [
        ({"code": "guessed"}, 403, "invalid_grant", "Invalid authorization code"),
        ({"code_verifier": "x" * 43}, 403, "invalid_grant", "Failed to verify code verifier"),
        ({"code_verifier": None}, 403, "invalid_grant", "Failed to verify code verifier"),
        ({"redirect_uri": HOME}, 403, "invalid_grant", f"The redirect URI is wrong. You sent {HOME}, and we expected {CALLBACK}"),
        ({"client_secret": "wrong"}, 401, "access_denied", "Unauthorized"),
        ({"grant_type": "password"}, 403, "unauthorized_client", "Grant type 'password' not allowed for the client."),
    ],
)  # fmt: skip
def test_a_bad_exchange_is_refused(
    tenant: Simulator, browser: Browser, change: dict[str, str | None], status: int, error: str, description: str
) -> None:
    code = browser.log_in(email_of(tenant)[1])["code"]
    answer = browser.application.exchange(**{"code": code, **change})  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()) == (status, {"error": error, "error_description": description})


def test_a_code_is_good_once_and_for_its_application_alone(tenant: Simulator, browser: Browser, opened: Open) -> None:
    code = browser.log_in(email_of(tenant)[1])["code"]
    browser.application.tokens(code)
    assert browser.application.exchange(code).status_code == 403
    other, fresh = opened().application, browser.log_in(email_of(tenant)[1], prompt="login")["code"]
    assert other.exchange(fresh, code_verifier=browser.application.verifier).status_code == 403


def test_userinfo_answers_the_profile(tenant: Simulator, browser: Browser) -> None:
    user_id, email = email_of(tenant)
    tokens = browser.application.tokens(browser.log_in(email)["code"])
    for method in ("GET", "POST"):
        bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
        shown = tenant.http.request(method, "/userinfo", headers=bearer).json()
        assert (shown["sub"], shown["email"], shown["email_verified"]) == (user_id, email, False)
    assert tenant.http.get("/userinfo").status_code == 401
    assert tenant.http.get("/userinfo", headers={"Authorization": "Bearer x.y.z"}).status_code == 401


def test_without_an_audience_the_access_token_is_opaque_and_good_for_userinfo(
    tenant: Simulator, browser: Browser
) -> None:
    user_id, email = email_of(tenant)
    token = browser.application.tokens(browser.log_in(email, audience=None)["code"])["access_token"]
    with pytest.raises(jwt.DecodeError):
        jwt.get_unverified_header(token)
    assert tenant.http.get("/userinfo", headers={"Authorization": f"Bearer {token}"}).json()["sub"] == user_id


def test_a_refresh_token_is_for_those_who_asked_and_dies_with_its_person(tenant: Simulator, browser: Browser) -> None:
    user_id, email = email_of(tenant)
    app = browser.application
    tokens = app.tokens(browser.log_in(email, scope="openid offline_access")["code"])
    asked = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"], **app.credentials}
    fresh = tenant.http.post("/oauth/token", data=asked).json()
    assert app.claims(fresh["access_token"], API)["sub"] == user_id
    assert "refresh_token" not in fresh
    tenant.act(user_id, "block")
    blocked = tenant.http.post("/oauth/token", data=asked)
    assert (blocked.status_code, blocked.json()["error_description"]) == (403, "user is blocked")
    tenant.act(user_id, "delete")
    assert tenant.http.post("/oauth/token", data=asked).json()["error"] == "invalid_grant"


def test_scopes_that_the_api_does_not_have_are_dropped(tenant: Simulator, browser: Browser) -> None:
    tenant.control("POST", "apis", {"identifier": "urn:songs", "scopes": ["read:songs"], "token_seconds": 60})
    asked = {"audience": "urn:songs", "scope": "openid read:songs write:songs"}
    tokens = browser.application.tokens(browser.log_in(email_of(tenant)[1], **asked)["code"])
    assert (tokens["scope"], tokens["expires_in"]) == ("openid read:songs", 60)


def test_logging_out_ends_the_session_and_goes_where_it_may(tenant: Simulator, browser: Browser) -> None:
    email = email_of(tenant)[1]
    client_id = browser.application.client_id
    browser.log_in(email)
    stolen = browser.cookies()
    logs = tenant.logs_of(lambda: browser.get("/v2/logout", client_id=client_id, returnTo=HOME))
    assert [log["type"] for log in logs] == ["slo"]
    assert browser.cookies() == {}
    assert (
        "login_required"
        in tenant.http.get(
            "/authorize",
            params=browser.application.parameters(prompt="none"),
            headers={"Cookie": f"auth0={stolen['auth0']}"},
        ).headers["location"]
    )
    assert heard(browser.authorize(prompt="none"))["error"] == "login_required"

    assert browser.get("/v2/logout", client_id=client_id, returnTo=HOME).headers["location"] == HOME
    assert browser.get("/v2/logout", client_id=client_id).headers["location"] == HOME
    assert browser.get("/v2/logout").status_code == 200
    refused = browser.get("/v2/logout", client_id=client_id, returnTo="https://evil.example/")
    assert (refused.status_code, "Allowed Logout URLs" in refused.text) == (400, True)
    assert browser.get("/v2/logout", returnTo=HOME).status_code == 400


def test_openid_connects_own_logout_works_too(tenant: Simulator, browser: Browser) -> None:
    tokens = browser.application.tokens(browser.log_in(email_of(tenant)[1])["code"])
    asked = {"id_token_hint": tokens["id_token"], "post_logout_redirect_uri": HOME, "state": "x"}
    assert browser.get("/oidc/logout", **asked).headers["location"] == f"{HOME}?state=x"
    assert "Log in" in browser.authorize().text


def test_discovery_names_endpoints_that_answer(tenant: Simulator, opened: Open) -> None:
    for plain in (False, True):
        browser = opened(plain=plain)
        found = browser.get("/.well-known/openid-configuration").json()
        assert found["issuer"] == browser.application.issuer
        assert found["code_challenge_methods_supported"] == ["S256"]
        for name in ("authorization_endpoint", "userinfo_endpoint", "jwks_uri", "end_session_endpoint"):
            assert tenant.http.get(found[name]).status_code != 404
        assert tenant.http.post(found["token_endpoint"]).status_code == 401


def test_over_plain_http_the_tokens_carry_its_own_issuer_and_the_cookie_needs_no_tls(
    tenant: Simulator, opened: Open
) -> None:
    browser = opened(plain=True)
    app = browser.application
    user_id, email = email_of(tenant)
    tokens = app.tokens(browser.log_in(email)["code"])
    access = app.claims(tokens["access_token"], API)
    assert (access["iss"], access["sub"]) == (tenant.ready["browser_issuer"], user_id)
    assert app.claims(tokens["id_token"], app.client_id)["iss"] == tenant.ready["browser_issuer"]
    bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
    assert tenant.http.get(f"{app.issuer}userinfo", headers=bearer).json()["email"] == email
    assert "code" in heard(browser.authorize(prompt="none"))


def test_the_management_api_is_not_on_the_browsers_port(tenant: Simulator) -> None:
    bearer = {"Authorization": f"Bearer {tenant.default_token}"}
    assert tenant.http.get(f"{tenant.ready['browser_issuer']}api/v2/users", headers=bearer).status_code == 404


def test_the_login_page_needs_no_script_and_quotes_what_was_typed(browser: Browser) -> None:
    page = browser.authorize(login_hint='"><script>alert(1)</script>')
    assert "<script" not in page.text
    assert '<label for="who">' in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    wrong = browser.submit(page, who="nonsense")
    assert (wrong.status_code, 'role="alert"' in wrong.text) == (400, True)


def test_a_form_that_nobody_asked_for_says_so(browser: Browser) -> None:
    assert browser.get("/u/login", state="guessed").status_code == 400
    assert browser.submit(browser.get("/u/login"), who="a@example.com").status_code == 400
