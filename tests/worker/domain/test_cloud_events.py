"""What an event of an event stream means for the copy."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from worker.domain.cloud_events import Heard, hear
from worker.domain.news import News

TIME = "2026-11-01T12:00:00.000Z"
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


def heard(kind: str = "user.updated", purpose: object = None, time: object = TIME, **said: Any) -> Heard:
    return hear(kind, time, purpose, {"object": said})


@pytest.mark.parametrize("kind", ["user.created", "user.updated"])
def test_a_users_event_is_a_snapshot(kind: str) -> None:
    said = {"user_id": "auth0|ada", "updated_at": TIME, "name": "Ada"}
    assert heard(kind, **said).snapshot == said


def test_without_updated_at_it_is_news_that_asks_for_no_strong_read() -> None:
    assert heard(user_id="auth0|ada", updated_at=7).news == News("auth0|ada", NOON)


@pytest.mark.parametrize(
    "updated_at",
    [
        "2099-01-01T00:00:00.000Z",
        "9999-12-31T23:59:59-14:00",
        "0001-01-01T00:00:00+14:00",
        "2026-11-01T12:00:00",
        "2026-06-30T23:59:60Z",
    ],
)
def test_what_is_dated_as_nothing_can_be_is_news_of_the_user(updated_at: str) -> None:
    said = {"object": {"user_id": "auth0|ada", "updated_at": updated_at, "name": "Ada"}}
    told = hear("user.updated", TIME, None, said, NOON + timedelta(days=1))
    assert told == Heard("events_user", news=News("auth0|ada", NOON))


def test_a_clock_that_is_a_little_ahead_is_believed() -> None:
    said = {"object": {"user_id": "auth0|ada", "updated_at": "2026-11-02T12:00:00Z"}}
    assert hear("user.updated", TIME, None, said, NOON + timedelta(days=1)).snapshot == said["object"]


def test_a_deletion_is_believed_for_its_id_alone() -> None:
    announced = News("auth0|ada", NOON, strong=True, severed=True, deletion=True)
    assert heard("user.deleted", user_id="auth0|ada", deleted_at=TIME, time=None).news == announced
    assert heard("user.deleted", user_id="auth0|ada").news == announced


def test_a_test_event_is_counted_and_dropped() -> None:
    assert heard(purpose="test", user_id="auth0|ada", updated_at=TIME) == Heard("events_test")


@pytest.mark.parametrize("kind", ["organization.created", "group.deleted", "user.archived", ""])
def test_what_is_no_users_event_is_counted(kind: str) -> None:
    assert heard(kind, user_id="auth0|ada") == Heard("events_other")


@pytest.mark.parametrize(
    "data", [None, [], {}, {"object": None}, {"object": {"user_id": 7}}, {"object": {"user_id": "ada"}}]
)
def test_a_users_event_without_the_users_id_is_parked(data: Any) -> None:
    assert "without the user's id" in (hear("user.updated", TIME, None, data).bad or "")


def test_an_id_that_postgresql_cannot_hold_is_parked_and_not_quoted() -> None:
    told = heard(user_id="auth0|a\0da", updated_at=TIME)
    assert "NUL" in (told.bad or "")
    assert "da" not in repr(told)
