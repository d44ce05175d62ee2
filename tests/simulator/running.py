"""A running simulator and a receiver of its log streams, as tests hold them."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote

import httpx
from auth0.management import ManagementClient

DEADLINE_SECONDS = 30.0


class Simulator:
    """One process, its control plane and its Management API."""

    def __init__(self, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "simulator", "--exit-with-parent", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.ready: dict[str, str] = json.loads(self.process.stdout.readline())
        self.origin = f"https://{self.ready['domain']}"
        self.tls = ssl.create_default_context(cafile=self.ready["ca_file"])
        self.http = httpx.Client(base_url=self.origin, verify=self.tls, timeout=DEADLINE_SECONDS)
        self._control = httpx.Client(base_url=self.ready["control_url"], timeout=120)

    def control(self, method: str, path: str, asked: Any = None) -> Any:
        """Call the control plane; anything but 200 fails the test."""
        answer = self._control.request(method, f"/_sim/{path}", json=asked)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refused(self, method: str, path: str, asked: Any) -> str:
        """Call the control plane with something it cannot do; answers its message."""
        answer = self._control.request(method, f"/_sim/{path}", json=asked)
        assert answer.status_code == 400, answer.text
        return str(answer.json()["message"])

    def ask_for_token(self, **changes: str) -> httpx.Response:
        asked = {
            "grant_type": "client_credentials",
            "client_id": self.ready["client_id"],
            "client_secret": self.ready["client_secret"],
            "audience": f"{self.origin}/api/v2/",
        }
        return self.http.post("/oauth/token", json={**asked, **changes})

    def token(self, *scopes: str, seconds: int = 86_400) -> str:
        """A token of the default client, or of a new one with exactly these scopes."""
        client = self.control("POST", "clients", {"scopes": scopes, "token_seconds": seconds}) if scopes else {}
        return str(self.ask_for_token(**client).json()["access_token"])

    def api(self, method: str, path: str, token: str | None = None, **request: Any) -> httpx.Response:
        """Call the Management API with a bearer token."""
        headers = {"Authorization": f"Bearer {token or self.default_token}", **request.pop("headers", {})}
        return self.http.request(method, f"/api/v2/{path}", headers=headers, **request)

    @property
    def default_token(self) -> str:
        if not hasattr(self, "_default_token"):
            self._default_token = self.token()
        return self._default_token

    def management(self) -> ManagementClient:
        """Auth0's own client, unchanged but for the certificate authority."""
        return ManagementClient(domain=self.ready["domain"], token=self.default_token, httpx_client=self.http)

    def user(self, user_id: str) -> dict[str, Any]:
        answer = self.api("GET", f"users/{quote(user_id, safe='')}")
        assert answer.status_code == 200, answer.text
        profile: dict[str, Any] = answer.json()
        return profile

    def sign_up(self, count: int = 1, **how: Any) -> list[str]:
        user_ids: list[str] = self.control("POST", "people/signup", {"count": count, **how})["user_ids"]
        return user_ids

    def act(self, user_id: str, act: str, **how: Any) -> dict[str, Any]:
        done: dict[str, Any] = self.control("POST", "people/act", {"user_id": user_id, "act": act, **how})
        return done

    def truth(self, limit: int = 1000) -> dict[str, dict[str, Any]]:
        """Every live user by id."""
        users: dict[str, dict[str, Any]] = {}
        cursor: str | None = ""
        while cursor is not None:
            page = self._control.get("/_sim/truth", params={"cursor": cursor, "limit": limit}).json()
            users |= {user["user_id"]: user for user in page["users"]}
            cursor = page["next"]
        return users

    def pull_logs(self, since: str = "") -> list[dict[str, Any]]:
        """The whole log, by checkpoint."""
        found: list[dict[str, Any]] = []
        while page := self.api("GET", "logs", params={"from": since, "take": 100}).json():
            found += page
            since = page[-1]["log_id"]
        return found

    def logs_of(self, do: Callable[[], Any]) -> list[dict[str, Any]]:
        """The records that are written while `do` runs."""
        newest = self.api("GET", "logs", params={"per_page": 1}).json()[0]["log_id"]
        do()
        return self.pull_logs(newest)

    def search(self, q: str, **params: Any) -> list[dict[str, Any]]:
        answer = self.api("GET", "users", params={"q": q, **params})
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()
        return found

    def stream_to(self, receiver: Receiver, **settings: Any) -> dict[str, Any]:
        """Create a log stream to the receiver."""
        sink = {"httpEndpoint": receiver.url, "httpAuthorization": "a token", "httpContentFormat": "JSONARRAY"}
        body = {"name": "test", "type": "http", "sink": {**sink, **settings.pop("sink", {})}, **settings}
        answer = self.api("POST", "log-streams", json=body)
        assert answer.status_code == 200, answer.text
        stream: dict[str, Any] = answer.json()
        return stream

    def drain(self, seconds: float = DEADLINE_SECONDS) -> int:
        return int(self.control("POST", "streams/drain", {"seconds": seconds})["pending"])

    def stop(self) -> tuple[int, str]:
        """Close its standard input; answers the exit code and what it wrote to standard error."""
        self.http.close()
        self._control.close()
        _, errors = self.process.communicate(timeout=DEADLINE_SECONDS)
        return self.process.returncode, errors


class Receiver:
    """An endpoint for log streams that keeps what it gets and answers what it is told to."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.deliveries: list[tuple[dict[str, str], bytes]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.deliveries.append((dict(self.headers), body))
                self.send_response(receiver.answers.pop(0) if receiver.answers else 204)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/logs"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def records(self) -> list[dict[str, Any]]:
        """Everything received so far, of JSONARRAY deliveries."""
        return [record for _, body in list(self.deliveries) for record in json.loads(body)]

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def eventually(holds: Callable[[], Any]) -> Any:
    """Wait for something to become true; the generous deadline only bounds a failing test."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (found := holds()):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)
    return found
