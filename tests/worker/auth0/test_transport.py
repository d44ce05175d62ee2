"""However a host answers, it takes bounded time and memory, sent either way."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trustme

from worker.auth0.transport import MAX_ANSWER_BYTES, Answer, Many, exchange, longest_exchange, open_client
from worker.errors import TenantDown
from worker.settings import Settings

PROFILE = b'{"user_id":"auth0|a"}'
GREEDY = b" " * (MAX_ANSWER_BYTES + 1)
Ask = Callable[[str], Answer]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        sort = self.path.removeprefix("/")
        body = {"greedy": GREEDY, "bomb": gzip.compress(GREEDY * 4), "packed": gzip.compress(PROFILE)}.get(
            sort, PROFILE
        )
        self.send_response(302 if sort == "elsewhere" else 200)
        self.send_header("location", "/profile")
        self.send_header("set-cookie", "a=b")
        self.send_header("x-cookie", self.headers.get("cookie", ""))
        self.send_header("content-encoding", "gzip" if sort in ("bomb", "packed") else "identity")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        with suppress(OSError):  # whoever asked may have left
            if sort == "dribbles":
                for byte in body:
                    self.wfile.write(bytes([byte]))
                    time.sleep(0.3)
            else:
                self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A tenant that answers as its path says."""
    authority, ca_file = trustme.CA(), Path(tmp_path_factory.mktemp("ca")) / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield Settings.model_validate(
            {
                "database_url": "postgresql://nobody@127.0.0.1/none",
                "redis_url": "redis://127.0.0.1",
                "auth0_domain": f"127.0.0.1:{server.server_port}",
                "auth0_ca_file": ca_file,
                "auth0_timeout": 0.5,
            }
        )
        server.shutdown()
        thread.join()


@pytest.fixture(params=["alone", "among many"])
def ask(request: pytest.FixtureRequest, settings: Settings) -> Ask:
    def alone(path: str) -> Answer:
        with open_client(settings) as client:
            headers = {"Authorization": "Bearer x"}
            return exchange(lambda: client.get(f"https://{settings.auth0_domain}{path}", headers=headers))

    async def among(path: str) -> Answer:
        many = Many(settings)
        try:
            await many.get("/profile", "x")
            return await many.get(path, "x")
        finally:
            await many.close()

    return alone if request.param == "alone" else lambda path: asyncio.run(among(path))


@pytest.mark.parametrize("path", ["/profile", "/packed"])
def test_an_answer_is_its_status_headers_and_bytes(ask: Ask, path: str) -> None:
    answer = ask(path)
    assert (answer.status, answer.body, answer.token) == (200, PROFILE, "x")
    assert answer.headers["Set-Cookie"] == "a=b"


def test_no_cookie_is_kept_and_nobody_is_followed(ask: Ask) -> None:
    answer = ask("/elsewhere")
    assert answer.status == 302
    assert answer.headers["x-cookie"] == ""


@pytest.mark.parametrize("path", ["/greedy", "/bomb"])
def test_no_more_is_read_than_an_answer_may_hold(ask: Ask, path: str) -> None:
    with pytest.raises(TenantDown):
        ask(path)


def test_who_dribbles_is_given_up(ask: Ask, settings: Settings) -> None:
    began = time.monotonic()
    with pytest.raises(TenantDown):
        ask("/dribbles")
    assert time.monotonic() - began < longest_exchange(settings) + 1
