"""Makes pages of templates, with the headers that keep them to themselves."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse

from worker.settings import Settings

STATIC: Final = Path(__file__).parent / "static"


class Renderer:
    """Renders the pages of one PUBLIC_URL."""

    def __init__(self, settings: Settings) -> None:
        self._templates = Environment(
            loader=PackageLoader("api.pages"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters["ago"] = ago
        # A browser keeps a file for a year; a changed one has another address.
        digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(STATIC.iterdir())))
        self._templates.globals["version"] = digest.hexdigest()[:12]
        self.headers = _headers(settings)

    def page(self, name: str, status: int = 200, **shown: Any) -> HTMLResponse:
        """Return the page of a template."""
        return HTMLResponse(self._templates.get_template(name).render(**shown), status, self.headers)

    def message(self, status: int, title: str, text: str, *, again: bool = False) -> HTMLResponse:
        """Return a page that says one thing; `again` offers to log in."""
        return self.page("message.html", status, title=title, text=text, again=again)


def ago(then: datetime, now: datetime | None = None) -> str:
    """Say how long ago something was, in the words people use."""
    seconds = max(0.0, ((now or datetime.now(UTC)) - then).total_seconds())
    if seconds < 10:
        return "just now"
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")):
        if seconds >= size:
            number = int(seconds // size)
            return f"{number} {unit}{'s' if number > 1 else ''} ago"
    raise AssertionError(seconds)


def _headers(settings: Settings) -> Mapping[str, str]:
    issuer = urlsplit(settings.issuer)
    policy = {
        "default-src": "'none'",
        "style-src": "'self'",
        "script-src": "'self'",
        "img-src": "'self'",
        "connect-src": "'self'",
        # Browsers apply it to the redirect behind a form as well, and logging out leads to Auth0.
        "form-action": f"'self' {issuer.scheme}://{issuer.netloc}",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    headers = {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
    if settings.public_url.startswith("https:"):
        headers["Strict-Transport-Security"] = "max-age=31536000"
    return headers
