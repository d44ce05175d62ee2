"""Searching a whole tenant by windows of `created_at`, where no export is possible: eventually consistent, 1,000 hits at most.

Source: auth0.com/docs, "User Search Query Syntax" (ranges, dates to the millisecond) and "View Search Results by Page".
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from worker.auth0.client import NO_RETRIES, Rejected, Tenant
from worker.auth0.search import PER_PAGE, SMALLER_PAGE, RawPage, about_page_size, raw_users, tells_how
from worker.auth0.transport import Answer
from worker.domain.users import profile_time
from worker.domain.windows import ALWAYS, Place, Shown, Window, milliseconds
from worker.errors import TenantDown


@dataclass(frozen=True, slots=True)
class Page:
    """The users of a window that a search showed, each as bytes."""

    users: list[bytes] = field(repr=False)
    shown: Shown


class _Peek(msgspec.Struct, gc=False):
    created_at: Any = None


_PEEK: Final = msgspec.json.Decoder(_Peek)


class Windows:
    """A tenant's users by the time of their creation. Callers take from the budget before they ask: one token of "read_users" per method."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._size = PER_PAGE

    def total(self) -> int:
        """Return how many users the tenant has, as the search index knows."""
        answer = self._ask({"page": 0, "per_page": 1})
        return answer.total or 0 if isinstance(answer, RawPage) else 0

    def page(self, place: Place) -> Page | None:
        """Search the first window of a place, behind the hits that were seen; None: ask again, for smaller pages."""
        size = self._size
        number = place.seen // size
        query = f"created_at:[{_since(place.windows[0])} TO {_until(place.windows[0])}]"
        answer = self._ask({"q": query, "sort": "created_at:1", "page": number, "per_page": size})
        if isinstance(answer, Answer):
            self._learn(answer)
            return None
        if answer.total is None:
            raise TenantDown("Auth0 answered a search without saying how many users there are")
        if answer.limit is not None and answer.limit < size:
            self._size = max(1, answer.limit)
        users = [bytes(user) for user in answer.users[place.seen - number * size :]]
        return Page(users, Shown(tuple(map(_created, users)), answer.total))

    def _ask(self, asked: dict[str, Any]) -> RawPage | Answer:
        return self._tenant.ask(
            "read_users",
            "read:users",
            lambda api: api.users.list(**asked, search_engine="v3", include_totals=True, request_options=NO_RETRIES),
            lambda answer: answer if tells_how(answer) else raw_users(answer),
        )

    def _learn(self, refused: Answer) -> None:
        """Ask for smaller pages from now on; raises where that is not what is wrong."""
        slow = refused.status == 503
        if self._size > SMALLER_PAGE and (slow or about_page_size(refused)):
            self._size = SMALLER_PAGE
        elif slow:
            raise TenantDown("Auth0 gave up on a search (503)")
        else:
            raise Rejected(refused.status, refused.code("errorCode"))


def _since(window: Window) -> str:
    return "*" if window[0] == ALWAYS[0] else _text(window[0])


def _until(window: Window) -> str:
    """Return the last millisecond of a window: both ends of a range in square brackets belong to it."""
    return "*" if window[1] == ALWAYS[1] else _text(window[1] - 1)


def _text(time: int) -> str:
    moment = datetime.fromtimestamp(time // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time % 1000:03}Z"


def _created(user: bytes) -> int | None:
    try:
        moment = profile_time(_PEEK.decode(user).created_at)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return None if moment is None else milliseconds(moment)
