"""The tenant: what may be asked of Auth0's Management API, and what its answers mean.

Requests are built by auth0-python (paths, quoting, telemetry); answers are read from their bytes (worker.auth0.transport).
Every answer goes to the budget first. What is not a usable answer becomes an error of our tree, whose text holds
Auth0's status and error code and nothing else: no id, no body, no token.

Callers take from the budget before they ask: one token per method called.
"""

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import Any, Final, TypeVar
from urllib.parse import quote

import httpx
from auth0.management import ManagementClient
from auth0.management.core.request_options import RequestOptions
from redis import Redis

from worker.auth0.pace import LACKS_SCOPE, TOKENS_THROTTLED, Budget, Group
from worker.auth0.search import (
    PER_PAGE,
    SMALLER_PAGE,
    Found,
    Profile,
    SearchBounds,
    SearchPage,
    about_page_size,
    query_for,
    read_search,
)
from worker.auth0.token import BeingFetched, SharedToken
from worker.auth0.transport import Answer, Many, NotUsable, exchange, longest_exchange, open_client
from worker.domain.nesting import too_deep
from worker.errors import BadRecord, BrokerDown, Permanent, Refused, TenantDown, Throttled
from worker.settings import Settings

REFUSED_PAUSE: Final = 60.0
"""Seconds until a refused group is tried again: somebody may have mended the grant meanwhile."""
TOKEN_QUOTA: Final = 600.0
"""Seconds: a token younger than this is not replaced because it lacks a scope (plans count tokens by the month)."""

_MISSING_USER: Final = (404, "inexistent_user")
NO_RETRIES: Final[RequestOptions] = {"max_retries": 0}  # the SDK would sleep and repeat, outside the budget

T = TypeVar("T")


class Rejected(Permanent):
    """Auth0 rejects this one request (400, 409, 413 …); others may pass. `code` is Auth0's errorCode, "" if unknown."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"Auth0 rejected the request: {status} {code}".rstrip())
        self.status = status
        self.code = code


class SearchTimedOut(TenantDown):
    """The search took longer than Auth0 allows (503). Pages are smaller for a while; strong reads are not concerned."""


class _No(Enum):
    """Answers to a strong read that are no profile."""

    SUCH_USER = "Auth0 says that there is none"
    SENSE = "JSON, but not to be decoded"


class Tenant:
    """The tenant's Management API. Connects on first use, so after the fork; may be shared by threads.

    Methods raise TenantDown (no answer, 5xx, no JSON), Throttled (429), Refused (credentials, scope), Rejected (this
    request), BadRecord (this user). The first three have paused the group for every process when they are raised.
    `redis` must return bytes.
    """

    def __init__(self, settings: Settings, redis: Redis, budget: Budget) -> None:
        self.domain: Final = settings.auth0_domain
        self.longest_call: Final = 3 * longest_exchange(settings)
        """Seconds a method may take at most: a token, the request, the request again after a 401."""
        self._settings, self._budget = settings, budget
        self._token = SharedToken(redis, settings, self._http, on_request=budget.count_token_request)
        self._opening = threading.Lock()
        self._client: httpx.Client | None = None
        self._sdk: ManagementClient | None = None
        self._bounds = SearchBounds(len(f"https://{self.domain}/api/v2/users"))

    def forget_refusals(self) -> None:
        """Ask afresh: whoever mends credentials or grants a scope restarts the worker. Raises BrokerDown.

        A token that lacked a scope goes too, unless it is younger than a minute: a worker that starts again and again must
        not eat the plan's quota of tokens.
        """
        if any(why.startswith(LACKS_SCOPE) for why in self._budget.forget_refusals()):
            self._token.forget(unless_newer_than=REFUSED_PAUSE)

    # Reading users

    def read_user(self, user_id: str) -> Profile | None:
        """Read a user strongly: the profile, or None where Auth0 itself says that there is no such user (P12).

        BadRecord for this one user: an id that no URL can hold, a profile that no database can, somebody else's profile.
        """
        _check(user_id)
        found: Profile | _No = self.ask(
            "read_users",
            "read:users",
            lambda api: api.users.get(user_id, request_options=NO_RETRIES),
            _read_profile,
        )
        return _profile_of(user_id, found)

    async def read_user_among(self, many: Many, user_id: str) -> Profile | None:
        """Read a user strongly, as one of very many; what follows from the answer is as for `read_user`.

        Holds up the event loop while it talks to Redis, and while a new token is fetched.
        """
        _check(user_id)
        path = f"/api/v2/users/{quote(user_id, safe='')}"
        with self._failures_told("read_users"):
            answer = await many.get(path, self._token.current())
        if self._token_refused(answer):
            self._tell(lambda: self._budget.charge("read_users"))
            with self._failures_told("read_users"):
                answer = await many.get(path, self._token.current())
        return _profile_of(user_id, self._taken("read_users", "read:users", answer, _read_profile))

    def many(self) -> Many:
        """Return connections for `read_user_among`; who asks for them closes them."""
        return Many(self._settings)

    # Writing users

    def patch_user(self, user_id: str, body: Mapping[str, Mapping[str, Any]], correlation_id: str) -> Profile | None:
        """Write metadata: {"app_metadata": {…}, "user_metadata": {…}}, each merged at its first level, and none of them empty.

        Returns the profile as it is then, or None where Auth0 itself says that there is no such user. The record of it in
        the tenant's log carries `correlation_id` (at most 64 characters). Raises Rejected where Auth0 does not take this
        body for this user, BadRecord where it took it and answered with no profile of this user. A token that is refused
        is dropped and nothing is sent again: a PATCH belongs to the read before it, which would be too old (P16).
        """
        if not body or not all(body.values()):
            raise ValueError("an empty object would wipe all metadata of its kind")
        options: RequestOptions = {**NO_RETRIES, "additional_headers": {"X-Correlation-ID": correlation_id}}
        found: Profile | _No = self.ask(
            "write_users",
            "update:users" if "user_metadata" in body else "update:users_app_metadata",
            lambda api: api.users.update(user_id, request_options=options, **body),  # type: ignore[arg-type]
            _read_profile,
            again=False,
        )
        if found is _No.SUCH_USER:
            return None
        if found is _No.SENSE or found["user_id"] != user_id:
            raise BadRecord("Auth0 answered a write with something else than this user's profile")
        return found

    # Searching users

    def take_that_fit(self, user_ids: Sequence[str], per_page: int = PER_PAGE) -> int:
        """Return how many of these ids, from the first on, one search can ask for: at least 1 unless there are none."""
        return self._bounds.fit(user_ids, per_page)

    def search_users(self, user_ids: Iterable[str], per_page: int = PER_PAGE) -> SearchPage:
        """Search users by id, one page, one call; eventually consistent (P10).

        Asks for as many as `take_that_fit` says. Ids that are too long to search make no call: covered, no hits.
        """
        asked = list(dict.fromkeys(user_ids))
        asked = asked[: self._bounds.fit(asked, per_page)]
        searchable = [user_id for user_id in asked if self._bounds.holds(user_id)]
        if not searchable:
            return SearchPage([], frozenset(asked))
        size = min(self._bounds.page, max(per_page, 1))
        q = query_for(searchable)
        answer: Found | Answer = self.ask(
            "read_users",
            "read:users",
            lambda api: api.users.list(
                q=q, search_engine="v3", page=0, per_page=size, include_totals=True, request_options=NO_RETRIES
            ),
            read_search,
        )
        return self._searched(answer, asked, searchable, size)

    def _searched(self, answer: Found | Answer, asked: list[str], searchable: list[str], size: int) -> SearchPage:
        """Make a page of the answer, or learn from a refusal what the next search must look like."""
        if isinstance(answer, Found):
            if answer.limit is not None and answer.limit < size:
                self._bounds.page = max(1, answer.limit)
            return answer.page(asked, size)
        if answer.status == 414:
            self._bounds.shorten(searchable)
            return SearchPage([], frozenset(asked).difference(searchable), "414")
        if answer.status == 503 and len(searchable) == 1:
            return SearchPage([], frozenset(asked), "503")
        if answer.status == 503:
            self._bounds.slow_down(len(searchable))
            raise SearchTimedOut("Auth0 gave up on a search (503)")
        if size > SMALLER_PAGE and about_page_size(answer):
            self._bounds.page = SMALLER_PAGE
            return SearchPage([], frozenset(), "per_page")
        # One id in it breaks the query: each is read by itself.
        return SearchPage([], frozenset(asked), f"400 {answer.code('errorCode')}".rstrip())

    # Asking

    def ask(
        self,
        group: Group,
        scope: str,
        send: Callable[[ManagementClient], object],
        read: Callable[[Answer], T],
        *,
        again: bool = True,
    ) -> T:
        """Send one request; return what `read` makes of the answer, or raise what an answer means that it cannot use.

        `again`: once more with a fresh token where Auth0 refuses the one we had.
        """
        answer = self._send(group, send)
        if self._token_refused(answer):
            if not again:
                raise Throttled("Auth0 refused the API token, a new one is needed", retry_after=0.0)
            self._tell(lambda: self._budget.charge(group))
            answer = self._send(group, send)
        return self._taken(group, scope, answer, read)

    def _token_refused(self, answer: Answer) -> bool:
        """Whether Auth0 refused the token that was sent; it is dropped then."""
        if answer.status != 401 or answer.json_object() is None:
            return False
        self._token.drop(answer.token)
        return True

    def _taken(self, group: Group, scope: str, answer: Answer, read: Callable[[Answer], T]) -> T:
        """Return what `read` makes of an answer, or raise what it means; the budget is told."""
        try:
            found = read(answer)
        except NotUsable:
            raise self._verdict(group, scope, answer) from None
        if answer.status < 500:
            self._tell(lambda: self._budget.heard(group, answer.headers))
        return found

    def _send(self, group: Group, send: Callable[[ManagementClient], object]) -> Answer:
        with self._failures_told(group):
            return exchange(lambda: send(self._api()))

    @contextmanager
    def _failures_told(self, group: Group) -> Iterator[None]:
        """Tell the budget of what keeps a request from being answered."""
        try:
            yield
        except TenantDown:
            self._tell(lambda: self._budget.failed(group))
            raise
        except Refused:
            self._tell(lambda: self._budget.pause_all(REFUSED_PAUSE, "credentials refused"))
            raise
        except BeingFetched:
            raise
        except Throttled as throttled:
            seconds = throttled.retry_after or REFUSED_PAUSE
            self._tell(lambda: self._budget.pause_all(seconds, TOKENS_THROTTLED))
            raise

    def _verdict(self, group: Group, scope: str, answer: Answer) -> Exception:
        if answer.status == 429:
            seconds = self._tell(lambda: self._budget.throttled(group, answer.headers))
            return Throttled(f"Auth0 answered 429 to {group}", retry_after=seconds)
        body = answer.json_object()
        # A 404 that does not name a missing user is a wrong host, or a path that Auth0 no longer knows.
        theirs = body is not None and body.get("statusCode") == answer.status and answer.status < 500
        if answer.status in (413, 414) or (theirs and answer.status != 404):
            self._tell(lambda: self._budget.heard(group, answer.headers))
            return self._refusal(group, scope, answer)
        self._tell(lambda: self._budget.failed(group))
        return TenantDown(
            f"Auth0 answered {answer.status}" + ("" if theirs or answer.status >= 500 else ", not its JSON")
        )

    def _refusal(self, group: Group, scope: str, answer: Answer) -> Exception:
        code = answer.code("errorCode", "error")
        if answer.status == 401:
            self._tell(lambda: self._budget.pause_all(REFUSED_PAUSE, "credentials refused"))
            return Refused("Auth0 refuses a token it has just issued (401)")
        if answer.status == 403 and code == "insufficient_scope":
            # The scopes are in the token: one fetched after the grant is mended has them.
            self._token.drop(answer.token, unless_newer_than=TOKEN_QUOTA)
            self._tell(lambda: self._budget.pause(group, REFUSED_PAUSE, f"{LACKS_SCOPE} {scope}"))
            return Refused(f"the application lacks the scope {scope}: grant it in Auth0", scope=scope)
        if answer.status == 403:
            self._tell(lambda: self._budget.pause(group, REFUSED_PAUSE, f"forbidden {code}".rstrip()))
            return Refused(f"Auth0 forbids {group}: 403 {code}".rstrip())
        return Rejected(answer.status, code)

    @staticmethod
    def _tell(budget: Callable[[], T]) -> T | None:
        """Tell the budget; with Redis away the answer is still worth having, and nothing more is granted anyway."""
        try:
            return budget()
        except BrokerDown:
            return None

    def _http(self) -> httpx.Client:
        with self._opening:
            if self._client is None:
                self._client = open_client(self._settings)
            return self._client

    def _api(self) -> ManagementClient:
        client = self._http()
        with self._opening:
            if self._sdk is None:
                self._sdk = ManagementClient(domain=self.domain, token=self._token.current, httpx_client=client)
            return self._sdk

    def bearer(self, *, refused: str = "") -> str:
        """Return the API token, for a request that does not go through `ask`; `refused`: one that Auth0 did not take."""
        if refused:
            self._token.drop(refused)
        return self._token.current()

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        with self._opening:
            if self._client is not None:
                self._client.close()
            self._client = self._sdk = None


def _check(user_id: str) -> None:
    if user_id in ("", ".", ".."):  # the URL would name another endpoint
        raise BadRecord("not a user id")


def _profile_of(user_id: str, found: Profile | _No) -> Profile | None:
    """Return the profile that a strong read found, None where Auth0 says that there is no such user; BadRecord for this user."""
    if found is _No.SUCH_USER:
        return None
    if found is _No.SENSE:
        raise BadRecord("Auth0 holds a profile that cannot be decoded")
    if found["user_id"] != user_id:
        # Should a linked id ever be answered with its primary: no proof of a deletion, and no outage either.
        raise BadRecord("Auth0 answered with another user's profile")
    return found


def _read_profile(answer: Answer) -> Profile | _No:
    body = answer.json_object()
    if answer.status == 404 and body is not None and (body.get("statusCode"), body.get("errorCode")) == _MISSING_USER:
        return _No.SUCH_USER
    if answer.status == 200 and body is not None and isinstance(body.get("user_id"), str):
        return _No.SENSE if too_deep(answer.body) else body
    if answer.status == 200 and body is None and _odd_json(answer.body):
        return _No.SENSE
    raise NotUsable


def _odd_json(body: bytes) -> bool:
    """Whether this is a JSON object all the same, as lenient parsers see it."""
    try:
        return isinstance(json.loads(body), dict)
    except RecursionError:
        return True
    except ValueError:
        return False
