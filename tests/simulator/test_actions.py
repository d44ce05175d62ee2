"""Actions: made, built, deployed, bound, and run at a login."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from auth0.management.types import ActionTrigger

from tests.simulator.browsing import API, Application, Browser
from tests.simulator.running import Simulator, eventually

BINDINGS = "actions/triggers/post-login/bindings"
NEEDS_NODE = pytest.mark.skipif(shutil.which("node") is None, reason="Actions run in node, and there is none")
HELLO = (
    "exports.onExecutePostLogin = async (event, api) => { api.accessToken.setCustomClaim('hello', event.user.email); };"
)

pytestmark = NEEDS_NODE


@pytest.fixture(autouse=True)
def _clean(tenant: Simulator) -> Iterator[None]:
    yield
    tenant.api("PATCH", BINDINGS, json={"bindings": []})
    for action in tenant.api("GET", "actions/actions").json()["actions"]:
        assert tenant.api("DELETE", f"actions/actions/{action['id']}").status_code == 204


@pytest.fixture
def person(tenant: Simulator) -> str:
    return tenant.sign_up(connection="Username-Password-Authentication")[0]


@pytest.fixture
def browser(tenant: Simulator) -> Iterator[Browser]:
    browser = Application(tenant).browser()
    yield browser
    browser.close()


def create(tenant: Simulator, code: str, name: str = "An action", **settings: Any) -> dict[str, Any]:
    body = {"name": name, "supported_triggers": [{"id": "post-login", "version": "v3"}], "code": code, **settings}
    answer = tenant.api("POST", "actions/actions", json=body)
    assert answer.status_code == 201, answer.text
    action: dict[str, Any] = answer.json()
    return action


def is_built(tenant: Simulator, action: dict[str, Any]) -> bool:
    return bool(tenant.api("GET", f"actions/actions/{action['id']}").json()["status"] == "built")


def deploy(tenant: Simulator, code: str, name: str = "An action", **settings: Any) -> dict[str, Any]:
    """Create, wait for the build, deploy."""
    action = create(tenant, code, name, **settings)
    eventually(lambda: is_built(tenant, action))
    assert tenant.api("POST", f"actions/actions/{action['id']}/deploy").status_code == 202
    return action


def bind(tenant: Simulator, *actions: dict[str, Any]) -> list[dict[str, Any]]:
    wanted = [{"ref": {"type": "action_id", "value": action["id"]}} for action in actions]
    answer = tenant.api("PATCH", BINDINGS, json={"bindings": wanted})
    assert answer.status_code == 200, answer.text
    bound: list[dict[str, Any]] = answer.json()["bindings"]
    return bound


def claims_after_login(browser: Browser, person: str, **asked: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Claims of the access token and of the ID token."""
    app = browser.application
    tokens = app.tokens(browser.log_in(person, **asked)["code"])
    return app.claims(tokens["access_token"], API), app.claims(tokens["id_token"], app.client_id)


def test_a_bound_and_deployed_action_writes_into_the_tokens(tenant: Simulator, browser: Browser, person: str) -> None:
    code = """
        exports.onExecutePostLogin = async (event, api) => {
          const roles = event.user.app_metadata.roles || [];
          api.accessToken.setCustomClaim('https://music.example/roles', roles);
          api.idToken.setCustomClaim('https://music.example/client', event.client.name);
          api.idToken.setCustomClaim('secret', event.secrets.WORD);
        };
    """
    tenant.act(person, "metadata", app_metadata={"roles": ["playlist_editor"]})
    bind(tenant, deploy(tenant, code, secrets=[{"name": "WORD", "value": "sesame"}]))
    access, identity = claims_after_login(browser, person)
    assert access["https://music.example/roles"] == ["playlist_editor"]
    assert (identity["https://music.example/client"], identity["secret"]) == ("Test app", "sesame")
    bearer = {
        "Authorization": f"Bearer {browser.application.tokens(browser.log_in(person, prompt='login')['code'])['access_token']}"
    }
    assert tenant.http.get("/userinfo", headers=bearer).json()["secret"] == "sesame"


def test_deployed_but_not_bound_does_nothing_and_bound_runs_what_was_deployed_last(
    tenant: Simulator, browser: Browser, person: str
) -> None:
    action = deploy(tenant, HELLO)
    assert "hello" not in claims_after_login(browser, person)[0]
    bind(tenant, action)
    assert claims_after_login(browser, person, prompt="login")[0]["hello"] == tenant.user(person)["email"]

    path = f"actions/actions/{action['id']}"
    changed = tenant.api("PATCH", path, json={"code": HELLO.replace("event.user.email", "'changed'")}).json()
    assert changed["all_changes_deployed"] is False
    assert claims_after_login(browser, person, prompt="login")[0]["hello"] == tenant.user(person)["email"]
    eventually(lambda: is_built(tenant, action))
    assert tenant.api("POST", f"{path}/deploy").json()["number"] == 2
    assert tenant.api("GET", path).json()["all_changes_deployed"] is True
    assert claims_after_login(browser, person, prompt="login")[0]["hello"] == "changed"


def test_it_is_asked_again_by_single_sign_on_and_by_a_refresh_token(
    tenant: Simulator, browser: Browser, person: str
) -> None:
    bind(tenant, deploy(tenant, HELLO.replace("event.user.email", "event.stats.logins_count")))
    app = browser.application
    tokens = app.tokens(browser.log_in(person, scope="openid offline_access")["code"])
    first = app.claims(tokens["access_token"], API)["hello"]
    tenant.control("POST", "people/login", {"user_ids": [person]})
    asked = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"], **app.credentials}
    assert app.claims(tenant.http.post("/oauth/token", data=asked).json()["access_token"], API)["hello"] == first + 1


def test_access_denied_reaches_the_callback_and_the_log(tenant: Simulator, browser: Browser, person: str) -> None:
    denying = deploy(tenant, "exports.onExecutePostLogin = async (event, api) => api.access.deny('Not on Mondays');")
    bind(tenant, denying, deploy(tenant, HELLO, "Another"))
    heard: list[dict[str, str]] = []
    (log,) = tenant.logs_of(lambda: heard.append(browser.log_in(person)))
    assert heard == [{"error": "access_denied", "error_description": "Not on Mondays", "state": "a state"}]
    assert (log["type"], log["description"]) == ("f", "Not on Mondays")
    assert tenant.control("GET", "actions")["executions"][-1]["actions"] == ["An action"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("event.user.nothing.at_all;", "Cannot read properties of undefined"),
        ("api.multifactor.enable('any');", "api.multifactor is not simulated"),
        ("require('axios');", "Cannot find module 'axios'"),
        ("api.accessToken.setCustomClaim('big', 'x'.repeat(103000));", "maximum of 100KB"),
    ],
)
def test_an_action_that_fails_fails_the_login_and_says_why(
    tenant: Simulator, browser: Browser, person: str, body: str, said: str
) -> None:
    bind(tenant, deploy(tenant, f"exports.onExecutePostLogin = async (event, api) => {{ {body} }};"))
    back = browser.log_in(person)
    assert back["error"] == "access_denied"
    assert said in back["error_description"]


def test_reserved_claims_are_dropped_without_a_word(tenant: Simulator, browser: Browser, person: str) -> None:
    names = ["roles", "groups", "permissions", "sub", "https://auth0.com/x", "https://x.webtask.io/y", "mine"]
    code = f"for (const name of {names}) {{ api.accessToken.setCustomClaim(name, 'forged'); api.idToken.setCustomClaim(name, 'forged'); }}"
    bind(tenant, deploy(tenant, f"exports.onExecutePostLogin = async (event, api) => {{ {code} }};"))
    for claims in claims_after_login(browser, person):
        assert [name for name, value in claims.items() if value == "forged"] == ["mine"]


def test_several_run_in_their_order_and_the_last_word_counts(tenant: Simulator, browser: Browser, person: str) -> None:
    first = deploy(tenant, HELLO.replace("event.user.email", "'first'"), "First")
    second = deploy(tenant, HELLO.replace("event.user.email", "'second'"), "Second")
    bind(tenant, first, second)
    assert claims_after_login(browser, person)[0]["hello"] == "second"
    bound = bind(tenant, second, first)
    assert claims_after_login(browser, person, prompt="login")[0]["hello"] == "first"
    assert bind(tenant, second, first)[0]["id"] == bound[0]["id"]


def test_metadata_is_written_once_at_the_end(tenant: Simulator, browser: Browser, person: str) -> None:
    code = "api.user.setAppMetadata('seen', { by: 'us' }); api.user.setUserMetadata('fav_genre', undefined); console.log('done', event.secrets);"
    tenant.act(person, "metadata", user_metadata={}, app_metadata={})
    tenant.act(person, "metadata", user_metadata={"fav_genre": "jazz", "kept": 1}, app_metadata={"plan": "pro"})
    bind(tenant, deploy(tenant, f"exports.onExecutePostLogin = async (event, api) => {{ {code} }};"))
    browser.log_in(person)
    profile = tenant.user(person)
    assert profile["app_metadata"] == {"plan": "pro", "seen": {"by": "us"}}
    assert profile["user_metadata"] == {"kept": 1}
    assert tenant.control("GET", "actions")["executions"][-1]["console"] == ["An action: done {}"]


def test_a_draft_is_deployed_when_it_is_built_and_not_before(tenant: Simulator) -> None:
    broken = create(tenant, "exports.onExecutePostLogin = async (event, api) => {", "Broken")
    path = f"actions/actions/{broken['id']}"
    assert broken["status"] == "pending"
    too_soon = tenant.api("POST", f"{path}/deploy")
    assert too_soon.status_code == 400
    assert too_soon.json()["message"].startswith("A draft must be in the 'built' state before it can be deployed.")
    eventually(lambda: tenant.api("GET", path).json()["status"] == "failed")
    assert "SyntaxError" in tenant.api("POST", f"{path}/deploy").json()["message"]


def test_what_is_bound_must_exist_and_be_deployed_and_goes_only_by_force(tenant: Simulator) -> None:
    draft, wrong = create(tenant, HELLO), {"type": "action_id", "value": "nobody"}
    for ref in (wrong, {"type": "action_id", "value": draft["id"]}):
        refused = tenant.api("PATCH", BINDINGS, json={"bindings": [{"ref": ref}]})
        assert (refused.status_code, "does not exist at this trigger" in refused.json()["message"]) == (400, True)
    action = deploy(tenant, HELLO, "Deployed")
    (binding,) = bind(tenant, action)
    assert (binding["trigger_id"], binding["display_name"], binding["action"]["id"]) == (
        "post-login",
        "Deployed",
        action["id"],
    )
    shown = tenant.api("GET", BINDINGS).json()
    assert (shown["total"], shown["bindings"]) == (1, [binding])

    path = f"actions/actions/{action['id']}"
    assert tenant.api("DELETE", path).status_code == 409
    assert tenant.api("DELETE", path, params={"force": "true"}).status_code == 204
    assert tenant.api("GET", BINDINGS).json()["bindings"] == []
    assert tenant.api("GET", path).status_code == 404


def test_a_secret_is_never_shown_and_stays_when_it_is_sent_without_its_value(
    tenant: Simulator, browser: Browser, person: str
) -> None:
    code = HELLO.replace("event.user.email", "event.secrets")
    logs = tenant.logs_of(
        lambda: create(tenant, code, secrets=[{"name": "A", "value": "top-secret"}, {"name": "B", "value": "b"}])
    )
    (action,) = tenant.api("GET", "actions/actions").json()["actions"]
    assert [secret["name"] for secret in action["secrets"]] == ["A", "B"]
    assert "top-secret" not in f"{action} {logs}"
    tenant.api("PATCH", f"actions/actions/{action['id']}", json={"secrets": [{"name": "A"}]})
    eventually(lambda: is_built(tenant, action))
    tenant.api("POST", f"actions/actions/{action['id']}/deploy")
    bind(tenant, action)
    assert claims_after_login(browser, person)[0]["hello"] == {"A": "top-secret"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"code": "x" * 100_001}, "too long"),
        ({"surprise": 1}, "surprise"),
        ({"supported_triggers": [{"id": "pre-breakfast"}]}, "No enum match"),
        ({"supported_triggers": []}, "one trigger"),
        ({"secrets": [{"value": "nameless"}]}, "name"),
        ({"secrets": [{"name": "A", "value": "x" * 4097}]}, "4096"),
        ({"name": ""}, "name"),
    ],
)
def test_what_auth0_refuses_is_refused(tenant: Simulator, change: dict[str, Any], said: str) -> None:
    body = {"name": "Odd", "supported_triggers": [{"id": "post-login"}], "code": HELLO, **change}
    answer = tenant.api("POST", "actions/actions", json=body)
    assert (answer.status_code, said in answer.json()["message"]) == (400, True)


def test_names_are_unique_and_every_scope_is_asked_for(tenant: Simulator) -> None:
    action = create(tenant, HELLO)
    body = {"name": action["name"], "supported_triggers": [{"id": "post-login"}], "code": HELLO}
    assert tenant.api("POST", "actions/actions", json=body).status_code == 409
    stranger = tenant.token("read:users")
    for method, path, scope in (
        ("GET", "actions/actions", "read:actions"),
        ("POST", "actions/actions", "create:actions"),
        ("PATCH", f"actions/actions/{action['id']}", "update:actions"),
        ("DELETE", f"actions/actions/{action['id']}", "delete:actions"),
        ("POST", f"actions/actions/{action['id']}/deploy", "update:actions"),
        ("GET", BINDINGS, "read:actions"),
        ("PATCH", BINDINGS, "update:actions"),
    ):
        refused = tenant.api(method, path, stranger, json={})
        assert (refused.status_code, scope in refused.json()["message"]) == (403, True)


def test_auth0s_own_client_does_all_of_it(tenant: Simulator) -> None:
    actions = tenant.management().actions
    trigger = ActionTrigger(id="post-login", version="v3")
    made = actions.create(name="By the client", supported_triggers=[trigger], code=HELLO)
    assert made.id is not None
    eventually(lambda: actions.get(made.id or "").status == "built")
    assert actions.deploy(made.id).number == 1
    bound = actions.triggers.bindings.update_many(
        "post-login", bindings=[{"ref": {"type": "action_name", "value": "By the client"}}]
    )
    assert bound.bindings is not None
    assert [one.display_name for one in actions.triggers.bindings.list("post-login")] == ["By the client"]
    assert [one.name for one in actions.list(deployed=True)] == ["By the client"]
    actions.delete(made.id, force=True)


def test_without_node_deploying_says_so(start: Callable[..., Simulator], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    alone = start("--plan", "none")
    assert alone.control("GET", "actions")["node"] is None
    action = create(alone, HELLO)
    eventually(lambda: alone.api("GET", f"actions/actions/{action['id']}").json()["status"] == "failed")
    assert "no node" in alone.api("POST", f"actions/actions/{action['id']}/deploy").json()["message"]


def test_an_application_changes_its_callbacks(tenant: Simulator) -> None:
    app = Application(tenant)
    path, moved = f"clients/{app.client_id}", ["http://127.0.0.1:9000/callback"]
    shown = tenant.api("PATCH", path, json={"callbacks": moved}).json()
    assert (shown["callbacks"], "client_secret" in shown) == (moved, False)
    assert tenant.api("GET", path).json() == shown
    assert shown in tenant.api("GET", "clients", params={"per_page": 100}).json()
    assert tenant.api("PATCH", path, json={"callbacks": ["nonsense"]}).status_code == 400
    assert tenant.api("GET", "clients/nobody").status_code == 404
