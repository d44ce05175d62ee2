"""openapi.json says what the routes do: schemathesis calls each with what it allows, and with what it does not."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings

from api.music import OPERATIONS
from api.openapi import document
from tests.api.listeners import ADA, MusicApp

DOCUMENT = document(OPERATIONS)
schema = schemathesis.openapi.from_dict(DOCUMENT)


def test_the_document_is_answered_to_anybody(music: MusicApp) -> None:
    answer = music.web.client.get("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == DOCUMENT


def test_it_names_every_operation_and_is_openapi() -> None:
    schema.validate()
    named = {(method.upper(), path) for path, item in DOCUMENT["paths"].items() for method in item}
    assert named == {(operation.method, operation.path) for operation in OPERATIONS}
    ids = [said["operationId"] for item in DOCUMENT["paths"].values() for said in item.values()]
    assert len(ids) == len(set(ids))


@pytest.fixture
def token(music: MusicApp) -> str:
    """Of an editor who has a song and a playlist."""
    ada = music.known(ADA, app_metadata={"roles": ["playlist_editor"]}, user_metadata={"displayName": "Ada"})
    for name in ("one", "two"):
        ada.playlist(name, [ada.song(name)])
    ada.ok("PUT", "/playlists/2/featured", status=204)
    ada.ok("PUT", "/genres/fav", {"fav_genre": "Jazz"}, 204)
    return ada.token


@schema.parametrize()
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_the_api_does_what_it_says(case: Any, token: str, module_music: MusicApp) -> None:
    case.call_and_validate(base_url=module_music.web.url, headers={"Authorization": f"Bearer {token}"})


def test_what_is_shown_is_what_the_document_says(music: MusicApp, token: str) -> None:
    """Schemathesis seldom meets anything but refusals where ids are meant; here all is there."""
    client = httpx.Client(base_url=music.web.url, headers={"Authorization": f"Bearer {token}"}, trust_env=False)
    with client:
        for path in ("/me", "/songs", "/playlists", "/playlists/featured", "/displayName"):
            schema[path]["GET"].validate_response(client.get(path))
        schema["/playlists/{playlist_id}"]["GET"].validate_response(client.get("/playlists/2"))
