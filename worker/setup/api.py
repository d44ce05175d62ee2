"""Asks Auth0 to list, make, change and delete what setup cares for, with setup's own token."""

import time
from collections.abc import Iterable
from typing import Any, Final

import httpx
import msgspec

from worker.auth0.pace import pause_from
from worker.auth0.transport import Answer, exchange, open_client
from worker.errors import Permanent, Refused, TenantDown, Throttled
from worker.settings import Settings
from worker.setup.credentials import Credentials

# The free plan allows two requests a second, and a person waits for this.
_TRIES: Final = 6
_LONGEST_PAUSE: Final = 30.0


class Management:
    """The Management API for a person at a terminal: a 429 is waited out, anything else that is wrong ends the command."""

    def __init__(self, settings: Settings, credentials: Credentials) -> None:
        credentials.check()
        self._base = f"https://{settings.auth0_domain}"
        self._http: httpx.Client = open_client(settings)
        self._token, self.scopes = self._fetch_token(credentials)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def need(self, scopes: Iterable[str]) -> None:
        """Raise Refused naming every scope that the application lacks."""
        missing = [scope for scope in scopes if scope not in self.scopes]
        if missing:
            raise Refused(f"the setup application lacks these scopes, grant them in Auth0: {' '.join(missing)}")

    def get(self, path: str, **query: str) -> Any:
        """Return what is there."""
        return self._ask("GET", path, query=query)

    def post(self, path: str, body: Any = None) -> Any:
        """Make something; return it."""
        return self._ask("POST", path, body)

    def patch(self, path: str, body: Any) -> Any:
        """Change something; return it."""
        return self._ask("PATCH", path, body)

    def delete(self, path: str, **query: str) -> None:
        """Take something away; it may be gone already."""
        self._ask("DELETE", path, query=query, missing=True)

    def _ask(
        self, method: str, path: str, body: Any = None, *, query: dict[str, str] | None = None, missing: bool = False
    ) -> Any:
        answer = self._send(method, f"{self._base}/api/v2/{path}", body, query or {})
        if answer.status in (200, 201, 202):
            return msgspec.json.decode(answer.body)
        if answer.status == 204 or (missing and answer.status == 404):
            return None
        what = f"{method} /api/v2/{path.split('/', maxsplit=1)[0]}"
        code = answer.code("errorCode", "error")
        if answer.status == 403:
            raise Refused(f"Auth0 refuses {what}: {code or 403}; docs/operating.md lists the scopes that setup needs")
        if answer.status >= 500 or not code:
            raise TenantDown(f"Auth0 answered {answer.status} to {what}")
        raise Permanent(f"Auth0 rejects {what}: {answer.status} {code}")

    def _send(self, method: str, url: str, body: Any, query: dict[str, str]) -> Answer:
        headers = {"Authorization": f"Bearer {self._token}"}
        for attempt in range(_TRIES):
            answer = exchange(lambda: self._http.request(method, url, json=body, params=query or None, headers=headers))
            if answer.status != 429:
                return answer
            time.sleep(min(_LONGEST_PAUSE, pause_from(answer.headers) or 2.0**attempt))
        raise Throttled("Auth0 answers 429 again and again: try in a minute")

    def _fetch_token(self, credentials: Credentials) -> tuple[str, frozenset[str]]:
        asked = {
            "grant_type": "client_credentials",
            "client_id": credentials.auth0_setup_client_id,
            "client_secret": credentials.auth0_setup_client_secret.get_secret_value(),
            "audience": f"{self._base}/api/v2/",
        }
        answer = exchange(lambda: self._http.post(f"{self._base}/oauth/token", json=asked))
        said = answer.json_object() or {}
        token, scope = said.get("access_token"), said.get("scope", "")
        if answer.status == 200 and isinstance(token, str) and isinstance(scope, str):
            return token, frozenset(scope.split())
        code = answer.code("error")
        if code and answer.status < 500:
            raise Refused(
                f"Auth0 gives setup no token ({code}): check AUTH0_SETUP_CLIENT_ID and AUTH0_SETUP_CLIENT_SECRET, "
                "and that the application is authorized for the Auth0 Management API"
            )
        raise TenantDown(f"Auth0 answered {answer.status} to the token request")
