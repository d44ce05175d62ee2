"""The doorbell and the inbox as the processes use them: what Redis holds after a ring, what PostgreSQL holds after a put."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import psycopg
import pytest
import redis
import trustme
from kombu.exceptions import OperationalError
from pydantic import SecretStr

from local.server import free_port
from worker.errors import DatabaseDown, WrongTenant
from worker.queue import Doorbell, Inbox, make_celery
from worker.queue.inbox import Overloaded
from worker.settings import Settings

NOWHERE = "postgresql://nobody@127.0.0.1:1/none"
QUEUE = "understudy"


def _settings(redis_url: str = "redis://127.0.0.1:1/0", database_url: str = NOWHERE, **more: Any) -> Settings:
    return Settings(
        database_url=SecretStr(database_url), redis_url=SecretStr(redis_url), auth0_domain="acme.eu.auth0.test", **more
    )


def _doorbell(redis_url: str, **more: Any) -> Doorbell:
    settings = _settings(redis_url, **more)
    return Doorbell(settings, make_celery(settings))


def _messages(redis_url: str) -> list[dict[str, Any]]:
    with redis.Redis.from_url(redis_url) as client:
        return [json.loads(message)["headers"] for message in client.lrange(QUEUE, 0, -1)]


def _eventually(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


# The doorbell


def test_a_ring_is_one_message_that_expires(redis_url: str) -> None:
    assert _doorbell(redis_url).ring("drain")
    [headers] = _messages(redis_url)
    assert headers["task"] == "worker.tasks.drain"
    assert headers["expires"]
    assert headers["eta"] is None


def test_rings_of_all_processes_are_one_message_until_it_is_answered(redis_url: str) -> None:
    one, other = _doorbell(redis_url), _doorbell(redis_url)
    assert all(bell.ring("drain") for bell in (one, other, one, other))
    assert len(_messages(redis_url)) == 1
    other.answered("drain")
    assert one.ring("drain")
    assert len(_messages(redis_url)) == 2


def test_each_task_has_a_bell_of_its_own(redis_url: str) -> None:
    bell = _doorbell(redis_url)
    assert bell.ring("drain")
    assert bell.ring("refresh")
    assert {headers["task"] for headers in _messages(redis_url)} == {"worker.tasks.drain", "worker.tasks.refresh"}


def test_a_later_ring_does_not_silence_one_for_now(redis_url: str) -> None:
    bell = _doorbell(redis_url)
    assert bell.ring("refresh", countdown=60)
    assert bell.ring("refresh")
    assert [bool(headers["eta"]) for headers in _messages(redis_url)] == [False, True]


def test_of_later_rings_only_a_sooner_one_is_sent(redis_url: str) -> None:
    bell = _doorbell(redis_url)
    for countdown in (60, 61, 60, 600, 5, 30):
        assert bell.ring("refresh", countdown=countdown)
    assert len(_messages(redis_url)) == 2


def test_an_answer_leaves_the_later_ring_alone(redis_url: str) -> None:
    bell = _doorbell(redis_url)
    for _ in range(5):
        bell.answered("refresh")
        bell.ring("refresh", countdown=60)
    assert len(_messages(redis_url)) == 1, "each run would begin a chain of its own"


def test_a_bell_whose_message_was_not_taken_is_cleared(redis_url: str) -> None:
    bell = _doorbell(redis_url)
    with redis.Redis.from_url(redis_url) as client:
        client.set(QUEUE, "not a list")  # the bell can be set, the message cannot be queued
        assert not bell.ring("drain")
        assert not bell.ring("drain", countdown=5)
        client.delete(QUEUE)
    assert bell.ring("drain")
    assert bell.ring("drain", countdown=5)
    assert len(_messages(redis_url)) == 2


def test_rings_that_come_while_one_is_under_way_become_one(redis_url: str) -> None:
    bell = _doorbell(redis_url)
    for _ in range(1000):
        bell.ring_soon("drain")
    _eventually(lambda: len(_messages(redis_url)) == 1)
    bell.answered("drain")
    bell.ring_soon("drain")
    bell.close(patience=10)
    assert len(_messages(redis_url)) == 2, "the last one is let out"


def test_a_redis_that_is_down_is_heard_of_at_once(caplog: pytest.LogCaptureFixture) -> None:
    bell = _doorbell(f"redis://127.0.0.1:{free_port()}/0")
    assert not bell.ring("drain")
    assert not bell.ring("drain", countdown=1)
    bell.answered("drain")
    assert caplog.text.count("doorbell_silent") <= 1


def test_a_redis_that_never_answers_costs_a_moment() -> None:
    with closing(socket.socket()) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        bell = _doorbell(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        began = time.monotonic()
        bell.ring_soon("drain")
        assert time.monotonic() - began < 0.15, "it does not wait"
        assert not bell.ring("drain")
        bell.close()
        assert time.monotonic() - began < 10


@contextmanager
def _tls_in_front_of(redis_url: str) -> Iterator[str]:
    """Put TLS with a certificate of nobody's before a Redis; yields its `rediss://` URL."""
    login, _, place = redis_url.removeprefix("redis://").rpartition("@")
    address, _, database = place.partition("/")
    host, _, port = address.partition(":")
    with closing(socket.socket()) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        threading.Thread(target=_serve_tls, args=(listening, (host, int(port))), daemon=True).start()
        yield f"rediss://{login}{'@' if login else ''}127.0.0.1:{listening.getsockname()[1]}/{database}"


def _serve_tls(listening: socket.socket, redis_address: tuple[str, int]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with suppress(OSError):  # closed: the test is over
        while True:
            accepted, _ = listening.accept()
            threading.Thread(target=_relay, args=(context, accepted, redis_address), daemon=True).start()


def _relay(context: ssl.SSLContext, accepted: socket.socket, redis_address: tuple[str, int]) -> None:
    """A question and its answer in turns: a TLS socket is not for two threads at once."""
    with (
        suppress(OSError),
        context.wrap_socket(accepted, server_side=True) as client,
        socket.create_connection(redis_address) as server,
    ):
        while data := client.recv(65536):
            server.sendall(data)
            client.sendall(server.recv(65536))


def test_a_certificate_of_nobodys_is_not_trusted_unless_told_so(redis_url: str) -> None:
    with _tls_in_front_of(redis_url) as url:
        assert not _doorbell(url).ring("drain")
        app = make_celery(_settings(url))
        with app.connection_for_write() as connection, pytest.raises(OperationalError):
            app.send_task("worker.tasks.drain", connection=connection, retry=False)
        assert _messages(redis_url) == []
        assert _doorbell(url, redis_tls_verify=False).ring("drain")
        assert len(_messages(redis_url)) == 1


def test_a_message_that_was_taken_leaves_nothing_in_redis(redis_url: str) -> None:
    _doorbell(redis_url).ring("drain")
    with (
        make_celery(_settings(redis_url)).connection_for_read() as connection,
        redis.Redis.from_url(redis_url) as client,
    ):
        before = client.dbsize()
        assert connection.SimpleQueue(QUEUE).get(timeout=5).headers["task"] == "worker.tasks.drain"
        assert client.dbsize() == before - 1


# The inbox


async def _anyone(_connection: psycopg.AsyncConnection[Any]) -> None:
    """Every database will do."""


def _in_inbox(
    database_url: str,
    act: Callable[[Inbox], Awaitable[None]],
    check: Callable[[psycopg.AsyncConnection[Any]], Awaitable[None]] = _anyone,
) -> None:
    async def run() -> None:
        async with Inbox(_settings(database_url=database_url), check) as inbox:
            await act(inbox)

    asyncio.run(run())


def _one(database_url: str, statement: Any) -> Any:
    with psycopg.connect(database_url) as connection:
        row = connection.execute(statement).fetchone()
    return row[0] if row else None


def test_deliveries_that_wait_are_committed_together(database_url: str) -> None:
    async def act(inbox: Inbox) -> None:
        await asyncio.gather(*(inbox.put("logs", b"x" * 100) for _ in range(400)))

    _in_inbox(database_url, act)
    assert _one(database_url, "SELECT count(*) FROM inbox") == 400
    assert _one(database_url, "SELECT count(DISTINCT xmin::text) FROM inbox") < 40


def test_rows_that_differ_in_more_than_the_body_stay_what_they_are(database_url: str) -> None:
    async def act(inbox: Inbox) -> None:
        await asyncio.gather(
            inbox.put("logs", b"1"),
            inbox.put("logs", b"2", "odd"),
            inbox.put_marker("logs", 2**40, "too large"),
            inbox.put("events", b"3"),
            inbox.put("logs", b"4"),
        )

    _in_inbox(database_url, act)
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            "SELECT source, state, encoding, size, body, error FROM inbox ORDER BY body"
        ).fetchall()
    assert rows == [
        ("logs", "pending", "identity", 1, b"1", None),
        ("logs", "pending", "identity", 1, b"2", "odd"),
        ("events", "pending", "identity", 1, b"3", None),
        ("logs", "pending", "identity", 1, b"4", None),
        ("logs", "parked", "identity", 2**31 - 1, None, "too large"),
    ]


def test_what_a_check_says_of_the_database_is_what_every_put_says(database_url: str) -> None:
    async def refuse(_connection: psycopg.AsyncConnection[Any]) -> None:
        raise WrongTenant("it is another's")

    async def act(inbox: Inbox) -> None:
        for _ in range(3):
            with pytest.raises(WrongTenant, match="it is another's"):
                await inbox.put("logs", b"x")

    _in_inbox(database_url, act, refuse)
    assert _one(database_url, "SELECT count(*) FROM inbox") == 0


def test_a_put_gives_up_in_time_and_the_next_one_succeeds(database_url: str) -> None:
    async def act(inbox: Inbox) -> None:
        await inbox.put("logs", b"before")
        with psycopg.connect(database_url) as blocking:
            blocking.execute("LOCK TABLE inbox IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(DatabaseDown):
                async with asyncio.timeout(5):
                    await inbox.put("logs", b"meanwhile")
        await inbox.put("logs", b"after")

    _in_inbox(database_url, act)
    assert _one(database_url, "SELECT count(*) FROM inbox WHERE body IN ('before', 'after')") == 2


def test_connections_that_were_cut_off_are_replaced_unseen(database_url: str) -> None:
    async def act(inbox: Inbox) -> None:
        for number in range(5):
            await inbox.put("logs", b"%d" % number)
            await asyncio.to_thread(
                _one,
                database_url,
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE application_name = 'understudy-web' AND datname = current_database()",
            )

    _in_inbox(database_url, act)
    assert _one(database_url, "SELECT count(DISTINCT body) FROM inbox") == 5


def test_what_waits_is_bounded(database_url: str) -> None:
    body = os.urandom(15 * 1024 * 1024)

    async def act(inbox: Inbox) -> None:
        with psycopg.connect(database_url) as blocking:
            blocking.execute("LOCK TABLE inbox IN ACCESS EXCLUSIVE MODE")
            outcomes = await asyncio.gather(*(inbox.put("logs", body) for _ in range(8)), return_exceptions=True)
        assert sum(isinstance(outcome, Overloaded) for outcome in outcomes) == 4
        await inbox.put("logs", b"after")

    _in_inbox(database_url, act)


def test_counts_are_added_to_what_others_counted(database_url: str) -> None:
    async def act(inbox: Inbox) -> None:
        for _ in range(7):
            inbox.count("unauthorized_logs")
        inbox.count("oversize")

    _in_inbox(database_url, act)
    _in_inbox(database_url, act)
    assert _one(database_url, "SELECT value FROM counters WHERE name = 'unauthorized_logs'") == 14
    assert _one(database_url, "SELECT value FROM counters WHERE name = 'oversize'") == 2


def test_closing_writes_what_waits(database_url: str) -> None:
    async def run() -> None:
        async with Inbox(_settings(database_url=database_url), _anyone) as inbox:
            puts = [asyncio.ensure_future(inbox.put("logs", b"%d" % number)) for number in range(50)]
            await asyncio.sleep(0)
        await asyncio.gather(*puts)

    asyncio.run(run())
    assert _one(database_url, "SELECT count(*) FROM inbox") == 50
