"""The parameters of `/authorize`, checked as Auth0 checks them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from simulator.applications import Applications, Client

_OPENID = ("openid", "profile", "email", "phone", "offline_access")
_CHALLENGE_LENGTH = 43
"""Characters of a SHA-256 in base64url, without padding (RFC 7636)."""


class PageError(Exception):
    """A request that cannot be answered by a redirect, because nobody knows that it would go to the right place."""

    def __init__(self, status: int, error: str, description: str) -> None:
        super().__init__(description)
        self.status, self.error, self.description = status, error, description


class RedirectError(Exception):
    """An error that the application hears of at its callback."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.error, self.description = error, description


@dataclass(frozen=True)
class AuthorizeRequest:
    """What an application asks for. `issuer` is the one of the domain it asked at; `audience` is empty when none was named."""

    issuer: str
    client: Client
    redirect_uri: str
    scope: str
    audience: str = ""
    state: str | None = None
    nonce: str | None = None
    challenge: str | None = None
    prompt: frozenset[str] = frozenset()
    max_age: int | None = None
    login_hint: str = ""
    screen_hint: str = ""

    def back(self, **answer: str) -> str:
        """Answer the callback's URL with these parameters and the `state`."""
        parameters = {**answer, **({"state": self.state} if self.state is not None else {})}
        joint = "&" if urlsplit(self.redirect_uri).query else "?"
        return f"{self.redirect_uri}{joint}{urlencode(parameters)}"

    def refused(self, error: RedirectError) -> str:
        return self.back(error=error.error, error_description=error.description)


def addressed(asked: Mapping[str, str], issuer: str, applications: Applications) -> AuthorizeRequest:
    """Find the application and its callback; nothing else is checked. PageError when there is nobody to redirect to."""
    client_id, redirect_uri = asked.get("client_id"), asked.get("redirect_uri")
    if not client_id:
        raise PageError(400, "invalid_request", "Missing required parameter: client_id")
    client = applications.client(client_id)
    if client is None:
        raise PageError(403, "invalid_request", f"Unknown client: {client_id}")
    if not client.callbacks:
        raise PageError(403, "unauthorized_client", "Grant type 'authorization_code' not allowed for the client.")
    if redirect_uri and redirect_uri not in client.callbacks:
        raise PageError(
            403,
            "Callback URL mismatch.",
            f"The provided redirect_uri is not in the list of allowed callback URLs: {redirect_uri}",
        )
    return AuthorizeRequest(
        issuer=issuer,
        client=client,
        redirect_uri=redirect_uri or client.callbacks[0],
        scope="",
        state=asked.get("state"),
    )


def checked(
    asked: Mapping[str, str], found: AuthorizeRequest, applications: Applications, management_audience: str
) -> AuthorizeRequest:
    """Read the rest of the parameters. RedirectError for those that Auth0 refuses."""
    response_type = asked.get("response_type")
    if not response_type:
        raise RedirectError("invalid_request", "Missing required parameter: response_type")
    if response_type != "code":
        raise RedirectError("unsupported_response_type", f"Unsupported response type: {response_type}")
    if asked.get("response_mode", "query") != "query":
        raise RedirectError("invalid_request", f"response_mode '{asked['response_mode']}' is not simulated")
    max_age = asked.get("max_age")
    if max_age is not None and not max_age.isdigit():
        raise RedirectError("invalid_request", "max_age must be a non-negative integer")
    audience = asked.get("audience", "")
    if audience not in ("", management_audience) and applications.api(audience) is None:
        raise RedirectError("access_denied", f"Service not found: {audience}")
    return AuthorizeRequest(
        issuer=found.issuer,
        client=found.client,
        redirect_uri=found.redirect_uri,
        scope=_granted_scope(asked.get("scope", "openid profile email"), audience, applications),
        audience=audience,
        state=found.state,
        nonce=asked.get("nonce"),
        challenge=_challenge(asked, found.client),
        prompt=frozenset(asked.get("prompt", "").split()),
        max_age=int(max_age) if max_age is not None else None,
        login_hint=asked.get("login_hint", ""),
        screen_hint=asked.get("screen_hint", ""),
    )


def _challenge(asked: Mapping[str, str], client: Client) -> str | None:
    challenge = asked.get("code_challenge")
    if challenge is None:
        if client.is_public:
            raise RedirectError("invalid_request", "Parameter 'code_challenge' is required for this client")
        return None
    if asked.get("code_challenge_method") != "S256":
        raise RedirectError("invalid_request", "Parameter 'code_challenge_method' must be S256")
    if len(challenge) != _CHALLENGE_LENGTH:
        raise RedirectError("invalid_request", "Parameter 'code_challenge' must be 43 characters long")
    return challenge


def _granted_scope(asked: str, audience: str, applications: Applications) -> str:
    """Keep OpenID Connect's scopes and those that the API has; Auth0 drops the others without a word."""
    api = applications.api(audience)
    known = {*_OPENID, *(api.scopes if api is not None else ())}
    if audience and (api is None or not api.allow_offline_access):
        known.discard("offline_access")
    return " ".join(dict.fromkeys(scope for scope in asked.split() if scope in known))
