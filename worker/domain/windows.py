"""Which window of `created_at` a whole tenant is searched by next, decided from what the last search showed.

A search never shows more than its first 1,000 hits. So a window that holds more is cut in two; one that holds fewer is read
page by page, each page cutting off what it has shown. Every search begins at the beginning of a window: who is deleted or
created meanwhile shifts nobody between two pages.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

CAP: Final = 1_000
"""Hits that a search shows at most, all its pages together. Source: auth0.com/docs, "User Search Best Practices"."""

Window = tuple[int, int]
"""From and until, the end not included, in milliseconds since 1970: no `created_at` is more precise."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def milliseconds(moment: datetime) -> int:
    """Return a moment as windows count it."""
    return (moment - _EPOCH) // _MILLISECOND


ALWAYS: Final[Window] = (0, milliseconds(datetime(2100, 1, 1, tzinfo=UTC)))


@dataclass(frozen=True, slots=True)
class Place:
    """What is still to be read: `windows`, the next one first. `seen`: how many were shown of the first one, a clump."""

    windows: tuple[Window, ...] = (ALWAYS,)
    seen: int = 0


@dataclass(frozen=True, slots=True)
class Shown:
    """What one search of a window showed, in the order of `created_at`.

    `created`: each user's time in the order they came, None for one that has none that can be read. `total`: how many the
    window holds.
    """

    created: tuple[int | None, ...]
    total: int


@dataclass(frozen=True, slots=True)
class Step:
    """What follows: where to go on, how many of the users shown count, and how many can never be shown."""

    place: Place
    taken: int
    unread: int = 0


def step(place: Place, shown: Shown) -> Step:
    """Decide what follows from a search of the first window, whose first `place.seen` hits were passed over."""
    (low, high), rest = place.windows[0], place.windows[1:]
    count = len(shown.created)
    if not place.seen and shown.total <= count:
        return Step(Place(rest), count)
    if high - low == 1:
        return _through_a_clump(place, count, shown.total)
    if shown.total > CAP:
        return Step(Place((*_halves(low, high), *rest)), 0)
    last = _last(shown.created)
    if last is None or not low <= last < high:
        return Step(Place((*_halves(low, high), *rest)), 0)
    if last == low:  # everybody on the page was created in one millisecond
        return Step(Place(((low, low + 1), (low + 1, high), *rest)), 0)
    before = sum(1 for created in shown.created if created != last)
    return Step(Place(((last, high), *rest)), before)


def _through_a_clump(place: Place, count: int, total: int) -> Step:
    """Go on with more users in one millisecond than a page holds; those behind the cap cannot be shown."""
    seen = place.seen + count
    if seen >= total or seen >= CAP or not count:
        return Step(Place(place.windows[1:]), count, max(0, total - seen))
    return Step(Place(place.windows, seen), count)


def _halves(low: int, high: int) -> tuple[Window, Window]:
    middle = (low + high) // 2
    return (low, middle), (middle, high)


def _last(created: tuple[int | None, ...]) -> int | None:
    """Return the last time of a page, None where it is not in order: then nothing says what it has left out."""
    known = [one for one in created if one is not None]
    return known[-1] if known and len(known) == len(created) and known == sorted(known) else None
