"""What a plan keeps and allows, as Auth0's documentation has it."""

import pytest

from worker.domain.feeds import event_connections, log_retention


@pytest.mark.parametrize(
    ("plan", "days", "connections"),
    [("free", 1, 1), ("essentials", 5, 4), ("professional", 10, 4), ("enterprise", 30, 8)],
)
def test_each_plan_keeps_its_log_and_allows_connections(plan: str, days: int, connections: int) -> None:
    assert log_retention(plan).days == days
    assert event_connections(plan) == connections
