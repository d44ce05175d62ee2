"""What is said of a run where no terminal shows a bar."""

from __future__ import annotations

import pytest

from worker.progress import in_words
from worker.sync.backfill import Progress


@pytest.mark.parametrize(
    ("progress", "said"),
    [
        (Progress(users=3_000, total=10_000), "loading: 3,000 users, 200/s, 35 s left of about 10,000 users"),
        (Progress(users=3_000), "loading: 3,000 users, 200/s"),
        (Progress(users=12_000, total=10_000), "loading: 12,000 users, 200/s, 0 s left of about 10,000 users"),
        (Progress(percentage=12.3), "Auth0 prepares the export: 12 %"),
    ],
)
def test_users_rate_and_time_left_are_said(progress: Progress, said: str) -> None:
    assert in_words("loading", progress, 10.0, 2_000) == said


def test_a_run_that_has_just_begun_has_no_rate() -> None:
    assert in_words("loading", Progress(users=5, total=9), 0.0, 0) == "loading: 5 users, 0/s"
