"""POST /webhooks/auth0/events: the log stream's durable path, for a sender that gives up whatever is answered 4xx."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import httpx
import pytest

from local.children import Children
from local.servers import Redis
from tests.api.conftest import StartWeb
from tests.api.web import PERSON_MARKER, SECRET_MARKER, Web, environment, eventually, running

EVENTS = "/webhooks/auth0/events"
TOKEN, PAIR = f"{SECRET_MARKER}-events", f"auth0:{SECRET_MARKER}"
BODY = json.dumps(
    {"id": "evt_1", "type": "user.created", "data": {"object": {"user_id": f"auth0|{PERSON_MARKER}"}}}
).encode()


@pytest.fixture(scope="module")
def streaming(children: Children, module_database_url: str, redis_server: Redis) -> Iterator[Web]:
    """A web process that only event streams are connected to."""
    settings = {"LOG_STREAM_TOKENS": "", "EVENT_STREAM_TOKENS": f"{TOKEN},{PAIR}"}
    with running(children, environment(module_database_url, redis_server.url, **settings)) as web:
        yield web


@pytest.fixture
def web(streaming: Web) -> Web:
    streaming.empty()
    return streaming


def send(web: Web, body: bytes = BODY, **headers: str) -> httpx.Response:
    return web.client.post(
        EVENTS, content=body, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


def basic(pair: str) -> str:
    return "Basic " + base64.b64encode(pair.encode()).decode()


@pytest.mark.parametrize("authorization", [f"Bearer {TOKEN}", basic(PAIR), f"Bearer {PAIR}"])
def test_an_event_is_stored_as_it_came_before_it_is_answered(web: Web, authorization: str) -> None:
    assert send(web, authorization=authorization).status_code == 204
    [row] = web.rows()
    assert (row.source, row.state, row.body) == ("events", "pending", BODY)


def test_an_event_rings_for_drain(web: Web) -> None:
    def rings() -> bool:
        send(web, authorization=f"Bearer {TOKEN}")  # again and again: a ring that Redis is too slow for is not repeated
        return any("worker.tasks.drain" in message for message in web.messages())

    eventually(rings, "a ring")


@pytest.mark.parametrize("authorization", ["", TOKEN, basic(TOKEN), basic("auth0:x"), f"Bearer {TOKEN}x"])
def test_a_wrong_key_is_the_one_thing_that_is_refused(web: Web, authorization: str) -> None:
    before = web.counter("unauthorized_events")
    response = send(web, authorization=authorization)
    assert (response.status_code, response.headers["content-type"]) == (401, "application/problem+json")
    assert SECRET_MARKER not in response.text
    assert web.rows() == []
    eventually(lambda: web.counter("unauthorized_events") == before + 1, "the counter of refusals")


@pytest.mark.parametrize("body", [b"", b"nonsense", b"{", b"\xff" * 100, b"x" * 100_000])
def test_whatever_comes_behind_a_right_key_is_accepted(web: Web, body: bytes) -> None:
    assert send(web, body, authorization=f"Bearer {TOKEN}").status_code == 204
    assert [row.body for row in web.rows()] == ([body] if body else [])


def test_too_much_is_answered_2xx_and_leaves_a_marker(
    module_database_url: str, redis_url: str, start_web: StartWeb
) -> None:
    web = start_web(module_database_url, redis_url, EVENT_STREAM_TOKENS=TOKEN, MAX_DELIVERY_BYTES="2048")
    web.empty()
    assert send(web, b"x" * 5000, authorization=f"Bearer {TOKEN}").status_code == 204
    [row] = web.rows()
    assert (row.source, row.size, row.body) == ("events", 5000, None)


def test_a_custom_header_takes_the_place_of_authorization(
    module_database_url: str, redis_url: str, start_web: StartWeb
) -> None:
    web = start_web(module_database_url, redis_url, EVENT_STREAM_TOKENS=TOKEN, EVENT_STREAM_HEADER="X-Understudy-Key")
    web.empty()
    assert send(web, x_understudy_key=TOKEN).status_code == 204
    assert send(web, authorization=f"Bearer {TOKEN}").status_code == 401


def test_without_tokens_for_it_a_feed_has_no_route(web: Web) -> None:
    assert web.client.post("/webhooks/auth0/logs", content=b"[]").status_code == 404
