"""What a delivery becomes: one row with its bytes as they came, 204, and one ring."""

from __future__ import annotations

import gzip
import hashlib
import json
import time
import zlib
from collections.abc import Callable, Iterator

import pytest

from local.servers import EmbeddedRedis, Redis
from tests.api.conftest import StartWeb
from tests.api.web import NEXT_TOKEN, PERSON_MARKER, TOKEN, Web, at_once, eventually
from tests.corpus import FORMATS, MIB, corpus, log_record

RECORD = log_record(user_name=f"{PERSON_MARKER}@example.com", user_id=f"auth0|{PERSON_MARKER}")
BODY = FORMATS[0](*[RECORD] * 20)
LIMIT = 16 * MIB


def _noise(size: int) -> bytes:
    return hashlib.shake_128(b"noise").digest(size)


def test_a_body_is_stored_byte_for_byte_and_compressed(web: Web) -> None:
    response = web.deliver(BODY)
    assert (response.status_code, response.content) == (204, b"")
    (row,) = web.rows()
    assert (row.source, row.state, row.error) == ("logs", "pending", None)
    assert (row.encoding, row.size, row.body) == ("zstd", len(BODY), BODY)
    (packed,) = web.sql("SELECT octet_length(body) FROM inbox")
    assert packed[0] < len(BODY) / 3


def test_a_body_that_compression_does_not_shrink_is_stored_as_it_is(web: Web) -> None:
    noise = _noise(5_000)
    assert web.deliver(noise).status_code == 204
    assert [(row.encoding, row.size, row.body) for row in web.rows()] == [("identity", 5_000, noise)]


@pytest.mark.parametrize("token", [TOKEN, NEXT_TOKEN])
def test_each_of_two_tokens_opens_while_they_are_rotated(web: Web, token: str) -> None:
    assert web.deliver(BODY, token).status_code == 204
    assert len(web.rows()) == 1


@pytest.mark.parametrize("write", FORMATS)
def test_every_format_of_auth0_is_stored_as_it_came(web: Web, write: Callable[..., bytes]) -> None:
    body = write(RECORD, log_record(number=2))
    assert web.deliver(body).status_code == 204
    assert [row.body for row in web.rows()] == [body]


@pytest.mark.parametrize("kind", ["application/json", "text/plain; charset=latin-1", "image/png", "nonsense", ""])
def test_the_content_type_says_nothing(web: Web, kind: str) -> None:
    assert web.deliver(BODY, content_type=kind).status_code == 204
    assert [row.body for row in web.rows()] == [BODY]


def test_a_chunked_body_is_stored_whole(web: Web) -> None:
    def pieces() -> Iterator[bytes]:
        for start in range(0, len(BODY), 777):
            yield BODY[start : start + 777]

    assert web.deliver(pieces()).status_code == 204
    assert [row.body for row in web.rows()] == [BODY]


def _raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress(BODY)),
        ("GZip", gzip.compress(BODY)),
        ("x-gzip", gzip.compress(BODY)),
        ("gzip", gzip.compress(BODY[:500]) + gzip.compress(BODY[500:])),
        ("deflate", zlib.compress(BODY)),
        ("deflate", _raw_deflate(BODY)),
        ("identity", BODY),
    ],
    ids=["gzip", "in capitals", "x-gzip", "two members", "deflate", "deflate without zlib", "identity"],
)
def test_an_encoding_is_undone(web: Web, encoding: str, packed: bytes) -> None:
    assert web.deliver(packed, content_encoding=encoding).status_code == 204
    (row,) = web.rows()
    assert (row.state, row.size, row.body, row.error) == ("pending", len(BODY), BODY, None)


@pytest.mark.parametrize("size", [100, 3 * MIB])
def test_large_bodies_are_undone_like_small_ones(web: Web, size: int) -> None:
    body = json.dumps({"noise": _noise(size).hex()}).encode()
    assert web.deliver(gzip.compress(body, 1), content_encoding="gzip").status_code == 204
    assert [row.body for row in web.rows()] == [body]


@pytest.mark.parametrize(
    ("encoding", "sent"),
    [
        ("br", BODY),
        ("gzip, br", BODY),
        ("snappy\t'\"; --", BODY),
        ("gzip", b"not gzip at all"),
        ("gzip", gzip.compress(BODY)[:-20]),
        ("gzip", gzip.compress(BODY) + b"and something more"),
        ("deflate", zlib.compress(BODY)[:-20]),
    ],
    ids=["brotli", "two of them", "no such thing", "no gzip", "cut gzip", "gzip and more", "cut deflate"],
)
def test_what_cannot_be_undone_is_stored_as_it_came(web: Web, encoding: str, sent: bytes) -> None:
    assert web.deliver(sent, content_encoding=encoding).status_code == 204
    (row,) = web.rows()
    assert (row.state, row.body) == ("pending", sent)
    assert row.error is not None
    assert "could not be undone" in row.error


def test_what_is_not_json_is_stored_as_it_came(web: Web) -> None:
    samples = corpus()
    assert {web.deliver(sample.body).status_code for sample in samples} == {204}
    assert [row.body for row in web.rows()] == [sample.body for sample in samples if sample.body]


def test_an_empty_body_is_taken_and_not_stored(web: Web) -> None:
    assert web.deliver(b"").status_code == 204
    assert web.deliver(gzip.compress(b""), content_encoding="gzip").status_code == 204
    assert web.rows() == []


def _endless(size: int) -> Iterator[bytes]:
    for _ in range(size // MIB):
        yield bytes(MIB)
    yield bytes(size % MIB)


@pytest.mark.parametrize("chunked", [True, False])
def test_an_oversize_body_leaves_a_marker_and_no_body(web: Web, chunked: bool) -> None:
    before = web.counter("oversize")
    size = LIMIT + 1
    assert web.deliver(_endless(size) if chunked else bytes(size)).status_code == 204
    (row,) = web.rows()
    assert (row.source, row.state, row.size, row.body) == ("logs", "parked", size, None)
    assert row.error == f"oversize, not kept, {size} bytes"
    eventually(lambda: web.counter("oversize") == before + 1, "the counter of oversize deliveries")


def test_a_body_of_just_the_limit_is_kept(web: Web) -> None:
    assert web.deliver(bytes(LIMIT)).status_code == 204
    (row,) = web.rows()
    assert (row.state, row.size, row.body) == ("pending", LIMIT, bytes(LIMIT))


@pytest.mark.parametrize("level", [9, 1])  # 16 KB, unpacked where it is; 73 KB, unpacked in a thread
def test_a_gzip_bomb_leaves_a_marker(web: Web, level: int) -> None:
    before = web.counter("oversize")
    bomb = gzip.compress(bytes(LIMIT + 1), level)
    assert web.deliver(bomb, content_encoding="gzip").status_code == 204
    (row,) = web.rows()
    assert (row.state, row.body) == ("parked", None)
    assert row.size > LIMIT
    assert row.error is not None
    assert row.error.startswith(f"oversize, not kept, {len(bomb)} bytes")
    eventually(lambda: web.counter("oversize") == before + 1, "the counter of oversize deliveries")
    assert web.deliver(gzip.compress(bytes(LIMIT)), content_encoding="gzip").status_code == 204
    assert [row.size for row in web.rows() if row.state == "pending"] == [LIMIT]


def test_the_limit_is_a_setting(start_web: StartWeb, database_url: str, redis_url: str) -> None:
    web = start_web(database_url, redis_url, MAX_DELIVERY_BYTES="2048")
    for body, encoding in ((bytes(2048), ""), (bytes(2049), ""), (gzip.compress(bytes(2049)), "gzip")):
        assert web.deliver(body, content_encoding=encoding).status_code == 204
    assert [row.state for row in web.rows()] == ["pending", "parked", "parked"]


# The doorbell


def test_many_deliveries_ring_once(start_web: StartWeb, database_url: str, redis_url: str) -> None:
    web = start_web(database_url, redis_url)
    assert {response.status_code for response in at_once(20, lambda _: web.deliver(BODY))} == {204}
    eventually(web.messages, "a message")
    assert {web.deliver(BODY).status_code for _ in range(20)} == {204}
    web.terminate()
    web.ended()  # so no ring is still on its way
    (message,) = web.messages()
    assert json.loads(message)["headers"]["task"] == "worker.tasks.drain"
    assert PERSON_MARKER not in message
    assert len(web.rows()) == 40


def test_an_answered_bell_rings_again(web: Web, redis_server: Redis) -> None:
    redis_server.flush()
    for _ in range(2):
        web.deliver(BODY)
        eventually(web.messages, "a message")
        redis_server.flush()  # as a worker does when it has heard


# Without Redis


def _promptly(web: Web) -> None:
    web.empty()
    start = time.monotonic()
    assert {web.deliver(BODY).status_code for _ in range(50)} == {204}
    assert time.monotonic() - start < 10  # waiting for Redis each time would be 0.2 s each, or for ever
    assert len(web.rows()) == 50


def test_deliveries_are_taken_while_redis_is_away_or_frozen(
    start_web: StartWeb, database_url: str, own_redis: EmbeddedRedis
) -> None:
    with own_redis.stopped():
        web = start_web(database_url, own_redis.url)
        _promptly(web)
    eventually(lambda: web.deliver(BODY).status_code == 204 and web.messages(), "a ring once Redis is back")
    own_redis.flush()
    own_redis.pause()
    try:
        _promptly(web)
    finally:
        own_redis.resume()
    own_redis.flush()
    eventually(lambda: web.deliver(BODY).status_code == 204 and web.messages(), "a ring once Redis answers")
    assert 1 <= web.output.count("doorbell_silent") <= 2  # a line for each time it was away, no more
