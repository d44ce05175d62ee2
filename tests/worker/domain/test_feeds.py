"""Where a reading of the log begins again, behind a record before which nothing can come to stand any more (P23); what a plan keeps and allows."""

from datetime import UTC, datetime, timedelta

import pytest

from worker.domain.feeds import Checkpoint, Entry, event_connections, log_retention, settle

UNTIL = datetime(2026, 11, 1, tzinfo=UTC)
OLD, YOUNG = UNTIL - timedelta(seconds=1), UNTIL + timedelta(seconds=1)
HERE = Checkpoint("0", OLD - timedelta(days=1))


@pytest.mark.parametrize(
    ("dates", "after"),
    [
        ([], ["0"]),
        ([OLD, UNTIL], ["2"]),
        ([OLD, YOUNG], ["1"]),
        ([YOUNG], ["0"]),
        # Its id may be of the time when it was written: then others that happened before may still come before it.
        ([OLD, YOUNG, OLD], ["1"]),
        # One without a date settles nothing, and what stands behind it settles all the same.
        ([OLD, None], ["1", "2"]),
        ([None, None], ["0", "2"]),
        ([None, OLD], ["2"]),
        ([None, YOUNG], ["0"]),
    ],
)
def test_a_reading_begins_again_behind_the_last_old_record_before_any_young_one(
    dates: list[datetime | None], after: list[str]
) -> None:
    page = [Entry(str(place), date) for place, date in enumerate(dates, 1)]
    history = settle([HERE], page, UNTIL)
    assert [one.log_id for one in history] == after
    assert history[0].at == (HERE.at if after[0] == "0" else dates[int(after[0]) - 1])


@pytest.mark.parametrize(
    ("plan", "days", "connections"),
    [("free", 1, 1), ("essentials", 5, 4), ("professional", 10, 4), ("enterprise", 30, 8)],
)
def test_each_plan_keeps_its_log_and_allows_connections(plan: str, days: int, connections: int) -> None:
    assert log_retention(plan).days == days
    assert event_connections(plan) == connections
