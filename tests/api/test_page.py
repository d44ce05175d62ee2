"""The page where it is not set up, or where PostgreSQL is away; and what its settings decide."""

from __future__ import annotations

import httpx
import psycopg
import pytest

from local.servers import EmbeddedPostgres, Redis
from tests.api.conftest import StartWeb
from tests.api.web import Web, eventually

PAGE = {
    "AUTH0_AUDIENCE": "https://api.music.example/",
    "PUBLIC_URL": "https://music.example",
    "AUTH0_WEB_CLIENT_ID": "a-client",
    "AUTH0_WEB_CLIENT_SECRET": "a-secret",
}
HOST = {"Host": "music.example"}


def test_without_its_settings_the_page_says_which_are_missing(web: Web) -> None:
    answer = web.get("/")
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/plain")
    for name in PAGE:
        assert name in answer.text
    assert web.get("/login").status_code == 404


def test_with_https_the_cookie_is_for_this_very_host_over_tls(
    start_web: StartWeb, module_database_url: str, redis_url: str
) -> None:
    web = start_web(module_database_url, redis_url, **PAGE)
    answer = web.client.get("/login", headers=HOST)
    assert answer.status_code == 302
    said = answer.headers["set-cookie"]
    assert said.startswith("__Host-understudy=")
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=lax"} <= {part.strip() for part in said.split(";")}
    assert "Domain" not in said
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    asked = httpx.URL(answer.headers["location"])
    assert (asked.host, asked.path) == ("music.eu.auth0.com", "/authorize")
    assert asked.params["redirect_uri"] == "https://music.example/callback"
    assert asked.params["code_challenge_method"] == "S256"
    assert {"state", "nonce", "code_challenge"} <= set(asked.params)


def test_while_postgresql_is_away_the_page_asks_for_patience(
    start_web: StartWeb, own_postgres: EmbeddedPostgres, redis_server: Redis
) -> None:
    redis_server.flush()
    web = start_web(own_postgres.url, redis_server.url, **PAGE)
    cookie = {"Cookie": f"__Host-understudy={'A' * 43}"}
    assert web.client.get("/", headers=HOST | cookie).status_code == 200
    own_postgres.stop()
    try:
        answer = web.client.get("/", headers=HOST | cookie)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert "The database cannot be reached at the moment." in answer.text
        assert web.client.get("/", headers=HOST).status_code == 200  # nothing is asked about nobody
        assert web.client.get("/login", headers=HOST).status_code == 503
    finally:
        own_postgres.start()
    eventually(lambda: web.client.get("/", headers=HOST | cookie).status_code == 200, "the page to be back")


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        (None, "You have not chosen one yet."),
        ("{}", "You have not chosen one yet."),
        ('{"user_metadata": {"displayName": "user"}}', "Auth0 has the same name."),
    ],
)
def test_auth0_is_said_to_have_a_name_only_where_it_has(
    start_web: StartWeb, database_url: str, redis_url: str, profile: str | None, said: str
) -> None:
    web = start_web(database_url, redis_url, **PAGE, DEFAULT_DISPLAY_NAME="user")
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "INSERT INTO users (user_id, profile, user_metadata, synced_at) "
            "VALUES ('auth0|ada', %(profile)s, %(profile)s::jsonb -> 'user_metadata', CASE WHEN %(profile)s::jsonb IS NOT NULL THEN now() END)",
            {"profile": profile},
        )
        connection.execute(
            "INSERT INTO sessions (session_hash, user_id, expires_at) VALUES (sha256(repeat('s', 43)::bytea), 'auth0|ada', now() + '1 h')"
        )
    text = web.client.get("/", headers=HOST | {"Cookie": f"__Host-understudy={'s' * 43}"}).text
    assert 'Welcome, <span class="who">user</span>' in text
    assert said in text


def test_files_may_be_kept_and_are_what_they_say(start_web: StartWeb, module_database_url: str, redis_url: str) -> None:
    web = start_web(module_database_url, redis_url, **PAGE)
    for path, kind in (("page.css", "text/css"), ("page.js", "text/javascript"), ("icon.svg", "image/svg+xml")):
        answer = web.client.get(f"/static/{path}", headers=HOST)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(kind)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
