"""What every request for the page goes through: its host, its session, who that is by now, and how errors are told."""

import hashlib
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar
from urllib.parse import parse_qsl, urlsplit

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from api.bodies import Disconnected, Oversize, Room, SlowSender, read_body
from api.fields import MAX_BODY_BYTES, Body, Query
from api.operations import GONE, Call, Music, path_id
from api.pages.rendering import Renderer
from api.problems import Problem
from worker.errors import Error, Transient
from worker.logs import get_logger
from worker.music import Standing, WasForgotten
from worker.music.sessions import Session, Sessions
from worker.settings import Settings

log = get_logger(__name__)
Given = TypeVar("Given", bound=Body | Query)

# What the page's script says when it only looks whether something has arrived: that keeps no session from being idle.
_WATCHING: Final = "x-watching"


class Site:
    """What the page's routes reach for; it lives as long as the application."""

    def __init__(self, settings: Settings, music: Music) -> None:
        self.music, self.settings = music, settings
        self.renderer = Renderer(settings)
        self.sessions = Sessions(music.database, settings.session_lifetime, settings.session_idle_lifetime)
        self.home = f"{settings.public_url}/"
        self.host = urlsplit(settings.public_url).netloc
        self.is_secure = settings.public_url.startswith("https:")
        # Browsers take a cookie of this prefix from this very host alone, over TLS.
        self.cookie = "__Host-understudy" if self.is_secure else "understudy"
        self.room = Room()

    def set_cookie(self, answer: Response, session: Session) -> None:
        """Give the browser the session's id."""
        answer.set_cookie(
            self.cookie,
            session.session_id,
            max_age=int(self.settings.session_lifetime.total_seconds()),
            secure=self.is_secure,
            httponly=True,
            samesite="lax",
        )

    def clear_cookie(self, answer: Response) -> None:
        """Take the session's id from the browser."""
        answer.delete_cookie(self.cookie, secure=self.is_secure, httponly=True, samesite="lax")

    def redirect(self, url: str) -> Response:
        """Send the browser to `url`, to GET it."""
        return RedirectResponse(url, 303, self.renderer.headers)


@dataclass(slots=True)
class Visit:
    """A request for the page. `session` is None where there is none; `form` holds what a POST brought, by name."""

    site: Site
    request: Request
    session: Session | None = None
    form: dict[str, list[str]] = field(default_factory=dict, repr=False)

    @property
    def subject(self) -> str | None:
        """Who logged in, None for nobody."""
        return self.session.user_id if self.session else None

    @property
    def is_watching(self) -> bool:
        """Whether nobody asked, but the page's own script."""
        return _WATCHING in self.request.headers

    def call(self, given: Given) -> Call[Given]:
        """Return what an operation of the API takes, as if this person had called it."""
        assert self.subject is not None  # noqa: S101 only asked where somebody is logged in
        number = self.request.path_params.get("id")
        return Call(self.site.music, self.subject, path_id(number) if number else 0, given, "")

    def csrf(self) -> str:
        """Return the token that this session's forms carry. Made of the cookie's secret: the database cannot tell it."""
        secret = self.session.session_id if self.session else ""
        return hmac.digest(secret.encode(), b"understudy form", hashlib.sha256).hex()


Endpoint = Callable[[Visit], Awaitable[Response]]


class Entrance:
    """An endpoint of one method behind all that, as an ASGI application. Only who is logged in may POST."""

    def __init__(self, site: Site, method: str, endpoint: Endpoint) -> None:
        self._site, self._method, self._endpoint = site, method, endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, refusals and PostgreSQL's absence too; only a bug gets through."""
        request = Request(scope, receive)
        try:
            answer = await self._answer(Visit(self._site, request), receive)
        except Disconnected:
            return
        except Problem as error:
            answer = self._message(error.status, "That did not work", error.detail)
        except WasForgotten:
            answer = self._message(403, "That did not work", GONE)
        except Transient:
            text = "The database cannot be reached at the moment. Nothing is lost; please try again in a few seconds."
            answer = self._message(503, "One moment, please", text)
            answer.headers["Retry-After"] = "5"
        except Error:
            text = "This service needs its operator. Please try again later."
            answer = self._message(503, "Out of order", text)
        await answer(scope, receive, send)

    async def _answer(self, visit: Visit, receive: Receive) -> Response:
        if misplaced := self._misplaced(visit.request):
            return misplaced
        session_id = visit.request.cookies.get(self._site.cookie)
        if session_id:
            visit.session = await self._site.sessions.find(session_id, in_use=not visit.is_watching)
        if visit.subject is not None and (refusal := await self._refused(visit)):
            return refusal
        if self._method == "POST":
            if visit.subject is None:
                return self._site.redirect(self._site.home)
            visit.form = await _form(visit.request, receive, self._site.room)
            if not hmac.compare_digest(visit.form.get("csrf", [""])[0].encode(), visit.csrf().encode()):
                text = "This form belongs to another login. Please go back to the page, reload it, and try again."
                return self._message(403, "Nothing was changed", text)
        return await self._endpoint(visit)

    def _misplaced(self, request: Request) -> Response | None:
        """Answer what is for another host, or not for this endpoint."""
        if request.headers.get("host", "").lower() != self._site.host:
            said = f"This page is at {self._site.home}\n"
            return PlainTextResponse(said, 421, self._site.renderer.headers)
        if request.method not in ("GET", "HEAD", "POST"):
            return self._message(405, "That did not work", "This page knows nothing of that method.")
        if (request.method == "POST") != (self._method == "POST"):
            return self._site.redirect(self._site.home)  # what a reload after a long while may lead to
        return None

    async def _refused(self, visit: Visit) -> Response | None:
        """Show out whom the local copy does not let in any more."""
        session = visit.session
        assert session is not None  # noqa: S101 it has a subject
        caller = await self._site.music.callers.find(session.user_id or "")
        if caller.standing is Standing.LIVE:
            return None
        await self._site.sessions.end(session)
        text = {
            Standing.BLOCKED: "This account is blocked. Whoever runs this service can tell you why.",
            Standing.GONE: GONE,
        }
        answer = self._site.renderer.message(403, "You have been logged out", text[caller.standing], again=True)
        self._site.clear_cookie(answer)
        return answer

    def _message(self, status: int, title: str, text: str) -> Response:
        return self._site.renderer.message(status, title, text)


async def _form(request: Request, receive: Receive, room: Room) -> dict[str, list[str]]:
    """Read the fields of a form. Raises Problem for what is none."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/x-www-form-urlencoded" or "content-encoding" in request.headers:
        raise Problem(415, "This takes forms as this page sends them.")
    try:
        body = await read_body(receive, MAX_BODY_BYTES, room)
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=1000, errors="strict")
    except Oversize:
        raise Problem(413, "That was too much at once.") from None
    except SlowSender:
        raise Problem(408, "That came too slowly.", {"Connection": "close"}) from None
    except ValueError:
        raise Problem(400, "This form could not be read.") from None
    form: dict[str, list[str]] = {}
    for name, value in pairs:
        form.setdefault(name, []).append(value)
    return form
