"""What `understudy doctor` says of streams that are there and bring nothing: as Auth0 sees them, and as they arrive here."""

from __future__ import annotations

from typing import Any

import pytest

from local.children import Children
from tests.api.web import NEXT_TOKEN, TOKEN, environment, running
from tests.simulator.running import Simulator
from tests.worker.commands.doctoring import NEEDED, STREAMS, Doctor

EVENT_TOKEN = "the-event-stream's-own-token"
WRONG = "a-token-that-nobody-takes"
READING = STREAMS[:-1]
"""All but what a test event takes."""


def connect(tenant: Simulator, url: str, token: str) -> None:
    """Have the tenant send to this web process, with this token."""
    sink = {"httpEndpoint": f"{url}/webhooks/auth0/logs", "httpContentFormat": "JSONLINES", "httpAuthorization": token}
    bearer = {"method": "bearer", "token": token}
    configuration = {"webhook_endpoint": f"{url}/webhooks/auth0/events", "webhook_authorization": bearer}
    streams: dict[str, Any] = {
        "log-streams": {"name": "logs", "type": "http", "sink": sink},
        "event-streams": {
            "name": "events",
            "subscriptions": [{"event_type": "user.created"}],
            "destination": {"type": "webhook", "configuration": configuration},
        },
    }
    for path, body in streams.items():
        assert tenant.api("POST", path, json=body).is_success


@pytest.mark.timeout(600)
def test_each_fault_of_a_stream_has_its_line_and_its_remedy(
    doctor: Doctor, free_tenant: Simulator, children: Children, database_url: str, redis_url: str
) -> None:
    tenant = free_tenant
    tenant.control("PUT", "limits", {"plan": "none"})
    tenant.control("PUT", "event-streams/pace", {"scale": 0.01})
    here = {"LOG_STREAM_TOKENS": f"{TOKEN},{NEXT_TOKEN}", "EVENT_STREAM_TOKENS": EVENT_TOKEN}
    environ = environment(database_url, redis_url, AUTH0_DOMAIN=tenant.ready["domain"], **here)
    with running(children, environ) as web:
        here["PUBLIC_URL"] = web.url
        connect(tenant, web.url, WRONG)

        code, findings = doctor(scopes=(*NEEDED, *STREAMS), **here)
        assert code == 1
        assert findings["webhooks"] == ("fine", f"take deliveries at {web.url}")
        assert findings["log stream"][0] == findings["event stream"][0] == "fine"
        for check, setting in (("log delivery", "LOG_STREAM_TOKENS"), ("test event", "EVENT_STREAM_TOKENS")):
            assert findings[check][0] == "wrong"
            assert f"its token is none of {setting}" in findings[check][1]
            assert "understudy setup --send-tokens" in findings[check][1]

        tenant.control("PUT", "faults", [{"where": where, "kind": "drop"} for where in ("stream", "event")])
        code, findings = doctor(scopes=(*NEEDED, *STREAMS), **here)
        assert code == 1
        assert findings["failed events"] == ("wrong", "1: redeliver them in Auth0's dashboard, or set HEAL_STREAMS")
        assert findings["test event"][0] == "wrong"
        assert "is PUBLIC_URL open to Auth0's addresses, does a worker run?" in findings["test event"][1]
        assert findings["log delivery"][0] == "note"
        assert "is PUBLIC_URL open to Auth0's addresses?" in findings["log delivery"][1]

        tenant.control("POST", "streams/pause", {"status": "suspended"})
        tenant.control("POST", "event-streams/disable")
        code, findings = doctor(scopes=(*NEEDED, *STREAMS), **here)
        assert code == 1
        for kind, status in (("log", "suspended"), ("event", "disabled")):
            said = f"Auth0 has {status} it: see why in its health, then start it, or set HEAL_STREAMS"
            assert findings[f"{kind} stream"] == ("wrong", said)
        assert not {"log delivery", "test event", "failed events"} & findings.keys()

        tenant.control("POST", "event-streams/enable")
        _, findings = doctor(scopes=(*NEEDED, *READING), **{**here, "LOG_STREAM_TOKENS": ""})
        assert findings["test event"][0] == "note"
        assert "update:event_streams" in findings["test event"][1]

        code, findings = doctor(**{**here, "LOG_STREAM_TOKENS": WRONG})
        assert code == 1
        assert findings["webhooks"][0] == "wrong"
        said = "refuses the first of LOG_STREAM_TOKENS: deploy the web process with the same setting, then try again"
        assert findings["webhooks"][1].endswith(said)
