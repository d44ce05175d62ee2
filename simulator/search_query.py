"""The query language of user search v3: parses `q` into a condition on users.

Covers what User Search Query Syntax (Auth0 docs) describes: `field:value`, quotes, `field:("a" OR "b")`, AND, OR, NOT,
ranges, `*`, `_exists_` and dotted paths into metadata and identities.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from simulator.errors import ApiError
from simulator.users import User

Condition = Callable[[User], bool]

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<quoted>"(?:\\.|[^"\\])*")
  | (?P<range>[\[{]\s*(?P<low>"[^"]*"|\S+)\s+TO\s+(?P<high>"[^"]*"|[^\s\]}]+)\s*[\]}])
  | (?P<mark>[():]|[-!](?=\S))
  | (?P<word>(?:\\.|[^\s():"\\\[\]{}])+)
)""",
    re.VERBOSE,
)
_TIMES = frozenset({"created_at", "updated_at", "last_login", "last_password_reset"})
_TIME = re.compile(r"\d{4}(-\d\d(-\d\d(T\d\d(:\d\d(:\d\d(\.\d{1,3})?)?)?)?)?)?")
_BEGINNING, _END = "0000-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z"
_CASELESS = frozenset({"email", "name", "given_name", "family_name", "nickname"})
_BARE_FIELDS = ("email", "name", "given_name", "family_name", "nickname", "username", "user_id")


@dataclass(frozen=True)
class Query:
    """A parsed `q`: the condition, and the only user ids that can satisfy it when the query names them."""

    matches: Condition
    user_ids: tuple[str, ...] | None = None
    by_id_alone: bool = False
    """The ids decide everything: whoever has one of them matches."""


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str


_OPERATORS = tuple(_Token("word", word) for word in ("AND", "OR", "NOT"))


def parse(q: str) -> Query:
    """ApiError 400 for a query that cannot be understood."""
    parser = _Parser(q)
    query = parser.either()
    if not parser.at_end():
        raise malformed()
    return query


def malformed() -> ApiError:
    return ApiError(400, "The query is malformed and could not be parsed.", "invalid_query_string")


class _Parser:
    """Recursive descent; a method per level of binding, weakest first."""

    def __init__(self, q: str) -> None:
        self._tokens = list(_tokens(q))
        self._place = 0

    def at_end(self) -> bool:
        return self._place >= len(self._tokens)

    def either(self) -> Query:
        parts = [self._both()]
        while self._skip_word("OR") or (not self.at_end() and not self._at_mark(")")):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else any_of(parts)

    def _both(self) -> Query:
        parts = [self._maybe_not()]
        while self._skip_word("AND"):
            parts.append(self._maybe_not())
        return parts[0] if len(parts) == 1 else all_of(parts)

    def _maybe_not(self) -> Query:
        if self._skip_word("NOT") or self._skip_mark("-") or self._skip_mark("!"):
            inner = self._maybe_not().matches
            return Query(lambda user: not inner(user))
        return self._primary()

    def _primary(self) -> Query:
        if self._skip_mark("("):
            inner = self.either()
            self._expect(")")
            return inner
        token = self._next()
        if token.kind == "word" and self._skip_mark(":"):
            return self._values_of(_unescaped(token.text))
        if token.kind == "range":
            raise malformed()
        return any_of([field_is(name, token) for name in _BARE_FIELDS])

    def _values_of(self, name: str) -> Query:
        if not self._skip_mark("("):
            return field_is(name, self._next())
        parts = [field_is(name, self._next())]
        joins = set()
        while not self._skip_mark(")"):
            joins.add(self._join())
            parts.append(field_is(name, self._next()))
        return all_of(parts) if joins == {"AND"} else any_of(parts)

    def _join(self) -> str:
        if self._skip_word("AND"):
            return "AND"
        self._skip_word("OR")  # what stands side by side is joined by OR, as in Lucene
        return "OR"

    def _next(self) -> _Token:
        if self.at_end():
            raise malformed()
        token = self._tokens[self._place]
        self._place += 1
        if token.kind == "mark" or token in _OPERATORS:
            raise malformed()
        return token

    def _at_mark(self, mark: str) -> bool:
        return not self.at_end() and self._tokens[self._place] == _Token("mark", mark)

    def _skip_mark(self, mark: str) -> bool:
        found = self._at_mark(mark)
        self._place += found
        return found

    def _skip_word(self, word: str) -> bool:
        found = not self.at_end() and self._tokens[self._place] == _Token("word", word)
        self._place += found
        return found

    def _expect(self, mark: str) -> None:
        if not self._skip_mark(mark):
            raise malformed()


def any_of(parts: list[Query]) -> Query:
    conditions = [part.matches for part in parts]
    named = [part.user_ids for part in parts]
    ids = None if None in named else tuple(dict.fromkeys(i for some in named for i in some or ()))
    if ids is not None and all(part.by_id_alone for part in parts):
        wanted = frozenset(ids)
        return Query(lambda user: user.user_id in wanted, ids, by_id_alone=True)
    return Query(lambda user: any(condition(user) for condition in conditions), ids)


def all_of(parts: list[Query]) -> Query:
    conditions = [part.matches for part in parts]
    ids = next((part.user_ids for part in parts if part.user_ids is not None), None)
    return Query(lambda user: all(condition(user) for condition in conditions), ids)


def field_is(name: str, token: _Token) -> Query:
    """Make the condition `name:token`."""
    if name == "_exists_":
        return Query(_exists(token.text))
    if token.kind == "range":
        return Query(_in_range(name, token.text))
    text = _unquoted(token)
    if token.kind == "word" and "*" in text:
        return Query(_like(name, text))
    if name == "user_id":
        return Query(lambda user: user.user_id == text, (text,), by_id_alone=True)
    return Query(_equals(name, text))


def _equals(name: str, text: str) -> Condition:
    if name in _CASELESS:
        folded = text.casefold()
        return lambda user: isinstance(held := getattr(user, name), str) and held.casefold() == folded
    return lambda user: any(_written(value) == text for value in values_at(user, name))


def _like(name: str, pattern: str) -> Condition:
    _refuse_on_metadata(name)
    if name in _CASELESS:
        folded = _literal_but_star(pattern.casefold())
        return lambda user: any(fnmatchcase(_written(value).casefold(), folded) for value in values_at(user, name))
    literal = _literal_but_star(pattern)
    return lambda user: any(fnmatchcase(_written(value), literal) for value in values_at(user, name))


def _literal_but_star(pattern: str) -> str:
    return pattern.replace("[", "[[]").replace("?", "[?]")


def _exists(name: str) -> Condition:
    return lambda user: any(value not in ({}, [], None) for value in values_at(user, name))


def _in_range(name: str, text: str) -> Condition:
    _refuse_on_metadata(name)
    match = _TOKEN.match(text)
    if match is None:
        raise malformed()
    low, high = match["low"].strip('"'), match["high"].strip('"')
    open_low, open_high = text[0] == "{", text.rstrip()[-1] == "}"
    if name in _TIMES:
        return _in_time_range(name, _earliest(low, strictly=open_low), _latest(high, strictly=open_high))

    def inside(value: Any) -> bool:
        return _above(value, low, strictly=open_low) and _below(value, high, strictly=open_high)

    return lambda user: any(inside(value) for value in values_at(user, name))


def _in_time_range(name: str, earliest: str, latest: str) -> Condition:
    """Times are written alike, so comparing them as text is enough, and quick."""

    def inside(user: User) -> bool:
        held = getattr(user, name)
        return held is not msgspec.UNSET and earliest <= held <= latest

    return inside


def _earliest(bound: str, *, strictly: bool) -> str:
    """The first time that is inside. What a bound leaves out is its beginning; beyond it, its end."""
    if bound == "*":
        return ""
    return _filled(bound, _END) + "!" if strictly else _filled(bound, _BEGINNING)


def _latest(bound: str, *, strictly: bool) -> str:
    if bound == "*":
        return "~"
    return _filled(bound, _BEGINNING)[:-1] if strictly else _filled(bound, _END)


def _filled(bound: str, template: str) -> str:
    written = bound.removesuffix("Z")
    if not _TIME.fullmatch(written):
        raise malformed()
    return written + template[len(written) :]


def _above(value: Any, bound: str, *, strictly: bool) -> bool:
    if bound == "*":
        return True
    held, limit = _comparable(value, bound)
    return bool(held > limit if strictly else held >= limit)


def _below(value: Any, bound: str, *, strictly: bool) -> bool:
    if bound == "*":
        return True
    held, limit = _comparable(value, bound)
    if isinstance(held, str) and not strictly:
        held = held[: len(bound)]  # `TO 2026-01]` takes in the whole of January
    return bool(held < limit if strictly else held <= limit)


def _comparable(value: Any, bound: str) -> tuple[Any, Any]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return value, float(bound)
        except ValueError:
            raise malformed() from None
    return _written(value), bound


def values_at(user: User, path: str) -> Iterator[Any]:
    """Every value that a dotted path leads to; arrays are entered."""
    root, _, rest = path.partition(".")
    held = getattr(user, root, msgspec.UNSET) if root in User.__struct_fields__ else msgspec.UNSET
    if held is not msgspec.UNSET:
        yield from _inside(msgspec.to_builtins(held) if root == "identities" else held, rest)


def _inside(value: Any, path: str) -> Iterator[Any]:
    if isinstance(value, list | tuple):
        for item in value:
            yield from _inside(item, path)
    elif not path:
        yield value
    elif isinstance(value, dict):
        key, _, rest = path.partition(".")
        if key in value:
            yield from _inside(value[key], rest)


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _refuse_on_metadata(name: str) -> None:
    if name.startswith("user_metadata"):
        raise ApiError(400, "Wildcards and ranges are not supported on user_metadata.", "invalid_query_string")


def _unquoted(token: _Token) -> str:
    return _unescaped(token.text[1:-1] if token.kind == "quoted" else token.text)


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _tokens(q: str) -> Iterator[_Token]:
    place = 0
    while q[place:].strip():
        match = _TOKEN.match(q, place)
        if match is None:
            raise malformed()
        place = match.end()
        kind = next(k for k in ("quoted", "range", "mark", "word") if match[k] is not None)
        yield _Token(kind, match[kind])
