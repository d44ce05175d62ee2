"""The music app's API under test: a web process, a tenant's keys, and people who call with tokens of their own."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from local.children import Children
from tests.api.jwks import AUDIENCE, JwksServer, Key, jwks_server
from tests.api.web import Web, environment, running

# As Auth0 makes them: two pipes, an @, slashes, blanks, what is not ASCII.
ADA = "samlp|acme/saml|ada@marker.of.a.person"
BOB = "auth0|507f1f77bcf86cd799439011"
ODD_IDS = [ADA, BOB, "waad|Zoë Öz/ü %7C?#&|\"'", "google-oauth2|108204268033311374519", "sms|+49 170 1"]


@dataclass(frozen=True)
class Person:
    """Somebody with an access token."""

    music: MusicApp
    user_id: str
    token: str = field(repr=False)

    def call(self, method: str, path: str, **request: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}", **request.pop("headers", {})}
        return self.music.web.client.request(method, path, headers=headers, **request)

    def get(self, path: str, **request: Any) -> httpx.Response:
        return self.call("GET", path, **request)

    def ok(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        """Call, expect this status, and return the JSON that was answered, if any."""
        answer = self.call(method, path, json=body) if body is not None else self.call(method, path)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    # What a test often needs

    def song(self, name: str = "Wintersong") -> int:
        return int(self.ok("POST", "/songs", {"songname": name}, 201)["song_id"])

    def playlist(self, name: str = "Mornings", songs: list[int] | None = None) -> int:
        return int(self.ok("POST", "/playlists", {"name": name, "songs": songs or []}, 201)["playlist_id"])

    def play(self, playlist: int, play_id: str | None = None) -> httpx.Response:
        body = {"play_id": play_id or str(uuid.uuid4())}
        return self.call("POST", f"/playlists/{playlist}/plays", json=body)


@dataclass(frozen=True)
class MusicApp:
    """A web process with an audience, and the keys its tokens are signed with."""

    web: Web
    tenant: JwksServer
    key: Key

    def person(self, user_id: str) -> Person:
        """Return somebody of whom nothing is known here yet."""
        return Person(self, user_id, self.key.sign(self.tenant.claims(sub=user_id)))

    def known(self, user_id: str, **profile: Any) -> Person:
        """Return somebody whose profile the copy has: `known(BOB, name="Bob", app_metadata={"roles": ["admin"]})`."""
        self.copy(user_id, **profile)
        return self.person(user_id)

    def copy(self, user_id: str, **profile: Any) -> None:
        """Write a row as refresh does; `identities` are the ids of linked secondaries."""
        linked = profile.pop("linked", [])
        identities = [dict(zip(("provider", "user_id"), one.split("|", 1), strict=True)) for one in (user_id, *linked)]
        columns = {
            "user_id": user_id,
            "profile": {},
            "identities": identities,
            "created_at": "2026-01-02T03:04:05Z",
            **profile,
        }
        names, values = list(columns), [json.dumps(v) if isinstance(v, dict | list) else v for v in columns.values()]
        self.web.sql("DELETE FROM users WHERE user_id = %s", user_id)
        self.web.sql(
            f"INSERT INTO users ({', '.join(names)}, version, synced_at) VALUES ({', '.join(['%s'] * len(names))}, 1, now())",  # noqa: S608 the tests' own words
            *values,
        )

    def bury(self, user_id: str, ago: str = "1 hour") -> None:
        """Make a tombstone, as a strong 404 does."""
        self.web.sql(
            "UPDATE users SET profile = NULL, identities = NULL, app_metadata = NULL, deleted_at = now() - %s::interval, "
            "synced_at = now() - %s::interval WHERE user_id = %s",
            ago,
            ago,
            user_id,
        )

    def empty(self) -> None:
        """Forget everybody and all they have."""
        self.web.sql(
            "TRUNCATE users, news, user_data, songs, playlists, playlist_songs, plays, wishes, pushes, sessions, forgotten, inbox RESTART IDENTITY"
        )

    def marks(self, table: str = "news") -> list[str]:
        return [user_id for (user_id,) in self.web.sql(f"SELECT user_id FROM {table} ORDER BY 1")]  # noqa: S608


@contextmanager
def music_app(
    children: Children, folder: Path, database_url: str, redis_url: str, **settings: str
) -> Iterator[MusicApp]:
    key = Key("a key of the tests")
    with jwks_server(folder) as tenant:
        tenant.publish(key)
        configured = {"AUTH0_DOMAIN": tenant.domain, "AUTH0_CA_FILE": str(tenant.ca_file), "AUTH0_AUDIENCE": AUDIENCE}
        with running(children, environment(database_url, redis_url, **configured, **settings)) as web:
            yield MusicApp(web, tenant, key)


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """Return the problem details, which every refusal has."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    content: dict[str, Any] = answer.json()
    assert content["status"] == status
    return content


def field_of(answer: httpx.Response) -> str:
    """Return the field that a 422 names."""
    (error,) = problem(answer, 422)["errors"]
    return str(error.get("pointer") or error["parameter"])
