"""Too much, too long, no PostgreSQL: 503 in time, nothing half stored, memory bounded, and well again by itself."""

from __future__ import annotations

import gzip
import hashlib
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import psycopg

from local.servers import EmbeddedPostgres
from tests.api.conftest import StartWeb
from tests.api.web import PERSON_MARKER, Web, Wire, at_once, eventually
from tests.corpus import FORMATS, MIB, log_record

BODY = FORMATS[0](*[log_record(user_name=f"{PERSON_MARKER}@example.com")] * 20)
LARGE = hashlib.shake_128(b"large").digest(MIB)


def _is_put_off(response: httpx.Response) -> None:
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"
    assert int(response.headers["retry-after"]) > 0
    assert PERSON_MARKER not in response.text


@contextmanager
def _locked_inbox(web: Web) -> Iterator[None]:
    """PostgreSQL is there and takes the statement, and does not get on with it."""
    with psycopg.connect(web.database_url) as connection:
        connection.execute("LOCK TABLE inbox")
        yield


def _memory(web: Web) -> int:
    return int(psutil.Process(web.process.pid).memory_info().rss)


def _peak_memory(web: Web) -> int:
    """Return the most that it ever held."""
    status = Path(f"/proc/{web.process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]


def test_without_postgresql_it_answers_503_in_time_and_is_well_again_by_itself(
    start_web: StartWeb, own_postgres: EmbeddedPostgres, redis_url: str
) -> None:
    web = start_web(own_postgres.url, redis_url)
    assert web.deliver(BODY).status_code == 204
    with own_postgres.stopped():
        for _ in range(2):
            start = time.monotonic()
            _is_put_off(web.deliver(BODY))
            assert time.monotonic() - start < 4  # 2 s are promised; this machine may be busy
        for response in at_once(10, lambda _: web.deliver(BODY)):
            _is_put_off(response)
        assert web.deliver(BODY, token="wrong").status_code == 401
    eventually(lambda: web.deliver(BODY).status_code == 204, "deliveries to be taken again")
    assert {row.body for row in web.rows()} == {BODY}
    eventually(lambda: web.counter("unauthorized_logs") == 1, "what was counted meanwhile")


def test_a_process_starts_without_postgresql_and_is_well_once_it_is_there(
    start_web: StartWeb, own_postgres: EmbeddedPostgres, redis_url: str
) -> None:
    with own_postgres.stopped():
        web = start_web(own_postgres.url, redis_url)
        _is_put_off(web.deliver(BODY))
    eventually(lambda: web.deliver(BODY).status_code == 204, "deliveries to be taken")


def test_a_crash_of_postgresql_loses_nothing_that_was_accepted(
    start_web: StartWeb, own_postgres: EmbeddedPostgres, redis_url: str
) -> None:
    web = start_web(own_postgres.url, redis_url)
    web.empty()
    accepted: list[bytes] = []
    crashed = threading.Event()

    def send(sender: int) -> None:
        number = 0
        while not crashed.is_set() or number % 20:
            body = f'{{"log_id":"{sender}-{number}"}}\n'.encode()
            if web.deliver(body).status_code == 204:
                accepted.append(body)
            number += 1

    def crash(_: int) -> None:
        eventually(lambda: len(accepted) > 50, "deliveries")
        own_postgres.kill()
        own_postgres.start()
        crashed.set()

    at_once(5, lambda which: send(which) if which else crash(which))
    stored = {row.body for row in web.rows()}
    assert set(accepted) <= stored


def test_many_at_once_are_stored_or_put_off_and_nothing_between(web: Web) -> None:
    numbers = at_once(100, lambda which: [web.deliver(b"%d %d" % (which, turn)) for turn in range(3)])
    answers = Counter(response.status_code for responses in numbers for response in responses)
    assert set(answers) <= {204, 503}
    assert answers[204] > 0
    bodies = [row.body for row in web.rows()]
    assert len(bodies) == len(set(bodies)) == answers[204]


def test_a_database_that_hangs_puts_deliveries_off(web: Web) -> None:
    with _locked_inbox(web):
        start = time.monotonic()
        responses = at_once(20, lambda _: web.deliver(BODY))
        assert time.monotonic() - start < 10
        for response in responses:
            _is_put_off(response)
    eventually(lambda: web.deliver(BODY).status_code == 204, "deliveries to be taken again")


def test_memory_is_bounded_however_long_the_database_hangs(web: Web) -> None:
    web.deliver(LARGE)
    before = _memory(web)
    most = 0
    with _locked_inbox(web):
        for _ in range(5):  # 64 MiB are let in each time
            for response in at_once(100, lambda _: web.deliver(LARGE)):
                _is_put_off(response)
            most = max(most, _memory(web))
    # 64 MiB being received, 64 MiB waiting, what two statements hold, and what an allocator keeps.
    assert most - before < 300 * MIB
    eventually(lambda: web.deliver(BODY).status_code == 204, "deliveries to be taken again")


def test_memory_is_bounded_however_much_packed_bodies_hold(web: Web) -> None:
    packed = gzip.compress(bytes(16 * MIB), 1)
    assert len(packed) < MIB
    web.deliver(packed, content_encoding="gzip")
    before = _memory(web)
    most = 0
    with _locked_inbox(web):
        for _ in range(3):
            for response in at_once(60, lambda _: web.deliver(packed, content_encoding="gzip")):
                _is_put_off(response)
            most = max(most, _peak_memory(web))
    # 64 MiB waiting, what two statements hold, what two threads unpack (in pieces, then whole), and what an allocator keeps.
    assert most - before < 300 * MIB
    eventually(lambda: web.deliver(BODY).status_code == 204, "deliveries to be taken again")


def test_bodies_that_are_only_announced_take_no_room(web: Web) -> None:
    wires = [web.begin(16 * MIB) for _ in range(50)]
    try:
        for wire in wires:
            wire.send(b"x")
        assert web.deliver(BODY).status_code == 204
    finally:
        for wire in wires:
            wire.close()
    assert [row.body for row in web.rows()] == [BODY]


def test_more_than_there_is_room_for_is_put_off(web: Web) -> None:
    """Bodies that are being received hold 64 MiB together; whoever comes then is told to come again."""
    wires: list[Wire] = []
    try:
        for _ in range(4):  # one after the other: who is silent for five seconds is cut off
            wires.append(web.begin(16 * MIB))
            wires[-1].send(LARGE * 15)
        # Once the process has read all that.
        refusal = eventually(lambda: _refusal(web, LARGE * 8), "a refusal")
        _is_put_off(refusal[0])
        assert web.deliver(BODY).status_code == 204
    finally:
        for wire in wires:
            wire.close()
    eventually(lambda: not _refusal(web, LARGE * 8), "room again")


def test_sigterm_finishes_what_is_in_flight(start_web: StartWeb, database_url: str, redis_url: str) -> None:
    web = start_web(database_url, redis_url)
    with web.begin(len(BODY)) as half_sent:
        half_sent.send(BODY[:100])
        with _locked_inbox(web):
            waiting: Wire = web.begin(2)
            waiting.send(b"{}")
            eventually(lambda: _blocked(web), "a delivery that waits for the database")
            web.deliver(BODY, token="wrong")
            web.terminate()
            eventually(lambda: _refuses_connections(web), "the process to stop listening")
        with waiting:
            assert waiting.hear().startswith(b"HTTP/1.1 204 ")
        half_sent.send(BODY[100:])
        assert half_sent.hear().startswith(b"HTTP/1.1 204 ")
    assert web.ended() in (0, -15)  # uvicorn ends by the signal that it was sent
    assert {row.body for row in web.rows()} == {b"{}", BODY}
    assert web.counter("unauthorized_logs") == 1
    assert len(web.messages()) == 1


def _refusal(web: Web, body: bytes) -> list[httpx.Response]:
    return [response for response in [web.deliver(body)] if not response.is_success]


def _blocked(web: Web) -> bool:
    return bool(web.sql("SELECT 1 FROM pg_locks WHERE NOT granted"))


def _refuses_connections(web: Web) -> bool:
    try:
        with Wire(web.port):
            return False
    except ConnectionRefusedError:
        return True
