"""Tokens for people: a code or a refresh token becomes an access token and an ID token; `/userinfo` reads one."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

import jwt

from simulator import person_tokens
from simulator.applications import Client
from simulator.authorize_request import RedirectError
from simulator.errors import OAuthError
from simulator.logins import Grant
from simulator.sign_in import SignIn, app_of, extra_claims, identity_of
from simulator.tenant import Tenant
from simulator.users import User

OPAQUE_SECONDS = 86_400


class CodeGrants:
    """The grants `authorization_code` and `refresh_token`. `client` has proved itself; refusals are OAuthErrors."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._logins = tenant.logins
        self._sign_in = SignIn(tenant)

    def authorization_code(self, client: Client, asked: dict[str, Any]) -> dict[str, Any]:
        grant = self._logins.codes.take(str(asked.get("code")))
        try:
            if grant is None or grant.request.client.client_id != client.client_id:
                raise _invalid("Invalid authorization code")
            _check_callback(grant, asked.get("redirect_uri"))
            _check_verifier(grant, asked.get("code_verifier"))
            user = self._alive(grant)
        except OAuthError as refusal:
            self._tenant.journal.token_refused("feacft", str(refusal), client.client_id)
            raise
        request, identity = grant.request, identity_of(user, grant.session)
        audience = request.audience or f"{self._tenant.authority.issuer}userinfo"
        self._tenant.journal.code_exchanged(
            user, identity, self._tenant.journal.any_ip(), app_of(request), audience, request.scope
        )
        return self._tokens(grant, user, with_refresh="offline_access" in request.scope.split())

    async def refresh_token(self, client: Client, asked: dict[str, Any]) -> dict[str, Any]:
        """The refresh token stays good: rotation is off, as it is for a new regular web application. Actions run again."""
        grant = self._logins.refresh_tokens.find(str(asked.get("refresh_token")))
        try:
            if grant is None or grant.request.client.client_id != client.client_id:
                raise _invalid("Unknown or invalid refresh token.")
            user = self._alive(grant)
            grant = await self._sign_in.granted(grant.request, grant.session, user, self._tenant.journal.any_ip())
        except RedirectError as refusal:
            self._tenant.journal.token_refused("fertft", refusal.description, client.client_id)
            raise OAuthError(403, refusal.error, refusal.description) from None
        except OAuthError as refusal:
            self._tenant.journal.token_refused("fertft", str(refusal), client.client_id)
            raise
        said = "Refresh Token for Access Token"
        self._tenant.journal.profile_act("sertft", said, user, {}, app_of(grant.request))
        return self._tokens(grant, user, with_refresh=False)

    def userinfo(self, authorization: str | None) -> dict[str, Any]:
        """Answer the profile behind an access token that has /userinfo among its audiences."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise OAuthError(401, "invalid_request", "Unauthorized")
        grant = self._logins.access_tokens.find(token)
        if grant is not None and "." not in token:
            user_id, scope = grant.session.user_id, grant.request.scope
        else:
            claims = self._verified(token)
            user_id, scope = str(claims["sub"]), str(claims.get("scope", ""))
        user = self._tenant.users.get(self._tenant.users.primary_of(user_id) or user_id)
        if user is None:
            raise OAuthError(401, "invalid_token", "Unauthorized")
        return {**person_tokens.profile_claims(user, scope), **(grant.id_claims if grant is not None else {})}

    def _verified(self, token: str) -> dict[str, Any]:
        try:
            key = self._tenant.keys.verifying(jwt.get_unverified_header(token).get("kid"))
            if key is None:
                raise jwt.InvalidSignatureError
            claims: dict[str, Any] = jwt.decode(
                token, key.public, algorithms=["RS256"], audience=f"{self._tenant.authority.issuer}userinfo"
            )
        except jwt.PyJWTError:
            raise OAuthError(401, "invalid_token", "Unauthorized") from None
        return claims

    def _alive(self, grant: Grant) -> User:
        user = self._sign_in.user_of(grant.session)
        if user is None:
            raise _invalid("The user does not exist any more.")
        return user

    def _tokens(self, grant: Grant, user: User, *, with_refresh: bool) -> dict[str, Any]:
        request, now = grant.request, int(self._tenant.clock())
        api = self._tenant.applications.api(request.audience)
        seconds = api.token_seconds if api is not None else OPAQUE_SECONDS
        scope = request.scope
        answer: dict[str, Any] = {"scope": scope, "expires_in": seconds, "token_type": "Bearer"}
        if request.audience:
            userinfo = f"{self._tenant.authority.issuer}userinfo"
            claims = person_tokens.access_claims(
                request.issuer, userinfo, user.user_id, request.audience, request.client.client_id, scope,
                (now, now + seconds),
            )  # fmt: skip
            token = self._tenant.keys.sign({**grant.access_claims, **claims})
            answer["access_token"] = self._logins.access_tokens.issue(grant, token)
        else:
            answer["access_token"] = self._logins.access_tokens.issue(grant)
        if "openid" in scope.split():
            lifetime = (now, now + person_tokens.ID_TOKEN_SECONDS)
            own = person_tokens.id_claims(
                request.issuer, user, request.client.client_id, scope, lifetime, extra_claims(grant)
            )
            answer["id_token"] = self._tenant.keys.sign({**own, **grant.id_claims})
        if with_refresh:
            answer["refresh_token"] = self._logins.refresh_tokens.issue(grant)
        return answer


def _check_callback(grant: Grant, redirect_uri: object) -> None:
    if redirect_uri is not None and redirect_uri != grant.request.redirect_uri:
        raise _invalid(
            f"The redirect URI is wrong. You sent {redirect_uri}, and we expected {grant.request.redirect_uri}"
        )


def _check_verifier(grant: Grant, verifier: object) -> None:
    """PKCE (RFC 7636): the code belongs to whoever knows what its challenge was made of."""
    challenge = grant.request.challenge
    if challenge is None:
        return
    digest = hashlib.sha256(str(verifier).encode()).digest()
    made = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    if not isinstance(verifier, str) or not hmac.compare_digest(made, challenge):
        raise _invalid("Failed to verify code verifier")


def _invalid(description: str) -> OAuthError:
    return OAuthError(403, "invalid_grant", description)
