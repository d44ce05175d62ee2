"""Says whether bytes speak of a person, and of whom they may speak, in whatever spelling an id comes: raw, escaped as JSON does, percent-encoded.

An id also comes in two halves: a profile's identities and some records name the provider and the bare rest apart.
"""

import re
from collections.abc import Iterable, Iterator
from urllib.parse import unquote, unquote_plus

from worker.domain.news import MAX_ID_BYTES, Unreadable, identity_id, user_id

# Spelled once more inside another spelling: JSON in a JSON string, a URL in a query.
_DEPTH = 3
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_CONTROLS = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}
# ASCII letters and digits are never escaped by anybody who means well; where one is, only the long way tells.
_ODD = re.compile(rb"(?:\\u00|%(?:25)*)(?:3[0-9]|4[1-9A-Fa-f]|5[0-9Aa]|6[1-9A-Fa-f]|7[0-9Aa])")
_CORES = re.compile(r"[A-Za-z0-9]+")


class Mentions:
    """Looks for these ids, and for these texts (an e-mail address), in bytes."""

    def __init__(self, ids: Iterable[str], texts: Iterable[str] = ()) -> None:
        ids, texts = list(ids), [text for text in texts if text]
        self._cores = [_core(one) for one in (*ids, *texts)]
        self._whole = [_bounded(one) for one in (*ids, *texts)]
        self._halves = [_halves(one) for one in ids]

    def are_in(self, raw: bytes) -> bool:
        """Tell whether any of them is in `raw`. An id that is the beginning of a longer one is not."""
        if not any(core in raw for core in self._cores) and not _ODD.search(raw):
            return False
        forms = _forms(raw.decode("utf-8", "surrogateescape"))
        return any(
            any(whole.search(form) for whole in self._whole)
            or any(provider.search(form) and rest.search(form) for provider, rest in self._halves)
            for form in forms
        )


def _core(text: str) -> bytes:
    """Return the part of a text that is spelled the same everywhere; empty where there is none."""
    return max(_CORES.findall(text), key=len, default="").encode()


def _bounded(text: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w|-]){re.escape(text)}(?![\w@|+-]|\.\w)")


def _halves(one: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return what finds the provider, and what finds the rest, where they are named apart."""
    provider, _, rest = one.partition("|")
    said = rf"(?:\"{re.escape(rest)}\"|user_id:\s*{re.escape(rest)}(?![\w|])|:\s*{re.escape(rest)}\s*[,}}\]])"
    path = rf"/identities/{re.escape(provider)}/{re.escape(rest)}(?![\w|])"
    return re.compile(rf"\"{re.escape(provider)}\"|{path}"), re.compile(rf"{said}|{path}")


def _forms(text: str) -> list[str]:
    """Return a text as it is and as whatever may be spelled in it, the plainest last."""
    forms = {text: None}
    newest = [text]
    for _ in range(_DEPTH):
        newest = [
            form for one in newest for form in (_unescaped(one), unquote(one), unquote_plus(one)) if form not in forms
        ]
        forms |= dict.fromkeys(newest)
    return list(forms)


def _unescaped(text: str) -> str:
    """Undo what JSON does to a string, wherever in the text; half characters find each other."""
    if "\\" not in text:
        return text
    plain = _ESCAPE.sub(lambda found: chr(int(found[1], 16)) if found[1] else _CONTROLS.get(found[2], found[2]), text)
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


# Of whom bytes may speak, where only hashes of ids are known

# A bar by its spellings; most texts hold but the first.
_BARS = {
    part: re.compile(part_of)
    for part, part_of in (("|", r"\|"), ("%7", r"%7[Cc]"), ("%257", r"%257[Cc]"), ("\\u007", r"\\u007[Cc]"))
}
_QUOTE = re.compile(r'(?<!\\)(?:\\\\)*"')
_BREAKS = re.compile(r"[\s\"'/?&=#,;<>()\[\]{}]+")
# Each begins with letters: so it is looked for many times faster. Drain reads all that comes, once somebody was forgotten.
_BARE = re.compile(r'user_id(?:\\*"\s*:\s*(?:\\*"((?:[^"\\]|\\[^"]){1,1000})\\*"|(\d{1,30}))|:\s*([^\s"\\]{1,1000}))')
_NAMED = r'\\*"\s*:\s*\\*"((?:[^"\\]|\\u[0-9a-fA-F]{4}){1,200})'
_PROVIDERS = re.compile("provider" + _NAMED), re.compile("strategy" + _NAMED)
_PLAIN = re.compile(r"[A-Za-z0-9|_.:@-]+")
_IDENTITY = re.compile(r"/identities/([^/\"\\\s]{1,200})/([^/\"\\?\s]{1,1000})")


def ids_in(raw: bytes) -> set[str]:
    """Return every text in `raw` that may be a user's id, plain. Most are none; whose ids they are, a hash tells."""
    text = raw.decode("utf-8", "surrogateescape")
    candidates = {piece for literal in _literals(text) for piece in _pieces(literal)}
    bare = {_unescaped(found[1] or found[2] or found[3]) for found in _BARE.finditer(text)}
    providers = set(map(_unescaped, {found for named in _PROVIDERS for found in named.findall(text)}))
    bare = {rest for rest in bare if rest.partition("|")[0] not in providers}  # the others are whole ids
    halves = {(provider, rest) for provider in providers for rest in bare}
    halves |= {(unquote(found[1]), unquote(found[2])) for found in _IDENTITY.finditer(text)}
    return set(filter(None, (*map(_checked, candidates), *(_joined(*both) for both in halves))))


def _literals(text: str) -> set[str]:
    """Return the JSON strings that hold a bar, however it is spelled; outside of strings, what is around it."""
    literals = set()
    end = 0
    for bar, after in _bars(text):
        if bar < end:
            continue  # in the same string as the last
        start = max(text.rfind('"', 0, bar) + 1, bar - MAX_ID_BYTES * 6)
        while start > 1 and text[start - 2] == "\\" and start > bar - MAX_ID_BYTES * 6:
            start = text.rfind('"', 0, start - 1) + 1
        closing = _QUOTE.search(text, after, after + MAX_ID_BYTES * 6)
        end = closing.end() - 1 if closing else min(len(text), after + MAX_ID_BYTES * 6)
        literals.add(text[start:end])
    return literals


def _bars(text: str) -> list[tuple[int, int]]:
    return sorted(found.span() for part, bar in _BARS.items() if part in text for found in bar.finditer(text))


def _pieces(literal: str) -> Iterator[str]:
    if _PLAIN.fullmatch(literal):
        yield literal
        return
    for form in _forms(literal):
        for part in (form, *form.split('"')):
            yield part
            for piece in _BREAKS.split(part):
                yield from (piece, unquote(piece), unquote(unquote(piece)))


def _checked(text: str) -> str | None:
    try:
        return user_id(text)
    except Unreadable:
        return None


def _joined(provider: str, rest: str) -> str | None:
    try:
        return identity_id(provider, rest)
    except Unreadable:
        return None
