"""A person logs in at an application: counted, logged, looked at by Actions, and worth a code."""

from __future__ import annotations

import secrets
from typing import Any

from simulator import post_login
from simulator.authorize_request import AuthorizeRequest, RedirectError
from simulator.logins import Grant, Session
from simulator.logs import Fields
from simulator.tenant import Tenant
from simulator.users import Identity, User

BLOCKED = RedirectError("unauthorized", "user is blocked")


class SignIn:
    """Turns a person, or their session, into the URL at which the application waits."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._logins = tenant.logins

    async def person(self, request: AuthorizeRequest, user_id: str, ip: str) -> tuple[str, Session | None]:
        """Log somebody in by any identity's id: the URL to go to, and the new session if there is one."""
        primary_id = self._tenant.users.primary_of(user_id) or user_id
        now = int(self._tenant.clock())
        session = Session(secrets.token_urlsafe(24), primary_id, user_id, now)
        to, entered = await self._enter(request, session, ip, silent=False)
        return to, session if entered else None

    async def by_session(self, request: AuthorizeRequest, session: Session, ip: str) -> str:
        """Single sign-on: the session stands in for the prompt. With `prompt=none` nothing is counted."""
        return (await self._enter(request, session, ip, silent=True))[0]

    def user_of(self, session: Session) -> User | None:
        """Find whose session it is: the primary's, if the account was linked meanwhile."""
        users = self._tenant.users
        return users.get(users.primary_of(session.identity_id) or session.user_id)

    async def _enter(self, request: AuthorizeRequest, session: Session, ip: str, *, silent: bool) -> tuple[str, bool]:
        in_background = "none" in request.prompt
        user = self.user_of(session)
        if user is None:
            raise RedirectError("login_required", "Login required")
        if not in_background:
            user = self._tenant.directory.log_in(user.user_id, ip)
        identity, app, journal = identity_of(user, session), app_of(request), self._tenant.journal
        try:
            grant = await self.granted(request, session, user, ip)
        except RedirectError as refusal:
            journal.login_refused(user, identity, ip, app, refusal.description)
            return request.refused(refusal), False
        if in_background:
            journal.profile_act("ssa", "Silent authentication", user, {}, app)
        else:
            journal.logged_in(user, identity, ip, app, silent=silent, session=session.id)
        return request.back(code=self._logins.codes.issue(grant)), True

    async def granted(self, request: AuthorizeRequest, session: Session, user: User, ip: str) -> Grant:
        """Ask the bound Actions. RedirectError when the person may not enter."""
        if user.blocked is True:
            raise BLOCKED
        return await post_login.asked(self._tenant, Grant(request, session), user, identity_of(user, session), ip)


def app_of(request: AuthorizeRequest) -> Fields:
    return {"client_id": request.client.client_id, "client_name": request.client.name}


def identity_of(user: User, session: Session) -> Identity:
    """Find the identity that the session came through."""
    return next((identity for identity in user.identities if identity.full_id == session.identity_id), user.primary)


def extra_claims(grant: Grant) -> dict[str, Any]:
    """Answer what the flow adds to an ID token."""
    nonce = {"nonce": grant.request.nonce} if grant.request.nonce is not None else {}
    timed = {"auth_time": grant.session.authenticated_at} if grant.request.max_age is not None else {}
    return {"sid": grant.session.id, **nonce, **timed}
