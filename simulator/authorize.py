"""The browser's part of the tenant: `/authorize`, the login form, the session cookie, logging out."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import jwt
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from simulator import authorize_request, login_page
from simulator.authorize_request import AuthorizeRequest, PageError, RedirectError
from simulator.errors import ApiError
from simulator.logins import SESSION_SECONDS, Session
from simulator.people import People
from simulator.sign_in import SignIn
from simulator.tenant import Tenant
from simulator.users import User

_MAX_FORM_BYTES = 20_000


class AuthorizePages:
    """Handlers on one domain; `issuer` is its URL with a slash, and what its tokens call themselves issued by."""

    def __init__(self, tenant: Tenant, issuer: str) -> None:
        self._tenant = tenant
        self._logins = tenant.logins
        self._sign_in = SignIn(tenant)
        self._people = People(tenant)
        self._issuer = issuer
        self._is_secure = issuer.startswith("https:")
        self._cookie = "auth0" if self._is_secure else "auth0_http"  # the ports of a host share their cookies

    def routes(self) -> list[Route]:
        return [
            Route("/authorize", self.authorize),
            Route("/u/login", self.show_form, methods=["GET"]),
            Route("/u/login", self.take_form, methods=["POST"]),
            Route("/v2/logout", self.log_out),
            Route("/oidc/logout", self.log_out),
        ]

    async def authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        applications = self._tenant.applications
        try:
            found = authorize_request.addressed(asked, self._issuer, applications)
        except PageError as error:
            return login_page.message(error.status, error.error, error.description)
        try:
            wanted = authorize_request.checked(asked, found, applications, self._tenant.authority.audience)
            session = self._usable_session(request, wanted)
            if session is not None:
                return _to(await self._sign_in.by_session(wanted, session, _ip(request)))
            if "none" in wanted.prompt:
                self._tenant.journal.token_refused("fsa", "Login required", wanted.client.client_id)
                raise RedirectError("login_required", "Login required")
        except RedirectError as error:
            return _to(found.refused(error))
        return _to(f"/u/login?{urlencode({'state': self._logins.unfinished.issue(wanted)})}")

    async def show_form(self, request: Request) -> Response:
        state = request.query_params.get("state", "")
        wanted = self._logins.unfinished.find(state)
        if wanted is None:
            return _expired()
        people = self._tenant.users.newest(login_page.PEOPLE_SHOWN)
        return login_page.login(wanted, state, people, typed=wanted.login_hint, unknown=wanted.screen_hint == "signup")

    async def take_form(self, request: Request) -> Response:
        """Log in whoever was chosen or typed, or make an account for them."""
        form = await _form(request)
        state, typed = form.get("state", ""), form.get("who", "").strip()
        wanted = self._logins.unfinished.find(state)
        if wanted is None:
            return _expired()
        chosen = self._tenant.users.get(form.get("user_id", ""))
        found = [chosen] if chosen is not None else self._typed(typed)
        if not found and form.get("signup"):
            try:
                found = [self._signed_up(typed, form.get("name", "").strip())]
            except ApiError as refusal:
                return login_page.login(wanted, state, [], typed=typed, problem=str(refusal), unknown=True)
        if len(found) == 1:
            return await self._log_in(wanted, state, found[0].user_id, _ip(request))
        if found:
            said = "Several people have this address."
            return login_page.login(wanted, state, found, typed=typed, problem=said, several=True)
        if "@" not in typed:
            people = self._tenant.users.newest(login_page.PEOPLE_SHOWN)
            return login_page.login(wanted, state, people, typed=typed, problem="Type an e-mail address.")
        said = "Nobody has this address yet."
        return login_page.login(wanted, state, [], typed=typed, problem=said, unknown=True)

    async def log_out(self, request: Request) -> Response:
        """`/v2/logout?returnTo&client_id`, `/oidc/logout?post_logout_redirect_uri&id_token_hint`: the session ends first."""
        asked = request.query_params
        session = self._logins.sessions.take(request.cookies.get(self._cookie, ""))
        user = self._sign_in.user_of(session) if session is not None else None
        if user is not None:
            self._tenant.journal.profile_act("slo", "User successfully logged out", user, {})
        answer = self._after_logout(asked.get("client_id") or _audience_of(asked.get("id_token_hint")), request)
        answer.delete_cookie(self._cookie, secure=self._is_secure, httponly=True)
        return answer

    def _after_logout(self, client_id: str | None, request: Request) -> Response:
        asked = request.query_params
        to = asked.get("returnTo") or asked.get("post_logout_redirect_uri")
        client = self._tenant.applications.client(client_id) if client_id else None
        allowed = client.allowed_logout_urls if client is not None else ()
        if not to:
            return _to(allowed[0]) if allowed else login_page.message(200, "OK", "You are logged out.")
        if _without_query(to) not in {_without_query(url) for url in allowed}:
            said = (
                f'The "returnTo" querystring parameter "{to}" is not defined as a valid URL in "Allowed Logout URLs".'
            )
            return login_page.message(400, "Oops!, something went wrong", said)
        state = asked.get("state")
        return _to(f"{to}{'&' if urlsplit(to).query else '?'}{urlencode({'state': state})}" if state else to)

    async def _log_in(self, wanted: AuthorizeRequest, state: str, user_id: str, ip: str) -> Response:
        try:
            to, session = await self._sign_in.person(wanted, user_id, ip)
        except RedirectError as refusal:
            return _to(wanted.refused(refusal))
        self._logins.unfinished.take(state)
        answer = _to(to)
        if session is not None:
            answer.set_cookie(
                self._cookie,
                self._logins.sessions.issue(session),
                max_age=SESSION_SECONDS,
                secure=self._is_secure,
                httponly=True,
                samesite="none" if self._is_secure else "lax",
            )
        return answer

    def _usable_session(self, request: Request, wanted: AuthorizeRequest) -> Session | None:
        session = self._logins.sessions.find(request.cookies.get(self._cookie, ""))
        if session is None or "login" in wanted.prompt or self._sign_in.user_of(session) is None:
            return None
        if wanted.max_age is not None and self._tenant.clock() - session.authenticated_at > wanted.max_age:
            return None
        return session

    def _typed(self, typed: str) -> list[User]:
        """Find people by e-mail address, as it is or in lower case, or by user id, a linked one too."""
        users = self._tenant.users
        by_id = users.get(users.primary_of(typed) or typed)
        return [by_id] if by_id is not None else users.with_email(typed) or users.with_email(typed.lower())

    def _signed_up(self, email: str, name: str) -> User:
        """Make an account at the database connection. ApiError when the address is none."""
        if "@" not in email[1:-1] or len(email) > 254:
            raise ApiError(400, "Type an e-mail address.")
        profile = {"email": email.lower(), "email_verified": False, **({"name": name[:300]} if name else {})}
        return self._people.sign_up(self._tenant.rng, log_in=False, profile=profile)


async def _form(request: Request) -> dict[str, str]:
    raw = b""
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > _MAX_FORM_BYTES:
            return {}
    return dict(parse_qsl(raw.decode("utf-8", "replace"), keep_blank_values=True))


def _audience_of(id_token: str | None) -> str | None:
    try:
        claims = jwt.decode(id_token or "", options={"verify_signature": False})
    except jwt.PyJWTError:
        return None
    return str(claims.get("aud"))


def _to(url: str) -> Response:
    return RedirectResponse(url, 302, {"Cache-Control": "no-store"})


def _expired() -> Response:
    said = (
        "This page has expired or was opened without an application. Go back to the application and log in from there."
    )
    return login_page.message(400, "Nothing to log in to", said)


def _without_query(url: str) -> str:
    scheme, host, path, _, _ = urlsplit(url)
    return urlunsplit((scheme, host, path, "", ""))


def _ip(request: Request) -> str:
    return request.client.host if request.client is not None else "127.0.0.1"
