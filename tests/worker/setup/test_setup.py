"""`understudy setup`: a tenant connected from nothing, mended, and left as it was; a real web process answers the probe."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local.children import Children
from local.servers import Redis
from tests.api.web import Web, environment, running
from tests.simulator.running import Simulator, eventually

pytestmark = pytest.mark.timeout(180)

SCOPES = (
    *(
        f"{verb}:{what}"
        for what in ("log_streams", "event_streams", "actions")
        for verb in ("read", "create", "update", "delete")
    ),
)
LOG_TOKEN, EVENT_TOKEN = "log-stream-token-1", "event-stream-token-1"
UNDERSTUDY = Path(sysconfig.get_path("scripts")) / "understudy"

Setup = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def web(children: Children, module_database_url: str, redis_server: Redis) -> Iterator[Web]:
    tokens = {"LOG_STREAM_TOKENS": LOG_TOKEN, "EVENT_STREAM_TOKENS": EVENT_TOKEN}
    with running(children, environment(module_database_url, redis_server.url, **tokens)) as web:
        yield web


@pytest.fixture(scope="module")
def tenant() -> Iterator[Simulator]:
    tenant = Simulator()
    yield tenant
    tenant.stop()


@pytest.fixture
def setup(web: Web, tenant: Simulator) -> Iterator[Setup]:
    """Run `understudy setup`; keywords change its environment. What it made is removed in the end."""

    def run(*options: str, scopes: tuple[str, ...] = SCOPES, **changes: str) -> subprocess.CompletedProcess[str]:
        client = tenant.control("POST", "clients", {"scopes": scopes})
        env = {
            **web.environ,
            "AUTH0_DOMAIN": tenant.ready["domain"],
            "AUTH0_CA_FILE": tenant.ready["ca_file"],
            "AUTH0_SETUP_CLIENT_ID": client["client_id"],
            "AUTH0_SETUP_CLIENT_SECRET": client["client_secret"],
            "PUBLIC_URL": web.url,
            "PATH": os.environ["PATH"],
            **changes,
        }
        ran = subprocess.run(
            [UNDERSTUDY, "setup", *options], env=env, capture_output=True, text=True, timeout=120, check=False
        )
        assert "Traceback" not in ran.stderr
        for secret in (client["client_secret"], LOG_TOKEN, EVENT_TOKEN):
            assert secret not in ran.stdout + ran.stderr
        return ran

    yield run
    run("--remove")


def held(tenant: Simulator) -> dict[str, Any]:
    """Return what the tenant holds of what setup cares for."""
    return {
        "log streams": [(one["name"], one["status"], one["sink"]) for one in tenant.api("GET", "log-streams").json()],
        "event streams": [
            (one["name"], one["status"], one["destination"]["configuration"]["webhook_endpoint"])
            for one in tenant.api("GET", "event-streams").json()["eventStreams"]
        ],
        "actions": [one["name"] for one in tenant.api("GET", "actions/actions").json()["actions"]],
        "bound": [
            one["display_name"] for one in tenant.api("GET", "actions/triggers/post-login/bindings").json()["bindings"]
        ],
    }


def test_a_tenant_is_connected_from_nothing_and_a_second_run_changes_nothing(
    setup: Setup, tenant: Simulator, web: Web
) -> None:
    first = setup()
    assert first.returncode == 0, first.stderr
    now = held(tenant)
    [(name, status, sink)] = now["log streams"]
    assert (name, status, sink["httpEndpoint"]) == ("Understudy", "active", f"{web.url}/webhooks/auth0/logs")
    assert sink["httpAuthorization"] == LOG_TOKEN
    assert now["event streams"] == [("Understudy", "enabled", f"{web.url}/webhooks/auth0/events")]
    assert now["bound"] == now["actions"] == ["Understudy: roles and display name"]
    second = setup()
    assert second.returncode == 0
    assert second.stdout.splitlines()[-1] == "nothing to change"
    assert held(tenant) == now


def test_what_people_do_then_arrives(setup: Setup, tenant: Simulator, web: Web) -> None:
    assert setup().returncode == 0
    web.empty()
    tenant.sign_up()
    tenant.drain()
    assert {row.source for row in web.rows()} == {"logs", "events"}
    assert web.counter("unauthorized_logs") == web.counter("unauthorized_events") == 0


def test_a_dry_run_prints_what_it_would_change_and_changes_nothing(setup: Setup, tenant: Simulator) -> None:
    before = held(tenant)
    reading = tuple(scope for scope in SCOPES if scope.startswith("read:"))
    told = setup("--dry-run", scopes=reading)
    assert told.returncode == 0, told.stderr
    assert all(line.startswith("would ") for line in told.stdout.splitlines())
    assert len(told.stdout.splitlines()) == 3
    assert held(tenant) == before


def test_every_missing_scope_is_named_before_anything_is_made(setup: Setup, tenant: Simulator) -> None:
    before = held(tenant)
    told = setup(scopes=("read:log_streams", "read:actions"))
    assert told.returncode == 2
    for scope in set(SCOPES) - {"read:log_streams", "read:actions"}:
        assert scope in told.stderr
    assert held(tenant) == before


def test_a_token_that_the_web_process_does_not_know_connects_nothing(setup: Setup, tenant: Simulator) -> None:
    told = setup(LOG_STREAM_TOKENS="another-token")
    assert told.returncode == 2
    assert "refuses the first of LOG_STREAM_TOKENS" in told.stderr
    assert held(tenant)["log streams"] == []


def test_a_url_at_which_nobody_answers_connects_nothing(setup: Setup, tenant: Simulator) -> None:
    told = setup(PUBLIC_URL="http://127.0.0.1:9")
    assert told.returncode == 2
    assert "does not answer" in told.stderr
    assert held(tenant)["log streams"] == []


def test_wrong_credentials_are_named(setup: Setup) -> None:
    told = setup(AUTH0_SETUP_CLIENT_SECRET="wrong")
    assert told.returncode == 2
    assert "AUTH0_SETUP_CLIENT_SECRET" in told.stderr
    assert "AUTH0_SETUP_CLIENT_ID is not set" in setup(AUTH0_SETUP_CLIENT_ID="").stderr


def test_what_others_have_there_stays_in_its_order(setup: Setup, tenant: Simulator) -> None:
    others = {"name": "Understudy", "type": "http", "sink": {"httpEndpoint": "https://elsewhere.example/hook"}}
    stream = tenant.api("POST", "log-streams", json=others).json()
    actions = [
        tenant.api(
            "POST",
            "actions/actions",
            json={
                "name": name,
                "supported_triggers": [{"id": "post-login", "version": "v3"}],
                "code": "exports.onExecutePostLogin = async () => {};",
            },
        ).json()["id"]
        for name in ("first", "last")
    ]
    assert setup().returncode == 0
    for action in actions:
        _eventually_deployed(tenant, action)
    bindings = [
        {"ref": {"type": "action_name", "value": name}, "display_name": name}
        for name in ("first", "Understudy: roles and display name", "last")
    ]
    assert tenant.api("PATCH", "actions/triggers/post-login/bindings", json={"bindings": bindings}).status_code == 200
    assert setup().stdout.splitlines()[-1] == "nothing to change"
    assert setup("--remove").returncode == 0
    now = held(tenant)
    assert now["bound"] == ["first", "last"]
    assert sorted(now["actions"]) == ["first", "last"]
    assert [sink["httpEndpoint"] for _, _, sink in now["log streams"]] == ["https://elsewhere.example/hook"]
    tenant.api("DELETE", f"log-streams/{stream['id']}")
    tenant.api("PATCH", "actions/triggers/post-login/bindings", json={"bindings": []})
    for action in actions:
        tenant.api("DELETE", f"actions/actions/{action}")


def test_what_somebody_changed_is_mended(setup: Setup, tenant: Simulator) -> None:
    assert setup().returncode == 0
    before = held(tenant)
    stream = tenant.api("GET", "log-streams").json()[0]["id"]
    tenant.api("PATCH", f"log-streams/{stream}", json={"status": "paused", "filters": []})
    event_stream = tenant.api("GET", "event-streams").json()["eventStreams"][0]["id"]
    tenant.api("PATCH", f"event-streams/{event_stream}", json={"status": "disabled"})
    tenant.api("PATCH", "actions/triggers/post-login/bindings", json={"bindings": []})
    told = setup()
    assert told.returncode == 0, told.stderr
    assert len(told.stdout.splitlines()) == 4
    assert held(tenant) == before


def test_removing_twice_is_removing_once(setup: Setup, tenant: Simulator) -> None:
    before = held(tenant)
    assert setup().returncode == 0
    assert setup("--remove").returncode == 0
    assert held(tenant) == before
    assert setup("--remove").stdout.splitlines()[-1] == "nothing to change"


def _eventually_deployed(tenant: Simulator, action: str) -> None:
    eventually(lambda: tenant.api("GET", f"actions/actions/{action}").json()["status"] == "built")
    assert tenant.api("POST", f"actions/actions/{action}/deploy").status_code in (200, 202)
