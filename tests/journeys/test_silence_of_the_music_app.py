"""As tests/journeys/test_silence.py, for event streams, the music API, the page, pushes, pulls and commands; and at LOG_LEVEL=debug."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import httpx
import psutil
import redis

from local.product import MUSIC_API
from local.servers import EmbeddedPostgres
from tests.journeys.conftest import OnStage
from tests.journeys.markers import (
    EMAIL,
    GUESS,
    IP,
    METADATA,
    NAME,
    NICKNAME,
    ODD_ID,
    SECRET,
    SILENCE,
    USER_ID,
    assert_silent,
    broken_statements,
    plant,
    record,
)
from tests.journeys.stage import TOKEN, Stage, Told, run
from tests.pages.people import Member, Visitor

pytestmark = SILENCE

EVENT_TOKEN = "the-event-stream's-own-token"
METRICS_TOKEN = "the-token-of-metrics"
SETTINGS = {
    "LOG_LEVEL": "debug",
    "EVENT_STREAM_TOKENS": EVENT_TOKEN,
    "METRICS_TOKEN": METRICS_TOKEN,
    "AUTH0_TIMEOUT": "2s",
    **dict.fromkeys(("PULL_LOGS", "PULL_EVENTS", "WATCH_STREAMS", "HEAL_STREAMS"), "true"),
}
RING = """
from worker.celery import app
for task in ("drain", "refresh", "push", "catch_up", "listen", "heal", "sweep", "reconcile"):
    app.send_task(f"worker.tasks.{task}")
"""
COMMANDS = """
import json, sys
from worker.cli import main
for line in json.loads(sys.argv[1]):
    sys.argv = ["understudy", *line]
    try:
        main()
    except SystemExit as ended:
        print("ended with", ended.code or 0)
"""
# All that an operator has, but for `parked show`, which is there to show what is personal.
EVERYTHING = [
    ("parked", "list"),
    ("parked", "list", "--json"),
    ("parked", "replay", "--all"),
    ("parked", "drop", "r1"),
    ("drain",),
    ("verify",),
    ("verify", "--json"),
    ("backfill",),
    ("status",),
    ("doctor",),
    ("brake", "--recheck", "--trust"),
    ("plan", "set", f"{USER_ID}x", METADATA),
]
FAULTS: list[dict[str, Any]] = [
    {"kind": "status", "status": 500, "message": EMAIL},
    {"kind": "status", "status": 400, "message": EMAIL},
    {"kind": "status", "status": 403, "message": EMAIL},
    {"kind": "drop"},
]


def event(**said: Any) -> bytes:
    """Build an event full of markers."""
    profile = {
        "user_id": USER_ID,
        "email": EMAIL,
        "name": NAME,
        "nickname": NICKNAME,
        "last_ip": IP,
        "created_at": "2026-01-01T00:00:00.000Z",
        "updated_at": "2026-01-01T00:00:00.000Z",
        "identities": [{"provider": "auth0", "user_id": "markerid0001", "connection": EMAIL}],
        "user_metadata": {"note": METADATA},
        **said,
    }
    return json.dumps(
        {"id": "evt_1", "type": "user.updated", "time": "2026-01-01T00:00:00Z", "data": {"object": profile}}
    ).encode()


EVENTS = [
    event(),
    event(user_id=ODD_ID),
    event(user_id={"id": USER_ID}),
    event(user_id=f"{USER_ID}\x00"),
    event(updated_at=EMAIL),
    event(identities=EMAIL, logins_count=EMAIL),
    event().replace(b"user.updated", b"user.deleted"),
    event()[:-20],
    EMAIL.encode(),
    json.dumps({"type": EMAIL, "data": EMAIL}).encode(),
]


def send(stage: Stage, method: str, path: str, **request: Any) -> int:
    return httpx.request(method, stage.product.url + path, timeout=30, trust_env=False, **request).status_code


def send_events(stage: Stage) -> None:
    for body in EVENTS:
        authorized = {"Authorization": f"Bearer {EVENT_TOKEN}"}
        assert send(stage, "POST", f"/webhooks/auth0/events?email={EMAIL}", content=body, headers=authorized) == 204
    assert send(stage, "POST", "/webhooks/auth0/events", content=event(), headers={"Authorization": GUESS}) == 401


def call_the_api(stage: Stage, token: str) -> list[int]:
    """Call the music API rightly and wrongly; return what it answered."""
    ours = {"Authorization": f"Bearer {token}"}
    answered = [
        send(stage, method, path, headers=ours, **({"json": body} if body is not None else {}))
        for method, path, body in (
            ("GET", "/me", None),
            ("PATCH", "/displayName", {"displayName": NAME}),
            ("POST", "/songs", {"songname": EMAIL}),
            ("POST", "/songs", {"songname": f"{EMAIL}\x00"}),
            ("POST", "/playlists", {"name": EMAIL}),
            ("POST", "/playlists/1/plays", {"play_id": EMAIL}),
            ("PUT", "/genres/fav", {EMAIL: EMAIL}),
            ("GET", f"/songs?limit={EMAIL}&{EMAIL}=1", None),
            ("GET", f"/playlists/{EMAIL}", None),
            ("DELETE", f"/songs/{EMAIL}", None),
        )
    ]
    wrong = (f"Bearer {GUESS}", f"Bearer {token}{GUESS}", f"Basic {SECRET}", EMAIL)
    answered += [send(stage, "GET", "/me", headers={"Authorization": one}) for one in wrong]
    answered.append(send(stage, "POST", "/songs", headers=ours, content=f'{{"songname": "{EMAIL}'.encode()))
    return answered


def visit_the_page(member: Member) -> None:
    """Log in, use the page, and come back from Auth0 in every wrong way."""
    with Visitor(member.stage) as browser:
        browser.log_in(member)
        for path, form in (("songs", {"songname": EMAIL}), ("name", {"name": NAME}), (EMAIL, {"name": EMAIL})):
            browser.post(f"/page/{path}", **form)
        browser.http.post("/page/name", data={"csrf": GUESS, "name": EMAIL})
    for answer in ({"error": EMAIL, "error_description": NAME}, {"code": SECRET}, {"code": EMAIL, "iss": EMAIL}):
        with Visitor(member.stage) as browser:
            state = httpx.URL(browser.get("/login").headers["location"]).params["state"]
            assert browser.get("/callback", params={**answer, "state": state}).status_code in (400, 502)
            assert browser.get("/callback", params={**answer, "state": EMAIL}).status_code == 400
            browser.get(f"/{EMAIL}", params={"email": EMAIL}, headers={"Cookie": f"understudy={SECRET}"})


def run_every_loop(stage: Stage) -> None:
    """Have the worker go through each loop once."""
    stage.processes.run("bell", [sys.executable, "-c", RING], env=stage.environ, patience=120)
    with redis.Redis.from_url(stage.environ["REDIS_URL"]) as queue:
        stage.wait_until(lambda: queue.llen("understudy") == 0, "the loops to be run")
    time.sleep(1)  # the last of them, in either child


def commands(stage: Stage, *lines: tuple[str, ...]) -> Told:
    """Run these commands, one after the other in one process."""
    return run([sys.executable, "-c", COMMANDS, json.dumps(lines)], stage.environ, patience=600)


def test_no_marker_is_printed_by_what_stands_around_the_copy(play: OnStage, own_postgres: EmbeddedPostgres) -> None:
    with play(database_url=own_postgres.url, page=True, settings=SETTINGS) as stage:
        user_id = plant(stage)
        asked = {"user_id": user_id, "audience": MUSIC_API, "issuer": stage.tenant.browser_issuer}
        token = stage.tenant.control("POST", "tokens", asked)["access_token"]
        member = Member(stage, user_id, EMAIL, token)

        send_events(stage)
        assert {200, 201, 401, 404, 422} <= set(call_the_api(stage, token)) < set(range(500))
        visit_the_page(member)
        for number, fault in enumerate(FAULTS):
            stage.faults(*({"where": where, **fault} for where in ("api", "token", "jwks")))
            stage.deliver(record(user_id=user_id))
            wish = {"headers": {"Authorization": f"Bearer {token}"}, "json": {"displayName": f"{NAME} {number}"}}
            assert send(stage, "PATCH", "/displayName", **wish) == 200
            run_every_loop(stage)
        with Visitor(stage) as browser:
            assert browser.get(browser.submit(browser.begin(), EMAIL).headers["location"]).status_code == 502
        said = [commands(stage, ("doctor",), ("status",))]
        stage.faults()

        with broken_statements(stage, "songs", "wishes", "pushes", "sessions", "plays", "playlists", "feeds"):
            assert 500 in call_the_api(stage, token)
            send_events(stage)
            run_every_loop(stage)
            with Visitor(stage) as browser:
                assert browser.get("/login").status_code == 500
            said.append(commands(stage, ("plan", "set", user_id, METADATA), ("brake", "--recheck")))
        with own_postgres.stopped():
            assert 503 in call_the_api(stage, token)
            with Visitor(stage) as browser:
                assert browser.get("/login").status_code == 503
            said.append(commands(stage, ("doctor",), ("verify",), ("parked", "list"), ("plan", "set", user_id, "pro")))
        for child in psutil.Process(stage.product.worker.pid).children():
            child.kill()  # of which Celery tells
        run_every_loop(stage)
        metrics = {"Authorization": f"Bearer {METRICS_TOKEN}"}
        shown = httpx.get(f"{stage.product.url}/metrics", headers=metrics, timeout=30, trust_env=False).text
        assert "understudy_parked" in shown
        said += [Told(0, shown, ""), commands(stage, *EVERYTHING, ("fingerprint", user_id))]
        web_secret = stage.environ["AUTH0_WEB_CLIENT_SECRET"]
        own = (TOKEN, EVENT_TOKEN, METRICS_TOKEN, token, web_secret, stage.tenant.client_secret)
        assert_silent(stage, said, *own, user_id.partition("|")[2])
