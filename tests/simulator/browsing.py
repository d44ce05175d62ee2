"""A browser without a screen, and an application that people log in to."""

from __future__ import annotations

import base64
import hashlib
import html
import re
import secrets
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt

from tests.simulator.running import DEADLINE_SECONDS, Simulator

API = "https://api.music.example/"
CALLBACK = "http://127.0.0.1:8000/callback"
HOME = "http://127.0.0.1:8000/"


class Application:
    """An application registered with the tenant, on its domain or (`plain`) on that of browsers."""

    def __init__(self, tenant: Simulator, *, plain: bool = False, **settings: Any) -> None:
        self.tenant = tenant
        self.issuer = tenant.ready["browser_issuer"] if plain else f"{tenant.origin}/"
        registered = {"name": "Test app", "callbacks": [CALLBACK], "allowed_logout_urls": [HOME], **settings}
        self.credentials: dict[str, str] = tenant.control("POST", "clients", registered)
        self.client_id = self.credentials["client_id"]
        self.verifier = secrets.token_urlsafe(48)

    def browser(self) -> Browser:
        return Browser(self)

    def parameters(self, **changes: str | None) -> dict[str, str]:
        """What a careful application sends to `/authorize`."""
        digest = hashlib.sha256(self.verifier.encode()).digest()
        usual: dict[str, str | None] = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": CALLBACK,
            "scope": "openid profile email",
            "audience": API,
            "state": "a state",
            "nonce": "a nonce",
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        return {name: value for name, value in {**usual, **changes}.items() if value is not None}

    def exchange(self, code: str, **changes: str | None) -> httpx.Response:
        """Exchange a code as the application's server does."""
        usual: dict[str, str | None] = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": CALLBACK,
            "code_verifier": self.verifier,
            **self.credentials,
        }
        asked = {name: value for name, value in {**usual, **changes}.items() if value is not None}
        return self.tenant.http.post(f"{self.issuer}oauth/token", data=asked)

    def tokens(self, code: str, **changes: str | None) -> dict[str, Any]:
        answer = self.exchange(code, **changes)
        assert answer.status_code == 200, answer.text
        tokens: dict[str, Any] = answer.json()
        return tokens

    def claims(self, token: str, audience: str) -> dict[str, Any]:
        """Verify a token by the issuer's keys."""
        keys = jwt.PyJWKSet.from_dict(self.tenant.http.get(f"{self.issuer}.well-known/jwks.json").json())
        key = keys[jwt.get_unverified_header(token)["kid"]]
        claims: dict[str, Any] = jwt.decode(token, key.key, algorithms=["RS256"], audience=audience, issuer=self.issuer)
        return claims


class Browser:
    """Follows redirects inside the tenant, keeps its cookies, and stops where the application would take over."""

    def __init__(self, application: Application) -> None:
        self.application = application
        self._http = httpx.Client(
            base_url=application.issuer, verify=application.tenant.tls, timeout=DEADLINE_SECONDS, follow_redirects=False
        )

    def get(self, path: str, **params: str) -> httpx.Response:
        return self._followed(self._http.get(path, params=params))

    def authorize(self, **changes: str | None) -> httpx.Response:
        """Open `/authorize`; the login page, an error page, or the redirect to the application."""
        return self.get("/authorize", **self.application.parameters(**changes))

    def submit(self, page: httpx.Response, **typed: str) -> httpx.Response:
        """Send the page's form, with its hidden fields."""
        hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page.text))
        return self._followed(
            self._http.post("/u/login", data={**{k: html.unescape(v) for k, v in hidden.items()}, **typed})
        )

    def log_in(self, who: str, **changes: str | None) -> dict[str, str]:
        """Log in with an e-mail address or a user id; answers what the callback hears."""
        return heard(self.submit(self.authorize(**changes), who=who))

    def cookies(self) -> dict[str, str]:
        return dict(self._http.cookies)

    def close(self) -> None:
        self._http.close()

    def _followed(self, answer: httpx.Response) -> httpx.Response:
        while answer.is_redirect and answer.headers["location"].startswith("/"):
            answer = self._http.get(answer.headers["location"])
        return answer


def heard(answer: httpx.Response) -> dict[str, str]:
    """The parameters with which the application is called back."""
    assert answer.status_code == 302, answer.text
    location = answer.headers["location"]
    assert location.startswith(CALLBACK), location
    return {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}
