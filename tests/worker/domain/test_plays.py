"""Which plays count, without a database."""

from datetime import UTC, datetime, timedelta, timezone
from itertools import permutations
from uuid import UUID

import pytest

from worker.domain.plays import Play, once

NOON = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)


def play(number: int = 1, listener: str = "auth0|bob", at: datetime = NOON, playlist_id: int = 1) -> Play:
    return Play(playlist_id, listener, UUID(int=number), "auth0|ada", at)


def test_nobody_plays_himself_into_a_role() -> None:
    assert not play(listener="auth0|ada").may_count
    assert play().may_count


@pytest.mark.parametrize("hours", [-11, 0, 13])
def test_a_plays_day_is_utcs_wherever_its_people_live(hours: int) -> None:
    somewhere = timezone(timedelta(hours=hours))
    assert str(play(at=NOON.replace(hour=23, minute=59).astimezone(somewhere)).day) == "2026-11-20"
    assert str(play(at=NOON.replace(hour=0).astimezone(somewhere)).day) == "2026-11-20"


def test_of_a_play_that_came_twice_the_first_arrival_stays_whatever_the_order() -> None:
    late, early, other = play(at=NOON + timedelta(days=1)), play(at=NOON), play(2)
    for order in permutations([late, early, other, early]):
        assert once(order) == [early, other]


def test_plays_come_in_the_order_in_which_they_are_kept() -> None:
    plays = [play(2, playlist_id=2), play(1, "b|2", playlist_id=2), play(3), play(1, "a|1", playlist_id=10)]
    assert [one[:3] for one in once(plays)] == sorted(one[:3] for one in plays)
