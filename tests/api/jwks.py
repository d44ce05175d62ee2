"""A tenant's `/.well-known/jwks.json`, over HTTPS on 127.0.0.1, that rotates, fails, hangs and counts."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import trustme
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from jwt.algorithms import RSAAlgorithm

AUDIENCE = "https://api.music.example/"
USER = "auth0|507f1f77bcf86cd799439011"


class Key:
    """A key that signs tokens."""

    def __init__(self, kid: str, bits: int = 2048) -> None:
        self.kid = kid
        self.private: RSAPrivateKey = generate_private_key(public_exponent=65537, key_size=bits)

    def jwk(self, **changes: Any) -> dict[str, Any]:
        """Return it as Auth0 publishes it; a change to None takes a member out."""
        public = RSAAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        members = {"kty": "RSA", "use": "sig", "n": public["n"], "e": public["e"], "kid": self.kid, "alg": "RS256"}
        return {name: value for name, value in (members | changes).items() if value is not None}

    def sign(self, claims: dict[str, Any], algorithm: str = "RS256", **header: Any) -> str:
        headers = {"kid": self.kid, **header}
        return jwt.encode(
            claims, self.private, algorithm, {name: value for name, value in headers.items() if value is not None}
        )


class JwksServer:
    """Answers with `body`, or as told; `fetches` counts the requests."""

    def __init__(self, domain: str, ca_file: Path) -> None:
        self.domain, self.ca_file = domain, ca_file
        self.status, self.body = 200, b'{"keys": []}'
        self.redirect_to = ""  # where the next request is sent instead
        self.dribbles = False  # a byte every tenth of a second
        self.fetches = 0
        self._open = threading.Event()
        self._open.set()

    @property
    def issuer(self) -> str:
        return f"https://{self.domain}/"

    def publish(self, *keys: Key | dict[str, Any]) -> None:
        found = [key.jwk() if isinstance(key, Key) else key for key in keys]
        self.status, self.body = 200, json.dumps({"keys": found}).encode()

    def fail(self, status: int = 503) -> None:
        self.status = status

    def hang(self) -> None:
        """Accept requests and answer none until `resume`."""
        self._open.clear()

    def resume(self) -> None:
        self._open.set()

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Return the claims of a person's access token, as Auth0 makes them; a change to None takes one out."""
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "sub": USER,
            "aud": [AUDIENCE, f"{self.issuer}userinfo"],
            "iat": now,
            "exp": now + 3600,
            "scope": "openid profile",
            "azp": "spa",
        }
        return {name: value for name, value in (claims | changes).items() if value is not None}

    def answer(self) -> tuple[int, bytes]:
        self.fetches += 1
        self._open.wait()
        return self.status, self.body

    def pieces(self, body: bytes) -> Iterator[bytes]:
        if not self.dribbles:
            yield body
            return
        for byte in body:
            yield bytes([byte])
            time.sleep(0.1)


@contextmanager
def jwks_server(folder: Path) -> Iterator[JwksServer]:
    authority = trustme.CA()
    ca_file = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/.well-known/jwks.json"
            status, body = server.answer()
            elsewhere, server.redirect_to = server.redirect_to, ""
            self.send_response(302 if elsewhere else status)
            if elsewhere:
                self.send_header("location", elsewhere)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            with suppress(OSError):  # whoever asked may have left
                for piece in server.pieces(body):
                    self.wfile.write(piece)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.socket = context.wrap_socket(http.socket, server_side=True)
        server = JwksServer(f"127.0.0.1:{http.server_address[1]}", ca_file)
        threading.Thread(target=http.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.resume()
            http.shutdown()
