"""The simulator (`python -m simulator`) as a process, and what is asked of it over HTTP."""

from __future__ import annotations

import json
import ssl
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx

from local.processes import Process, Processes

_PAGE = 500  # users per page of the truth


@dataclass(frozen=True)
class SimulatedTenant:
    """A running tenant: where it is, and the credentials of an application that may do everything.

    `browser_issuer` is its second domain, where people log in without TLS, with the slash at its end.
    """

    domain: str
    browser_issuer: str
    control_url: str
    ca_file: str
    client_id: str
    client_secret: str = field(repr=False)
    plan: str
    process: Process

    @classmethod
    def start(cls, processes: Processes, data: Path, *, seed: int = 1, plan: str = "enterprise") -> Self:
        """Start one. Its certificate authority's file goes into `data`."""
        options = [f"--data={data}", f"--seed={seed}", f"--plan={plan}", "--index-lag=0.5", "--log-skew=5"]
        process = processes.start("simulator", [sys.executable, "-m", "simulator", *options], announces=True)
        said = json.loads(process.announcement)
        names = ("domain", "browser_issuer", "control_url", "ca_file", "client_id", "client_secret")
        return cls(**{name: said[name] for name in names}, plan=plan, process=process)

    def control(self, method: str, path: str, body: Any = None, *, timeout: float = 120) -> Any:
        """Call the control plane: `control("POST", "people/login", {"count": 1})`."""
        url = f"{self.control_url.rstrip('/')}/_sim/{path}"
        # Plain HTTP: to load the authorities, which nobody asks, would take longer than the call.
        answer = httpx.request(method, url, json=body, timeout=timeout, trust_env=False, verify=False)  # noqa: S501
        answer.raise_for_status()
        return answer.json()

    def log_in(self, user_id: str) -> bool:
        """Let somebody log in; False if they were deleted, blocked or linked away meanwhile."""
        try:
            answer = self.control("POST", "people/login", {"user_ids": [user_id]})
        except httpx.HTTPStatusError as error:
            if error.response.status_code != 404:
                raise
            return False
        return bool(answer["user_ids"] == [user_id])

    def create_web_application(self, url: str) -> tuple[str, str]:
        """Register the application that people log in to at `url`, without a slash; return its id and its secret."""
        asked = {"name": "Understudy", "callbacks": [f"{url}/callback"], "allowed_logout_urls": [f"{url}/"]}
        made = self.control("POST", "clients", asked)
        return str(made["client_id"]), str(made["client_secret"])

    def truth(self) -> Iterator[dict[str, Any]]:
        """Yield every live user as `GET /api/v2/users/{id}` would answer it."""
        cursor: str | None = ""
        while cursor is not None:
            page = self.control("GET", f"truth?{httpx.QueryParams(cursor=cursor, limit=_PAGE)}")
            yield from page["users"]
            cursor = page["next"]

    def create_log_stream(self, endpoint: str, authorization: str) -> str:
        """Connect a log stream as an operator would, through the Management API; return its id."""
        with httpx.Client(
            base_url=f"https://{self.domain}",
            verify=ssl.create_default_context(cafile=self.ca_file),
            timeout=30,
            trust_env=False,
        ) as client:
            grant = {
                "grant_type": "client_credentials",
                "client_id": self.client_id,
                "client_secret": self.client_secret,
                "audience": f"https://{self.domain}/api/v2/",
            }
            token = client.post("/oauth/token", json=grant).raise_for_status().json()["access_token"]
            sink = {
                "httpEndpoint": endpoint,
                "httpContentType": "application/json",
                "httpContentFormat": "JSONLINES",
                "httpAuthorization": authorization,
            }
            stream = {"name": "understudy", "type": "http", "sink": sink}
            answer = client.post("/api/v2/log-streams", json=stream, headers={"Authorization": f"Bearer {token}"})
            return str(answer.raise_for_status().json()["id"])
