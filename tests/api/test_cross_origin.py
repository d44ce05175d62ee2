"""Pages of other origins: those that are named may call the API with a token, nobody else's may."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from local.children import Children
from local.servers import Redis
from tests.api.jwks import AUDIENCE
from tests.api.web import SECRET_MARKER, Web, environment, running

APP, OTHER = "https://app.music.example", "https://evil.example"


@pytest.fixture(scope="module")
def open_to_one(children: Children, module_database_url: str, redis_server: Redis) -> Iterator[Web]:
    settings = {
        "CORS_ALLOWED_ORIGINS": f"http://localhost:3000,{APP}",
        "AUTH0_AUDIENCE": AUDIENCE,
        "TOKEN_ALGORITHM": "HS256",  # asks no tenant for keys
        "AUTH0_HS256_SECRET": SECRET_MARKER * 2,
    }
    with running(children, environment(module_database_url, redis_server.url, **settings)) as web:
        yield web


def preflight(web: Web, origin: str, method: str = "PATCH") -> httpx.Response:
    asked = {"access-control-request-method": method, "access-control-request-headers": "authorization,content-type"}
    return web.client.options("/displayName", headers={"origin": origin, **asked})


def allowances(response: httpx.Response) -> list[str]:
    return [name for name in response.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_a_named_origin_may_send_a_token(open_to_one: Web, method: str) -> None:
    response = preflight(open_to_one, APP, method)
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == APP
    assert "authorization" in response.headers["access-control-allow-headers"].lower()
    assert method in response.headers["access-control-allow-methods"]


def test_a_named_origin_may_read_refusals_too(open_to_one: Web) -> None:
    response = open_to_one.client.get("/me", headers={"origin": APP})
    assert response.status_code == 401
    assert response.headers["access-control-allow-origin"] == APP
    assert "WWW-Authenticate" in response.headers["access-control-expose-headers"]


def test_no_origin_may_send_cookies(open_to_one: Web) -> None:
    for response in (preflight(open_to_one, APP), open_to_one.client.get("/healthz", headers={"origin": APP})):
        assert "access-control-allow-credentials" not in response.headers


@pytest.mark.parametrize("origin", [OTHER, "null", f"{APP}.evil.example", "http://app.music.example"])
def test_no_other_origin_may_do_anything(open_to_one: Web, origin: str) -> None:
    response = preflight(open_to_one, origin)
    assert response.status_code == 400
    assert "access-control-allow-origin" not in response.headers
    assert "access-control-allow-origin" not in open_to_one.client.get("/healthz", headers={"origin": origin}).headers


def test_none_is_named_by_default(web: Web) -> None:
    assert not allowances(preflight(web, APP))
    assert not allowances(web.client.get("/healthz", headers={"origin": APP}))
