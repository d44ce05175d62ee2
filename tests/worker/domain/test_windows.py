"""A tenant of any shape is read whole by windows, whatever a search may show at once."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

import pytest
from hypothesis import given, settings, strategies as st

from worker.domain.windows import ALWAYS, CAP, Place, Shown, step

TIMES = st.integers(ALWAYS[0], ALWAYS[1] - 1)
DENSE = st.integers(1_700_000_000_000, 1_700_000_000_050)


def read(created: list[int], size: int) -> tuple[list[int], int, int]:
    """Read a tenant that shows at most `CAP` hits; return whom, how many cannot be shown, and the number of searches."""
    created = sorted(created)
    place, found, unread, searches = Place(), list[int](), 0, 0
    while place.windows:
        low, high = place.windows[0]
        hits = created[bisect_left(created, low) : bisect_left(created, high)]
        page = hits[:CAP][place.seen : place.seen + size]
        then = step(place, Shown(tuple(page), len(hits)))
        found += page[: then.taken]
        unread += then.unread
        place = then.place
        searches += 1
        assert searches < 10_000
    return found, unread, searches


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(TIMES, DENSE), max_size=3_000), st.sampled_from([1, 7, 50, 100]))
def test_everybody_is_found_once_or_counted(created: list[int], size: int) -> None:
    found, unread, _ = read(created, size)
    assert len(found) + unread == len(created)
    assert not Counter(found) - Counter(created)


def test_a_clump_behind_the_cap_is_counted_and_its_neighbours_are_read() -> None:
    found, unread, _ = read([5] * 1_200 + [4, 6], 100)
    assert unread == 200
    assert Counter(found) == {4: 1, 5: 1_000, 6: 1}


def test_a_clump_below_the_cap_is_read_whole() -> None:
    assert read([5] * 1_000, 100)[:2] == ([5] * 1_000, 0)


def test_reading_costs_little_more_than_its_pages() -> None:
    year = 365 * 86_400_000
    created = [1_600_000_000_000 + number * year // 100_000 for number in range(100_000)]
    found, _, searches = read(created, 100)
    assert found == created
    assert searches < 1_000 * 1.4  # a thousand pages


@pytest.mark.parametrize("times", [(3, None), (None, None), (5, 3)])
def test_a_page_that_is_not_in_order_cuts_nothing_off(times: tuple[int | None, ...]) -> None:
    then = step(Place(((0, 10),)), Shown(times, 3))
    assert then.taken == 0
    assert then.place.windows == ((0, 5), (5, 10))
