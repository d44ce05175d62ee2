"""Says whom a write to the Management API (`sapi`) or by SCIM (`sscim`) is about.

The record's `user_id` is whoever made the call. Method and path decide; the description is text for people, and changes.
The calls: https://auth0.com/docs/api/management/v2
"""

import re
from datetime import datetime
from urllib.parse import unquote

from worker.domain.news import (
    NOTHING,
    LogRecord,
    Meaning,
    Unreadable,
    as_key,
    changed,
    gone,
    identity_id,
    inside,
    severed,
    user_id,
)

_PATH = re.compile(r"(?:https?://[^/]+)?/api/v2(/[^?#]*)")
_USER = re.compile(r"/users/(?P<id>[^/]+)(?:/(?P<part>[^/]+)(?P<rest>/.*)?)?")
_CONNECTION = re.compile(r"/connections/([^/]+)")
_CONNECTION_USERS = re.compile(r"/connections/[^/]+/users")
_SCIM_USER = re.compile(r"/Users/([^/?]+)")

# Parts of a user that are not in its profile. `multifactor`, `authenticators` and `authentication-methods` are: they change its
# `multifactor`. Parts that Auth0 adds one day are looked at until they are listed here.
_NOT_IN_PROFILE = frozenset(
    {
        *("roles", "permissions", "effective-roles", "effective-permissions", "organizations", "groups"),
        *("sessions", "refresh-tokens", "revoke-access", "federated-connections-tokensets"),
        *("logs", "risk-assessments", "recovery-code-regeneration"),
    }
)


def api_write(record: LogRecord, date: datetime | None) -> Meaning:
    """Read a `sapi` record."""
    details = record.details
    method, path = inside(details, "request", "method"), inside(details, "request", "path")
    place = _PATH.match(path) if isinstance(path, str) else None
    if not place or not isinstance(method, str):
        return Meaning(reconcile="a write to the Management API does not say what it did")
    method, path = method.upper(), place[1].rstrip("/")
    if path == "/users":
        return _created(method, details, date)
    if user := _USER.fullmatch(path):
        return _user_write(method, user, details, date)
    return _other_write(method, path)


def scim_write(record: LogRecord, date: datetime | None) -> Meaning:
    """Read a `sscim` record: its path or answer may hold a user's id; where it does not, only a comparison finds the user."""
    details = record.details
    method, path = inside(details, "request", "method"), inside(details, "request", "path")
    method = method.upper() if isinstance(method, str) else ""
    if method == "GET":
        return NOTHING
    place = _SCIM_USER.search(path) if isinstance(path, str) else None
    user = user_id(_decoded(place[1])) if place else None
    user = user or user_id(inside(details, "response", "body", "id"))
    if user is None:
        return Meaning(reconcile="a SCIM write does not say which user it is about")
    return Meaning((gone(user, date) if method == "DELETE" else changed(user, date),))


def _decoded(segment: str) -> str:
    try:
        return unquote(segment, errors="strict")
    except UnicodeDecodeError:
        raise Unreadable("an id in a path is not UTF-8") from None


def _created(method: str, details: object, date: datetime | None) -> Meaning:
    """Read `POST /users`: the id is in the answer alone."""
    if method == "DELETE":
        return Meaning(reconcile="all users were deleted at once")
    body = inside(details, "response", "body")
    identities = inside(body, "identities")
    first = identities[0] if isinstance(identities, list) and identities else None
    user = user_id(inside(body, "user_id")) or identity_id(inside(first, "provider"), inside(first, "user_id"))
    return Meaning((changed(user, date),)) if user else Meaning(reconcile="the creation of a user does not say whose")


def _other_write(method: str, path: str) -> Meaning:
    if method == "DELETE" and (connection := _CONNECTION.fullmatch(path)):
        return Meaning(connection_gone=as_key(connection[1]))
    if method == "DELETE" and _CONNECTION_USERS.fullmatch(path):
        return Meaning(reconcile="a user was deleted by e-mail")  # an e-mail is not a key: it may be several users'
    if path == "/jobs/users-imports":
        return Meaning(reconcile="an import of users began")
    # Tickets and verification mails change a profile when they are used, which is logged as `sv` or `scp`. Blocks by attack protection,
    # Auth0's own roles and organizations are not in the profile. The rest is not about users.
    return NOTHING


def _user_write(method: str, place: re.Match[str], details: object, date: datetime | None) -> Meaning:
    user, part = user_id(_decoded(place["id"])), place["part"]
    if user is None:
        return Meaning(reconcile="a write to the Management API does not say which user it is about")
    if part is None and method == "DELETE":
        return Meaning((gone(user, date),))
    if part == "identities" and method == "POST":
        return _linked(user, details, date)
    if part == "identities" and method == "DELETE":
        return _unlinked(user, place["rest"] or "", date)
    return NOTHING if part in _NOT_IN_PROFILE else Meaning((changed(user, date),))


def _linked(primary: str, details: object, date: datetime | None) -> Meaning:
    """Read a link: the secondary is in the body; for a `link_with` token, which names nobody, the answer may list the identities."""
    body, answer = inside(details, "request", "body"), inside(details, "response", "body")
    identities = [body] if inside(body, "user_id") else answer if isinstance(answer, list) else []
    named = {identity_id(inside(one, "provider"), inside(one, "user_id")) for one in identities}
    secondaries = sorted(user for user in named if user and user != primary)
    news = (severed(primary, date), *(gone(user, date) for user in secondaries))
    # The primary's strong read names the secondary too (P7), but not that its own row is to become a tombstone.
    return Meaning(news, None if secondaries else "a link does not say whom it linked")


def _unlinked(primary: str, rest: str, date: datetime | None) -> Meaning:
    """Read `DELETE /users/{id}/identities/{provider}/{identity}`: the secondary is a user of its own again."""
    match [_decoded(segment) for segment in rest.split("/")[1:]]:
        case [provider, identity] if secondary := identity_id(provider, identity):
            return Meaning((severed(primary, date), severed(secondary, date)))
    return Meaning((severed(primary, date),), "an unlink does not say whom it unlinked")
