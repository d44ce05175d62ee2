"""Searching users by id: what one search may ask for, and what its answer is conclusive about.

Limits are learnt from answers (50 or 100 a page, the longest URL, a slow index), each process by itself.
"""

import json
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote_plus

import msgspec

from worker.auth0.spans import opens, values
from worker.auth0.transport import Answer, NotUsable
from worker.domain.nesting import too_deep

PER_PAGE: Final = 100
SMALLER_PAGE: Final = 50
"""Users a page: the API reference allows 100, the paging overview 50. We start with 100 and learn."""
LONGEST_URL: Final = 7_500
"""Bytes of a search URL: below the 8 KB that most front ends accept. Auth0's limit is undocumented; a 414 halves ours."""
SLOW_SEARCH: Final = 120.0
"""Seconds for which pages stay smaller after a search that timed out."""

Profile = dict[str, Any]
"""A user as Auth0 gives it: every attribute, dates as text."""


@dataclass(frozen=True, slots=True)
class SearchPage:
    """What one search told.

    `hits`: profiles of those asked for. `covered`: the asked ids that the answer is conclusive about; one of them that is
    not among the hits was not found (or cannot be searched, or not be decoded: a strong read tells). The others are to
    be asked again: the server cut the page short, or wants a smaller one.
    `trouble`: "" or a word for the log: "cut", "per_page", "414", "unreadable", "400 …".
    """

    hits: list[Profile] = field(repr=False)
    covered: frozenset[str] = field(repr=False)
    trouble: str = ""


class SearchBounds:
    """What a search may ask for, learnt from the answers; each process learns by itself."""

    def __init__(self, base: int) -> None:
        self.page = PER_PAGE
        self._url = LONGEST_URL
        self._slow_page, self._slow_until = PER_PAGE, 0.0
        self._base = base + len("?page=0&per_page=100&include_totals=true&search_engine=v3&q=user_id%3A%28%29")

    def fit(self, user_ids: Sequence[str], per_page: int) -> int:
        """Count the ids, from the first on, that one search holds; those too long for any take no room in it."""
        leading = user_ids[: max(1, min(per_page, self._page_now()))]
        room = self._url - self._base
        for number, user_id in enumerate(leading):
            if self.holds(user_id):
                room -= _length(user_id)
                if room < 0:
                    return number
        return len(leading)

    def holds(self, user_id: str) -> bool:
        """Whether a URL is long enough for this id."""
        return self._base + _length(user_id) <= self._url

    def shorten(self, refused: Sequence[str]) -> None:
        """Halve the longest URL: one that asked for these was refused."""
        self._url = (self._base + sum(map(_length, refused))) // 2

    def slow_down(self, asked: int) -> None:
        """Halve the pages for a while: one that asked for so many timed out."""
        self._slow_page, self._slow_until = max(1, asked // 2), time.monotonic() + SLOW_SEARCH

    def _page_now(self) -> int:
        return min(self.page, self._slow_page) if time.monotonic() < self._slow_until else self.page


def _length(user_id: str) -> int:
    return len(quote_plus(_quoted(user_id))) + len("+OR+")


class _Page(msgspec.Struct):
    """A search's answer with `include_totals`; each user stays as bytes, so that an odd one spoils no other."""

    users: list[msgspec.Raw]
    total: Any = None
    limit: Any = None


@dataclass(frozen=True, slots=True)
class Found:
    """A search's users, decoded one by one: those that cannot be are only counted."""

    users: list[Profile] = field(repr=False)
    unreadable: int
    total: int | None
    limit: int | None

    def page(self, asked: list[str], size: int) -> SearchPage:
        """Say what this tells about the ids asked for, `size` being the page size."""
        wanted = frozenset(asked)
        hits = [user for user in self.users if user["user_id"] in wanted]
        length = len(self.users) + self.unreadable
        # Without a total, a page that is not full holds everybody; one that is full may have left somebody out.
        whole = self.total <= length if self.total is not None else length < min(size, SMALLER_PAGE)
        trouble = "unreadable" if self.unreadable else "" if whole else "cut"
        # A page cut down to nothing would be cut down to nothing again: strong reads get on.
        return SearchPage(hits, frozenset(user["user_id"] for user in hits) if hits and not whole else wanted, trouble)


def query_for(user_ids: Iterable[str]) -> str:
    """Return the search for these ids, quoted and escaped. Syntax: auth0.com/docs, "User Search Query Syntax"."""
    return f"user_id:({' OR '.join(map(_quoted, user_ids))})"


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def read_search(answer: Answer) -> Found | Answer:
    """Return the users found, or the answer itself where it tells how to ask better (400, 414, 503)."""
    if tells_how(answer):
        return answer
    page = raw_users(answer)
    users = [_user(raw) for raw in page.users]
    good = [user for user in users if user is not None]
    return Found(good, len(users) - len(good), page.total, page.limit)


def tells_how(answer: Answer) -> bool:
    """Whether an answer says how a search is to be asked (400, 414, 503)."""
    return answer.status == 414 or (answer.status in (400, 503) and answer.json_object() is not None)


@dataclass(frozen=True, slots=True)
class RawPage:
    """A search's users, each as bytes; None for what the answer does not say."""

    users: list[bytes | msgspec.Raw] = field(repr=False)
    total: int | None
    limit: int | None


def raw_users(answer: Answer) -> RawPage:
    """Take a page apart, its users as they came; raises NotUsable for anything else."""
    if answer.status != 200:
        raise NotUsable
    try:
        page = msgspec.json.decode(answer.body, type=_Page | list[msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _odd_page(answer.body)
    if isinstance(page, list):
        page = _Page(page)
    return RawPage(list(page.users), _whole(page.total), _whole(page.limit))


def _odd_page(body: bytes) -> RawPage:
    """Take a page apart that one user makes undecodable (half a surrogate pair, nested too deeply); the neighbours are good."""
    begin, end = _users_in(body)
    if body[end - 1] != ord("]"):
        raise NotUsable
    try:
        page = json.loads(body[:begin] + b"[]" + body[end:])
    except (ValueError, RecursionError):
        raise NotUsable from None
    page = page if isinstance(page, dict) else {}
    users: list[bytes | msgspec.Raw] = [body[first:last] for first, last in values(body, begin + 1, end - 1)]
    return RawPage(users, _whole(page.get("total")), _whole(page.get("limit")))


def _users_in(body: bytes) -> tuple[int, int]:
    """Return where the list of users begins and ends, brackets included; raises NotUsable where there is none."""
    if opens(body, b"["):
        return body.index(b"["), len(body.rstrip())
    key = b""
    for begin, end in values(body, body.find(b"{") + 1, len(body)):
        if body[begin] == ord("[") and key == b'"users"':
            return begin, end
        if body[begin] != ord(":"):
            key = body[begin:end]
    raise NotUsable


def _user(raw: bytes | msgspec.Raw) -> Profile | None:
    if too_deep(bytes(raw)):
        return None
    try:
        user = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return user if isinstance(user, dict) and isinstance(user.get("user_id"), str) else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def about_page_size(answer: Answer) -> bool:
    """Whether a 400 is about `per_page`: its error code is that of every bad query, so its message has to tell."""
    message = str((answer.json_object() or {}).get("message", ""))
    return re.search(r"per_page|greater than maximum|must be <=", message) is not None
