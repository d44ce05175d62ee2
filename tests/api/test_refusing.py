"""Who is refused, before a byte of the body is read, and what a refusal says and leaves."""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from local.product import WEBHOOK
from local.servers import EmbeddedPostgres
from tests.api.conftest import StartWeb
from tests.api.web import (
    NEXT_TOKEN,
    PERSON_MARKER,
    SECRET_MARKER,
    TOKEN,
    Headers,
    Web,
    Wire,
    eventually,
)
from tests.corpus import MIB

BODY = b'{"log_id":"1","data":{"user_name":"' + PERSON_MARKER.encode() + b'@example.com"}}\n'

NOT_QUITE = {
    "nothing": "",
    "one character less": TOKEN[:-1],
    "one character more": TOKEN + "x",
    "another first character": "Y" + TOKEN[1:],
    "other capitals": TOKEN.swapcase(),
    "a scheme before it": f"Bearer {TOKEN}",
    "the scheme left out": NEXT_TOKEN.removeprefix("Bearer "),
    "the scheme in capitals": NEXT_TOKEN.replace("Bearer", "BEARER"),
    "both, as the setting has them": f"{TOKEN},{NEXT_TOKEN}",
    "a megabyte less one": "x" * 60_000,
}


def _is_refused(web: Web, headers: Headers) -> None:
    response = web.post(BODY, headers)
    assert response.status_code == 401
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["www-authenticate"]
    assert response.json()["status"] == 401
    assert SECRET_MARKER not in response.text
    assert web.rows() == []


@pytest.mark.parametrize("token", NOT_QUITE.values(), ids=NOT_QUITE.keys())
def test_a_token_that_is_not_quite_right_is_refused(web: Web, token: str) -> None:
    _is_refused(web, [(b"authorization", token.encode())])


@pytest.mark.parametrize("token", [b"\xff\xfe\x80", TOKEN.encode() + b"\xa0", "pässwörd".encode(), b"p\xe4ssw\xf6rd"])
def test_bytes_beyond_ascii_are_refused_and_break_nothing(web: Web, token: bytes) -> None:
    _is_refused(web, [(b"authorization", token)])


def test_no_token_is_refused(web: Web) -> None:
    _is_refused(web, [])
    _is_refused(web, [(b"x-authorization", TOKEN.encode()), (b"proxy-authorization", TOKEN.encode())])


def test_two_tokens_are_refused_even_if_both_are_right(web: Web) -> None:
    _is_refused(web, [(b"authorization", TOKEN.encode()), (b"Authorization", NEXT_TOKEN.encode())])
    _is_refused(web, [(b"authorization", TOKEN.encode()), (b"authorization", TOKEN.encode())])


def test_a_token_in_the_url_or_the_body_opens_nothing(web: Web) -> None:
    with Wire(web.port) as wire:
        wire.send(f"POST {WEBHOOK}?authorization={TOKEN} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n".encode())
        assert b" 401 " in wire.hear()
    assert web.deliver(TOKEN.encode(), token=None).status_code == 401


def test_the_token_is_compared_before_the_body_is_read(web: Web) -> None:
    with web.begin(MIB, "wrong", "expect: 100-continue") as wire:
        answer = wire.hear()  # no byte of the body was sent
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert b"100 Continue" not in answer
    with web.begin(len(BODY), TOKEN, "expect: 100-continue") as wire:
        assert wire.hear().startswith(b"HTTP/1.1 100 ")
        wire.send(BODY)
        assert b" 204 " in wire.hear(b" 204 ")
    with web.begin(MIB, "wrong", "content-encoding: gzip") as wire:
        wire.send(gzip.compress(bytes(MIB)))
        assert wire.hear().startswith(b"HTTP/1.1 401 ")
    assert [row.body for row in web.rows()] == [BODY]


def test_a_token_beyond_ascii_is_right_in_both_its_spellings(
    start_web: StartWeb, database_url: str, redis_url: str
) -> None:
    web = start_web(database_url, redis_url, LOG_STREAM_TOKENS="pässwörd")
    assert web.deliver(BODY, "pässwörd".encode()).status_code == 204
    assert web.deliver(BODY, "pässwörd".encode("latin-1")).status_code == 204
    assert web.deliver(BODY, "password").status_code == 401
    assert len(web.rows()) == 2
    # Every refusal is counted, with the time of the latest; only some of them wait for the next write.
    for _ in range(10):
        assert web.deliver(BODY, "wrong").status_code == 401
    eventually(lambda: web.counter("unauthorized_logs") == 11, "the counter of refusals")
    ((recent,),) = web.sql("SELECT now() - latest_at < '20 s' FROM counters WHERE name = 'unauthorized_logs'")
    assert recent


def test_refusals_are_counted_at_most_once_a_second(web: Web) -> None:
    web.sql("CREATE SEQUENCE counter_writes MINVALUE 0")
    web.sql("""CREATE FUNCTION note_write() RETURNS trigger LANGUAGE plpgsql AS
               $$ BEGIN PERFORM nextval('counter_writes'); RETURN NULL; END $$""")
    web.sql("CREATE TRIGGER noted AFTER INSERT OR UPDATE ON counters EXECUTE FUNCTION note_write()")
    count = web.counter("unauthorized_logs")
    for _ in range(100):
        web.deliver(BODY, "wrong")
    eventually(lambda: web.counter("unauthorized_logs") >= count + 100, "the counter of refusals")
    ((written,),) = web.sql("SELECT last_value FROM counter_writes")
    assert written < 50


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_other_methods_are_not_allowed(web: Web, method: str) -> None:
    with Wire(web.port) as wire:
        wire.send(f"{method} {WEBHOOK} HTTP/1.1\r\nhost: x\r\nauthorization: {TOKEN}\r\n\r\n".encode())
        answer = wire.hear(b'"status": 405').lower()
    assert answer.startswith(b"http/1.1 405 ")
    assert b"application/problem+json" in answer
    assert b"allow: post" in answer


@pytest.mark.parametrize("path", ["/webhooks/auth0", "/webhooks/auth0/logs/more", "/docs", "/%00", "/..%2f"])
def test_an_unknown_path_is_not_found(web: Web, path: str) -> None:
    response = web.get(path)
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["title"] == "Not Found"


@pytest.mark.parametrize("head", [b"nonsense\r\n\r\n", b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: x\r\n\r\n"])
def test_what_is_no_http_is_a_bad_request(web: Web, head: bytes) -> None:
    with Wire(web.port) as wire:
        wire.send(head)
        assert wire.hear().startswith(b"HTTP/1.1 400 ")
    assert web.deliver(BODY).status_code == 204


def test_a_client_that_leaves_in_the_middle_stores_nothing(web: Web) -> None:
    def pieces() -> Iterator[bytes]:
        yield BODY
        raise InterruptedError

    with web.begin(1_000) as wire:
        wire.send(BODY)
    with pytest.raises(InterruptedError):
        web.deliver(pieces())
    assert web.deliver(BODY).status_code == 204
    assert [row.body for row in web.rows()] == [BODY]


def test_a_slow_sender_is_cut_off_and_holds_nobody_up(web: Web) -> None:
    with web.begin(1_000) as wire:
        for _ in range(3):
            wire.send(b"x")
            assert web.deliver(BODY).status_code == 204
        heard = wire.hear_out()  # it ends though nothing more is sent
    assert heard.startswith(b"HTTP/1.1 408 ")
    assert b"application/problem+json" in heard
    assert [row.body for row in web.rows()] == [BODY] * 3


def test_no_output_tells_of_secrets_or_people(
    start_web: StartWeb, own_postgres: EmbeddedPostgres, redis_url: str
) -> None:
    """Drives every failure there is; what was said is searched for markers when each process of these tests ends."""
    web = start_web(own_postgres.url, redis_url, LOG_LEVEL="debug", MAX_DELIVERY_BYTES="2048")

    def fail() -> None:
        web.deliver(BODY)
        web.deliver(BODY, f"{TOKEN}-wrong")
        web.deliver(BODY * 100)
        web.deliver(BODY, content_encoding=PERSON_MARKER)
        web.deliver(gzip.compress(BODY)[:-9], content_encoding="gzip")
        web.get(f"{WEBHOOK}?email={PERSON_MARKER}&token={TOKEN}")
        web.get(f"/{PERSON_MARKER}")
        with web.begin(1_000) as wire:
            wire.send(BODY)
        with Wire(web.port) as wire:
            wire.send(f"{PERSON_MARKER} {TOKEN}\r\n\r\n".encode())
            wire.hear()

    fail()
    # PostgreSQL's message quotes the constraint's name, as others quote values.
    web.sql(f'ALTER TABLE inbox ADD CONSTRAINT "{PERSON_MARKER}" CHECK (id < 0) NOT VALID')
    try:
        assert web.deliver(BODY).status_code == 503
    finally:
        web.sql(f'ALTER TABLE inbox DROP CONSTRAINT "{PERSON_MARKER}"')
    eventually(lambda: web.deliver(BODY).status_code == 204, "deliveries to be taken again")
    with own_postgres.stopped():
        fail()
        assert web.get("/readyz").status_code == 503
    assert "oversize_delivery" in web.output  # somebody listened
    assert "inbox_unavailable" in web.output
    password = own_postgres.url.partition(":")[2].partition(":")[2].partition("@")[0]
    assert password not in web.output


def test_the_rest_of_a_refused_body_is_let_in_so_that_the_refusal_is_heard(web: Web) -> None:
    with web.begin(4 * MIB, "wrong") as wire:
        assert wire.hear().startswith(b"HTTP/1.1 401 ")
        for _ in range(4):
            wire.send(bytes(MIB))
        wire.heard = b""
        wire.send(HEAD + BODY)
        assert b" 204 " in wire.hear()


def test_a_slash_too_many_is_told_and_not_led_elsewhere(web: Web) -> None:
    response = web.client.post(f"{WEBHOOK}/", content=BODY, headers={"authorization": TOKEN})
    assert response.status_code == 404


HEAD = f"POST {WEBHOOK} HTTP/1.1\r\nhost: x\r\nauthorization: {TOKEN}\r\ncontent-length: {len(BODY)}\r\n\r\n".encode()


def test_heads_that_never_end_are_cut_off(web: Web) -> None:
    with ExitStack() as stack:
        silent, half, dripping, blank = (stack.enter_context(Wire(web.port)) for _ in range(4))
        half.send(HEAD[:30])
        dripping.send(b"GET / HTTP/1.1\r\nx: ")
        blank.send(HEAD + BODY)
        assert b" 204 " in blank.hear()
        with suppress(OSError):  # the other side has closed
            for _ in range(40):
                dripping.send(b"y")
                blank.send(b"\r\n")
                time.sleep(0.5)
        for wire in (silent, half, dripping, blank):
            wire.hear_out()
        assert (silent.heard, half.heard, dripping.heard) == (b"", b"", b"")
    assert web.deliver(BODY).status_code == 204


def test_a_head_without_end_is_cut_off_at_once(web: Web) -> None:
    with Wire(web.port) as wire, suppress(OSError):
        wire.send(b"GET / HTTP/1.1\r\n")
        for _ in range(100):
            wire.send(b"x" * 65_536)
        pytest.fail("6 MB of a head were taken")


def test_heads_in_pieces_are_served_also_on_a_connection_in_use(web: Web) -> None:
    with Wire(web.port) as wire:
        for number in range(3):
            for start in range(0, len(HEAD), 40):
                wire.send(HEAD[start : start + 40])
                time.sleep(0.02)
            wire.send(BODY)
            wire.heard = b""
            assert b" 204 " in wire.hear(), number
    assert len(web.rows()) == 3
