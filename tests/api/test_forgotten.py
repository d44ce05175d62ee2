"""Who was forgotten may not call, and nothing of theirs is written any more, whoever looked them up before (docs/protocol.md P14)."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from api.music import OPERATIONS
from api.operations import Operation
from tests.api.listeners import ADA, BOB, MusicApp, problem
from tests.api.test_callers import call, prepared

every_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: f"{one.method} {one.path}")


def forget(music: MusicApp, user_id: str = ADA, *, keep_out: bool = False) -> None:
    music.web.sql("INSERT INTO tenant (domain) VALUES (%s) ON CONFLICT DO NOTHING", music.tenant.domain)
    music.web.sql("INSERT INTO forgotten (user_hash, keep_out) VALUES (user_hash(%s), %s)", user_id, keep_out)


@every_operation
@pytest.mark.parametrize("known", [False, True], ids=["erased", "about to be erased"])
def test_somebody_forgotten_may_not(music: MusicApp, operation: Operation[Any], known: bool) -> None:
    ada = music.known(ADA, app_metadata={"roles": ["playlist_editor"]}) if known else music.person(ADA)
    if known:
        prepared(ada)
    forget(music)
    assert problem(call(ada, operation), 403)["detail"] == "This account no longer exists."
    assert music.web.rows() == []


@every_operation
def test_of_somebody_kept_out_nothing_is_ever_written(music: MusicApp, operation: Operation[Any]) -> None:
    forget(music, keep_out=True)
    problem(call(music.person(ADA), operation), 403)
    for table in ("users", "news", "songs", "playlists", "wishes", "pushes"):
        assert music.marks(table) == []
    assert music.web.rows() == []


@pytest.mark.parametrize("path", ["/me", "/songs"])
def test_who_comes_back_with_a_good_token_is_looked_up_once_a_minute(music: MusicApp, path: str) -> None:
    forget(music)
    ada = music.person(ADA)
    problem(ada.get(path), 403)
    assert music.web.sql("SELECT user_id, strong FROM news JOIN users USING (user_id)") == [(ADA, True)]
    problem(ada.get(path), 403)  # there is a bare row now, which is still nobody
    music.web.sql("DELETE FROM news")
    music.web.sql("DELETE FROM users")  # as its 404 does
    problem(ada.get(path), 403)
    assert music.marks() == []
    music.web.sql("UPDATE forgotten SET asked_at = asked_at - interval '2 min'")
    problem(ada.get(path), 403)
    assert music.marks() == [ADA]


def test_who_is_known_again_may(music: MusicApp) -> None:
    ada = music.known(ADA)
    forget(music)
    problem(ada.get("/me"), 403)
    music.web.sql("DELETE FROM forgotten")
    ada.ok("GET", "/me")


def test_nothing_is_written_for_who_was_forgotten_since_they_were_looked_up(music: MusicApp) -> None:
    ada = music.known(ADA)
    with ThreadPoolExecutor(1) as pool, psycopg.connect(music.web.database_url) as connection:
        connection.execute("LOCK TABLE songs")
        answer = pool.submit(ada.call, "POST", "/songs", json={"songname": "x"})
        wanted = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        while music.web.sql(wanted) == [(0,)]:
            time.sleep(0.01)
        forget(music)
        connection.commit()
        assert problem(answer.result(), 403)["detail"] == "This account no longer exists."
    assert music.marks("songs") == []


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO user_data (user_id, fav_genre) VALUES (%s, 'Jazz') ON CONFLICT (user_id) DO UPDATE SET fav_genre = 'Jazz'",
        "INSERT INTO songs (user_id, songname) VALUES (%s, 'x')",
        "INSERT INTO playlists (user_id, name) VALUES (%s, 'x')",
        "INSERT INTO wishes (user_id, attribute, value) VALUES (%s, 'plan', 'pro')",
        "INSERT INTO sessions (user_id, session_hash, expires_at) VALUES (%s, '1', now())",
    ],
    ids=lambda statement: statement.split()[2],
)
def test_every_table_that_a_request_writes_refuses(music: MusicApp, statement: str) -> None:
    forget(music)
    with pytest.raises(psycopg.errors.RaiseException) as refused:
        music.web.sql(statement, ADA)
    assert ADA not in str(refused.value)
    music.web.sql(statement, BOB)
