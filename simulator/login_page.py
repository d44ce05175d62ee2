"""The pages that people see at the tenant: the login form, and messages where no redirect is possible."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from msgspec import UNSET
from starlette.responses import HTMLResponse

from simulator.authorize_request import AuthorizeRequest
from simulator.connections import DATABASE
from simulator.users import User

PEOPLE_SHOWN = 6

_PAGES = Environment(
    loader=PackageLoader("simulator", "pages"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)


def login(
    request: AuthorizeRequest, state: str, people: Sequence[User], *, typed: str = "", problem: str = "",
    unknown: bool = False, several: bool = False,
) -> HTMLResponse:  # fmt: skip
    """Ask who it is. `unknown`: nobody has what was `typed`, they may sign up; `several`: the people are the choice."""
    return _page(
        "login.html",
        400 if problem else 200,
        application=request.client.name,
        state=state,
        people=[_shown(user, whole=several) for user in people],
        typed=typed,
        problem=problem,
        unknown=unknown,
        several=several,
    )


def message(status: int, title: str, text: str) -> HTMLResponse:
    return _page("message.html", status, title=title, text=text, is_error=status >= 400)


def _shown(user: User, *, whole: bool) -> dict[str, str]:
    """Name a person in two lines; the connection, where it is not the usual one or (`whole`) tells them apart."""
    named = [value for value in (user.name, user.email, user.phone_number, user.username) if value is not UNSET]
    distinct = list(dict.fromkeys(named)) or [user.user_id]
    connection = user.primary.connection
    via = [connection] if whole or connection != DATABASE else []
    notes = [*distinct[1:2], *via, *(["blocked"] if user.blocked is True else [])]
    return {"user_id": user.user_id, "label": distinct[0], "detail": " · ".join(notes)}


def _page(name: str, status: int, **shown: Any) -> HTMLResponse:
    nonce = secrets.token_urlsafe(16)
    # No form-action: browsers apply it to the redirect behind the form as well, and that leads to the application.
    policy = f"default-src 'none'; style-src 'nonce-{nonce}'; base-uri 'none'; frame-ancestors 'none'"
    headers = {"Content-Security-Policy": policy, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return HTMLResponse(_PAGES.get_template(name).render(nonce=nonce, **shown), status, headers)
