"""Ten thousand plays, each request sent twice, while workers and the web process are killed and Redis is wiped: the sums are exact."""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from redis import Redis

from tests.journeys.conftest import OnStage
from tests.journeys.stage import Stage
from tests.journeys.test_roles import editors, foreign_roles, gets_foreign_roles

pytestmark = pytest.mark.journey

AUDIENCE = "https://api.music.example/"
LISTENERS, CAP = 1_000, 10
CONNECTIONS = 32

# What each owner's one playlist gets: (listeners, plays of each). The last one takes what is left of ten thousand.
PLAYED = [(100, 1), (99, 1), (10, 10), (10, 12), (9, 25), (900, 1), (1_000, 9)]


class Sender:
    """Sends requests over connections that are kept, each until it is accepted: a web process may die meanwhile."""

    def __init__(self, port: int, requests: list[bytes]) -> None:
        self.port, self.requests = port, iter(requests)
        self.refused: Counter[bytes] = Counter()

    def send_all(self) -> None:
        asyncio.run(self._send_all())

    async def _send_all(self) -> None:
        await asyncio.gather(*(self._send_on() for _ in range(CONNECTIONS)))

    async def _send_on(self) -> None:
        writer: asyncio.StreamWriter | None = None
        for request in self.requests:
            while True:
                try:
                    if writer is None:
                        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    writer.write(request)
                    head = await reader.readuntil(b"\r\n\r\n")
                except (OSError, asyncio.IncompleteReadError):
                    head = b""
                if head.startswith(b"HTTP/1.1 202"):
                    break
                self.refused[head[:12]] += 1
                if writer is not None:
                    writer.close()
                writer = None
                await asyncio.sleep(0.1)
        if writer is not None:
            writer.close()


def listeners_of(stage: Stage) -> dict[str, str]:
    """Return a thousand people whose profiles the copy holds, and their access tokens."""
    loaded = stage.tenant.control("POST", "users/load", {"count": LISTENERS})
    assert loaded
    known = {user_id for (user_id,) in stage.query("SELECT user_id FROM users")}
    ids = [user["user_id"] for user in stage.tenant.truth() if user["user_id"] not in known][:LISTENERS]
    with psycopg.connect(stage.database_url) as connection:
        connection.execute(
            "INSERT INTO users (user_id, profile, synced_at) SELECT user_id, '{}', now() FROM unnest(%s::text[]) AS user_id",
            (ids,),
        )
    return tokens_of(stage, ids)


def tokens_of(stage: Stage, ids: list[str]) -> dict[str, str]:
    given = stage.tenant.control("POST", "tokens", {"user_ids": ids, "audience": AUDIENCE})["access_tokens"]
    return dict(zip(ids, given, strict=True))


def owned(stage: Stage, owners: Iterable[str]) -> dict[str, int]:
    """Give each a playlist; return the playlists' ids by owner."""
    with psycopg.connect(stage.database_url) as connection:
        made = {}
        for owner in owners:
            row = connection.execute(
                "INSERT INTO playlists (user_id, name) VALUES (%s, 'mine') RETURNING playlist_id", (owner,)
            ).fetchone()
            assert row is not None
            made[owner] = int(row[0])
        return made


def request(token: str, playlist: int) -> bytes:
    body = json.dumps({"play_id": str(uuid.uuid4())})
    head = f"POST /playlists/{playlist}/plays HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def plays(listeners: dict[str, str], playlists: dict[str, int], owners: dict[str, str]) -> Iterator[bytes]:
    """Yield a request for each play, and 20 of each owner's own."""
    for (owner, playlist), (people, times) in zip(playlists.items(), PLAYED, strict=True):
        for token in list(listeners.values())[:people]:
            for _ in range(times):
                yield request(token, playlist)
        for _ in range(20):
            yield request(owners[owner], playlist)


def sums(stage: Stage) -> dict[str, int]:
    return dict(stage.query("SELECT user_id, plays FROM playlists"))


def kill_in_the_middle_of_a_count(stage: Stage) -> None:
    """Hold the worker up behind a lock of ours, so that it has claimed plays and written nothing of them."""
    with psycopg.connect(stage.database_url) as lock:
        lock.execute("LOCK TABLE play_days IN SHARE MODE")
        claimed = "inbox WHERE source = 'plays' AND state = 'pending' AND claimed_until > now()"
        stage.wait_until(lambda: stage.count(claimed) > 0, "plays to be claimed")
        stage.product.worker.kill()


def test_every_play_counts_once_whoever_is_killed_on_the_way(play: OnStage) -> None:
    with play(people=len(PLAYED) + 8, settings={"AUTH0_AUDIENCE": AUDIENCE}) as stage:
        owners = tokens_of(stage, sorted(user["user_id"] for user in stage.tenant.truth())[: len(PLAYED)])
        foreign = gets_foreign_roles(stage, owners)
        playlists, listeners = owned(stage, owners), listeners_of(stage)
        sent = [*plays(listeners, playlists, owners)] * 2
        assert len(sent) >= 2 * 10_000
        random.Random(25).shuffle(sent)  # noqa: S311 the same order each time
        sender = Sender(int(stage.product.url.rpartition(":")[2]), sent)
        with ThreadPoolExecutor(1) as pool, Redis.from_url(stage.environ["REDIS_URL"]) as redis:
            sending = pool.submit(sender.send_all)
            for number in range(4):
                kill_in_the_middle_of_a_count(stage)
                redis.flushdb()
                if number == 1:
                    stage.product.web.kill()
                    stage.product.web.start()
                stage.product.worker.start()
            sending.result()
        right = {owner: people * min(times, CAP) for owner, (people, times) in zip(playlists, PLAYED, strict=True)}
        stage.wait_until(lambda: sums(stage) == right, "the sums to be right")
        stage.wait_until(lambda: stage.counts().pending == 0, "drain")
        assert sums(stage) == right
        assert stage.count("plays") == len(sent) // 2
        assert stage.count("parked") == 0
        assert stage.count("inbox WHERE state = 'parked'") == 0
        earned = {owner for owner, number in right.items() if number >= 100}
        stage.wait_until(lambda: editors(stage) == earned, "the right people to be editors in Auth0")
        in_sql = "SELECT user_id FROM live_users WHERE 'playlist_editor' = ANY(roles)"
        stage.wait_until(lambda: {one for (one,) in stage.query(in_sql)} == earned, "and in SQL")
        assert all(foreign[owner] for owner in owners)
        assert {one: roles for one, roles in foreign_roles(stage).items() if one in foreign} == foreign
        assert stage.count("inbox WHERE source = 'plays' AND attempts > 1") > 0, "no plays were ever claimed twice"
