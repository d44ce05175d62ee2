"""The music app's people: they play, choose names and drop playlists over the real API, and remember what they were told."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import httpx

_PATIENCE = 4.0  # seconds
_BETWEEN_TRIES = 0.3
_TRY_AGAIN = frozenset({429, 502, 503, 504})

Play = tuple[int, str]
"""A playlist's id and a play's."""


class Unexpected(Exception):
    """The API answered what it never should; the message says to what."""


@dataclass
class Told:
    """What people were told, definitely: only that can be held against the product. Written by one thread a person."""

    accepted: set[Play] = field(default_factory=set)
    refused: set[Play] = field(default_factory=set)
    """404: the playlist is gone. A try before, without an answer, may have been taken."""
    names: dict[str, str] = field(default_factory=dict)
    plans: dict[str, str] = field(default_factory=dict)
    dropped: set[int] = field(default_factory=set)
    tries: Counter[str] = field(default_factory=Counter)
    _counting: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def count(self, what: str) -> None:
        with self._counting:
            self.tries[what] += 1


class MusicApp:
    """An app on people's phones: what has no answer is sent again, with the same id, until it has one."""

    def __init__(self, url: str, tokens: dict[str, str], told: Told, over: threading.Event) -> None:
        self._url, self._tokens, self.told, self._over = url, tokens, told, over
        self._local = threading.local()

    def play(self, listener: str, playlist: int, play_id: str) -> None:
        status = self._call(listener, "POST", f"/playlists/{playlist}/plays", {"play_id": play_id})
        (self.told.accepted if status == 202 else self.told.refused).add((playlist, play_id))
        if status not in (202, 404):
            raise Unexpected(f"{status} to a play")

    def choose_name(self, person: str, name: str) -> None:
        status = self._call(person, "PATCH", "/displayName", {"displayName": name})
        if status != 200:
            raise Unexpected(f"{status} to a display name")
        self.told.names[person] = name

    def make_playlist(self, owner: str) -> int:
        answer = self._answer(owner, "POST", "/playlists", {"name": "mine"})
        if answer.status_code != 201:
            raise Unexpected(f"{answer.status_code} to a new playlist")
        return int(answer.json()["playlist_id"])

    def drop_playlist(self, owner: str, playlist: int) -> None:
        """404 is what a second try gets."""
        status = self._call(owner, "DELETE", f"/playlists/{playlist}", None)
        if status not in (204, 404):
            raise Unexpected(f"{status} to the end of a playlist")
        self.told.dropped.add(playlist)

    def _call(self, person: str, method: str, path: str, body: dict[str, str] | None) -> int:
        return self._answer(person, method, path, body).status_code

    def _answer(self, person: str, method: str, path: str, body: dict[str, str] | None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self._tokens[person]}"}
        while not self._over.is_set():
            try:
                answer = self._client().request(method, path, json=body, headers=headers)
            except httpx.TransportError as error:
                self.told.count(type(error).__name__)
            else:
                self.told.count(str(answer.status_code))
                if answer.status_code not in _TRY_AGAIN:
                    return answer
            time.sleep(_BETWEEN_TRIES)
        raise Unexpected(f"no answer to {method} {path}")

    def _client(self) -> httpx.Client:
        client: httpx.Client | None = getattr(self._local, "client", None)
        if client is None:
            client = self._local.client = httpx.Client(base_url=self._url, timeout=_PATIENCE, trust_env=False)
        return client
