"""Those who use the page: people of the simulated tenant, and browsers without a screen."""

from __future__ import annotations

import html
import itertools
import re
import uuid
from dataclasses import dataclass, field
from typing import Any, Self

import httpx

from local.product import MUSIC_API
from tests.journeys.stage import Stage

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Member:
    """Somebody at the tenant; `token` is an access token for the API."""

    stage: Stage
    user_id: str
    email: str
    token: str = field(repr=False)

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """Call the API as this person; returns the JSON answered, if any."""
        headers = {"Authorization": f"Bearer {self.token}"}
        answer = httpx.request(
            method, self.stage.product.url + path, json=body, headers=headers, timeout=30, trust_env=False
        )
        assert answer.is_success, answer.text
        is_json = answer.headers.get("content-type", "").startswith("application/json")
        return answer.json() if is_json else answer.text

    def play(self, playlist: int) -> None:
        self.api("POST", f"/playlists/{playlist}/plays", {"play_id": str(uuid.uuid4())})

    def act(self, act: str, **how: Any) -> None:
        """Have this person do something at the tenant, or have it done to them."""
        self.stage.tenant.control("POST", "people/act", {"act": act, "user_id": self.user_id, **how})

    def truth(self) -> dict[str, Any]:
        """Return what the tenant has of this person."""
        return next(user for user in self.stage.tenant.truth() if user["user_id"] == self.user_id)

    def row(self, columns: str) -> tuple[Any, ...]:
        """Return columns of the local copy."""
        quoted = self.user_id.replace("'", "''")
        return self.stage.query(f"SELECT {columns} FROM live_users WHERE user_id = '{quoted}'")[0]  # noqa: S608


def copied(stage: Stage, name: str) -> Member:
    """Sign somebody up, and wait until the copy has them."""
    email = f"{name.lower()}.{next(_numbers)}@example.com"
    (user_id,) = stage.sign_up(1, profile={"email": email, "name": name}, connection="Username-Password-Authentication")
    token = stage.tenant.control(
        "POST", "tokens", {"user_id": user_id, "audience": MUSIC_API, "issuer": stage.tenant.browser_issuer}
    )
    member = Member(stage, user_id, email, token["access_token"])
    stage.wait_until(lambda: stage.count(f"live_users WHERE email = '{email}'") == 1, "the copy of somebody new")
    return member


class Visitor:
    """A browser without a screen, scripts, or manners: it shows what is sent over the wire."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.http = httpx.Client(base_url=stage.product.url, follow_redirects=False, timeout=30, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    @property
    def cookie(self) -> str:
        return self.http.cookies.get("understudy") or ""

    def get(self, path: str = "/", **request: Any) -> httpx.Response:
        return self.http.get(path, **request)

    def begin(self) -> httpx.Response:
        """Go to log in; answers the tenant's login page, or ours if the tenant knows who that is."""
        answer = self.get("/login")
        while answer.is_redirect:
            answer = self.http.get(str(answer.next_request.url)) if answer.next_request else answer
        return answer

    def submit(self, page: httpx.Response, who: str) -> httpx.Response:
        """Tell the tenant who one is; answers its redirect to the callback, not followed."""
        hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page.text))
        fields = {**{name: html.unescape(value) for name, value in hidden.items()}, "who": who}
        return self.http.post(str(page.url.join("/u/login")), data=fields)

    def log_in(self, member: Member) -> httpx.Response:
        """Log in; answers the page."""
        page = self.begin()
        if page.url.path == "/u/login":
            answer = self.get(self.submit(page, member.email).headers["location"])
            assert answer.status_code == 303, answer.text
        return self.get()

    def csrf(self) -> str:
        found = re.search(r'name="csrf" value="(\w+)"', self.get().text)
        assert found is not None
        return found[1]

    def post(self, path: str, **fields: str) -> httpx.Response:
        """Send a form, with the token of this session unless another is given; answers the page it leads to, if any."""
        answer = self.http.post(path, data={"csrf": fields.pop("csrf", None) or self.csrf(), **fields})
        return self.get(answer.headers["location"]) if answer.status_code == 303 else answer
