"""What Auth0 says of our application when it is asked afresh: the scopes it is granted, the limit it is held to, Auth0's clock.

For a person who looks what is wrong: it neither uses nor replaces the shared token, and it goes past the budget with a few requests.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Final, TypeVar

import httpx

from worker.auth0.streams import MOST, Kind, Stream, failed_in, streams_in
from worker.auth0.transport import Answer, NotUsable, exchange, open_client
from worker.errors import Refused, TenantDown, Throttled
from worker.settings import Settings

# An id that nobody has: reading it needs what reading anybody needs.
_NOBODY: Final = "auth0%7Cunderstudy-doctor"
# The free plan allows two requests a second, to everybody together; a person waits for this, in seconds.
_TRIES: Final = 5
_PAUSE: Final = 1.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Application:
    """What it is granted and held to.

    `burst`: how many reads of users Auth0 takes at once, None where it does not say. `ahead`: by how many seconds Auth0's
    clock is surely ahead of ours, negative for behind. `asked_at`: when the token was asked for, by time.monotonic().
    """

    scopes: frozenset[str]
    burst: int | None
    ahead: float
    token: str = field(repr=False)
    asked_at: float


def look(settings: Settings) -> Application:
    """Fetch a token of our own (one of the plan's monthly quota) and read with it; raises Refused, TenantDown or Throttled."""
    base = f"https://{settings.auth0_domain}"
    asked = {
        "grant_type": "client_credentials",
        "client_id": settings.auth0_m2m_client_id,
        "client_secret": settings.auth0_m2m_client_secret.get_secret_value(),
        "audience": f"{base}/api/v2/",
    }
    asked_at = time.monotonic()
    with open_client(settings) as http:
        before = time.time()
        answer = exchange(lambda: http.post(f"{base}/oauth/token", json=asked))
        ahead = _ahead(answer.headers, before, time.time())
        token, scopes = _granted(answer)
        headers = {"Authorization": f"Bearer {token}"}
        read = exchange(lambda: http.get(f"{base}/api/v2/users/{_NOBODY}", headers=headers))
    return Application(scopes, _burst(read.headers), ahead, token, asked_at)


def streams(settings: Settings, application: Application, kind: Kind) -> Sequence[Stream]:
    """Return the tenant's streams of a kind that lead to an HTTP endpoint; raises TenantDown."""
    path = "log-streams" if kind == "log" else "event-streams?take=50"
    return _usable(lambda: streams_in[kind](_ask(settings, application, "GET", path)))


def failed(settings: Settings, application: Application, stream: Stream) -> int:
    """Return how many deliveries of an event stream failed, MOST for that many or more; raises TenantDown."""
    path = f"event-streams/{stream.id}/deliveries?statuses=failed&take={MOST}"
    return _usable(lambda: failed_in(_ask(settings, application, "GET", path)))


def send_test_event(settings: Settings, application: Application, stream: Stream) -> bool:
    """Have Auth0 send a made-up event by this stream; return whether it takes that upon itself.

    Source: auth0.com/docs, "Event Testing, Observability, and Failure Recovery".
    """
    answer = _ask(settings, application, "POST", f"event-streams/{stream.id}/test", {"event_type": "user.created"})
    return answer.status in (200, 201, 202)


def _ask(settings: Settings, application: Application, method: str, path: str, body: object = None) -> Answer:
    headers = {"Authorization": f"Bearer {application.token}"}
    url = f"https://{settings.auth0_domain}/api/v2/{path}"
    with open_client(settings) as http:
        for _ in range(_TRIES):
            answer = exchange(lambda: http.request(method, url, json=body, headers=headers))
            if answer.status != 429:
                break
            time.sleep(_PAUSE)
    return answer


def _usable(read: Callable[[], T]) -> T:
    try:
        return read()
    except NotUsable:
        raise TenantDown("Auth0 does not say how its streams are") from None


def _granted(answer: Answer) -> tuple[str, frozenset[str]]:
    said = answer.json_object() or {}
    token, scope = said.get("access_token"), said.get("scope", "")
    if answer.status == 200 and isinstance(token, str) and isinstance(scope, str):
        return token, frozenset(scope.split())
    if answer.status == 429:
        raise Throttled("Auth0 gives no more tokens for now (429): try again in a minute")
    code = answer.code("error")
    if code and answer.status < 500:
        raise Refused(
            f"Auth0 gives us no token ({code}): compare AUTH0_M2M_CLIENT_ID and AUTH0_M2M_CLIENT_SECRET with the application, "
            "and authorize it for the Auth0 Management API"
        )
    raise TenantDown(f"Auth0 answered {answer.status} to the token request")


def _burst(headers: httpx.Headers) -> int | None:
    value = headers.get("x-ratelimit-limit", "")
    return int(value) if value.isascii() and value.isdigit() else None


def _ahead(headers: httpx.Headers, before: float, after: float) -> float:
    """Return what is beyond doubt: Date is a whole second, and was written some time between asking and the answer."""
    try:
        date = parsedate_to_datetime(headers["date"]).timestamp()
    except (KeyError, ValueError):
        return 0.0
    least, most = date - after, date + 1 - before
    return least if least > 0 else min(most, 0.0)
