"""Logging in at Auth0 and out again: the code flow with PKCE, by authlib, its state kept in our own session."""

from typing import Any, Final
from urllib.parse import urlencode

from authlib.integrations.starlette_client import OAuthError, StarletteIntegration, StarletteOAuth2App
from httpx2 import HTTPError
from joserfc.errors import JoseError
from starlette.responses import Response

from api.operations import GONE
from api.pages.site import Site, Visit
from worker.logs import get_logger
from worker.music import WasForgotten
from worker.music.sessions import Session
from worker.trust import trust

log = get_logger(__name__)

CALLBACK: Final = "/callback"
# Seconds by which the clocks of Auth0 and of this machine may differ.
_LEEWAY: Final = 30
# What the tenant says in words meant for people: an Action that denies a login, a block.
_MEANT_FOR_PEOPLE: Final = {"unauthorized", "access_denied"}
# Of OAuth and OpenID Connect. The code comes in the URL, where anybody can write anything: of others, the log has no word.
_CODES: Final = _MEANT_FOR_PEOPLE | {
    *("invalid_request", "invalid_client", "invalid_grant", "invalid_scope", "unauthorized_client", "server_error"),
    *("unsupported_response_type", "unsupported_grant_type", "temporarily_unavailable", "request_not_supported"),
    *("interaction_required", "login_required", "account_selection_required", "consent_required"),
    *("mismatching_state", "missing_token", "too_many_requests", "mfa_required"),
}


class Login:
    """Logs people in and out through the application AUTH0_WEB_CLIENT_ID of the tenant."""

    def __init__(self, site: Site) -> None:
        """Raise WrongSetting for a CA file that is none."""
        settings = site.settings
        self._site, self._client_id, self._issuer = site, settings.auth0_web_client_id, settings.issuer
        # Auth0's endpoints are where its documentation says; that no discovery document has a word in it, leaves the
        # algorithm and the issuer to us.
        self._auth0 = StarletteOAuth2App(
            StarletteIntegration("auth0"),
            name="auth0",
            client_id=settings.auth0_web_client_id,
            client_secret=settings.auth0_web_client_secret.get_secret_value(),
            authorize_url=f"{self._issuer}authorize",
            access_token_url=f"{self._issuer}oauth/token",
            jwks_uri=f"{self._issuer}.well-known/jwks.json",
            id_token_signing_alg_values_supported=["RS256"],
            client_kwargs={
                "scope": "openid",
                "code_challenge_method": "S256",
                "token_endpoint_auth_method": "client_secret_post",
                "timeout": settings.auth0_timeout.total_seconds(),
                "verify": trust(settings),
            },
        )

    async def begin(self, visit: Visit) -> Response:
        """GET /login: send the browser to Auth0, with a session that remembers what it was sent with."""
        if visit.subject is not None:
            return self._site.redirect(self._site.home)
        state: dict[str, Any] = {}
        visit.request.scope["session"] = state
        answer: Response = await self._auth0.authorize_redirect(
            visit.request, f"{self._site.settings.public_url}{CALLBACK}"
        )
        answer.headers.update(self._site.renderer.headers)
        self._site.set_cookie(answer, await self._site.sessions.begin(state))
        return answer

    async def finish(self, visit: Visit) -> Response:
        """GET /callback: the browser comes back, with a code or with the reason why not."""
        if visit.subject is not None:  # a second tab, or the way back
            return self._site.redirect(self._site.home)
        session = visit.session
        asked = visit.request.query_params
        if session is None or f"_state_auth0_{asked.get('state')}" not in session.data:
            text = "This login was begun elsewhere, or too long ago. Please begin again."
            return self._failed(400, text)
        visit.request.scope["session"] = dict(session.data)
        try:
            token = await self._auth0.authorize_access_token(
                visit.request,
                leeway=_LEEWAY,
                claims_options={
                    "iss": {"essential": True, "value": self._issuer},
                    "aud": {"essential": True, "value": self._client_id},
                    "sub": {"essential": True},
                },
            )
            return await self._welcome(session, token["userinfo"]["sub"])
        except OAuthError as error:
            return await self._refused(session, error)
        except (HTTPError, JoseError, ValueError, KeyError, TypeError) as error:
            log.warning("login_failed", reason=type(error).__name__)
            text = "Auth0 could not be asked who you are. Please try again in a few seconds."
            return self._failed(502, text)

    async def _welcome(self, session: Session, user_id: str) -> Response:
        """Begin the session of a person; the local copy says at the next request whether they may come in."""
        answer = self._site.redirect(self._site.home)
        try:
            made = await self._site.sessions.log_in(session, user_id)
        except WasForgotten:  # they may be back: then the next try finds them
            await self._site.sessions.end(session)
            await self._site.music.callers.ask_again(user_id)
            return self._failed(403, GONE)
        self._site.set_cookie(answer, made)
        return answer

    async def _refused(self, session: Session, error: OAuthError) -> Response:
        """Say why Auth0 let nobody in, in its own words where they are meant for people."""
        await self._site.sessions.end(session)
        code = str(error.error)
        log.info("login_refused", error=code if code in _CODES else "of no known kind")
        if code in _MEANT_FOR_PEOPLE:
            return self._failed(403, f"Auth0 did not let you in: {str(error.description or code)[:200]}.")
        return self._failed(502, "Auth0 did not take this login. Please try again.")

    async def leave(self, visit: Visit) -> Response:
        """POST /logout: end the session here, then the one at Auth0, which sends the browser back."""
        if visit.session is not None:
            await self._site.sessions.end(visit.session)
        there = urlencode({"client_id": self._client_id, "returnTo": self._site.home})
        answer = self._site.redirect(f"{self._issuer}v2/logout?{there}")
        self._site.clear_cookie(answer)
        return answer

    def _failed(self, status: int, text: str) -> Response:
        answer = self._site.renderer.message(status, "You are not logged in", text, again=True)
        self._site.clear_cookie(answer)
        return answer
