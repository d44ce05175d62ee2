"""What a strong answer does to somebody forgotten (docs/protocol.md P14)."""

from datetime import UTC, datetime, timedelta

import pytest

from worker.domain.users import Forgotten, Mark, Read, Row, Verdict, Write, on_strong

THEN = datetime(2026, 11, 20, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MARK = Mark(7, THEN)
THERE = {"user_id": "auth0|ada"}


def row(*, keep_out: bool = False) -> Row:
    return Row("auth0|ada", 0, forgotten=Forgotten(THEN, keep_out))


@pytest.mark.parametrize("began", [THEN - SECOND, THEN])
def test_a_read_that_began_before_the_hash_writes_and_lifts_nothing(began: datetime) -> None:
    assert on_strong(row(), MARK, Read(began, 0, 7), THERE) == Verdict(ask=True)


def test_a_read_that_began_after_it_lifts_it() -> None:
    assert on_strong(row(), MARK, Read(THEN + SECOND, 0, 7), THERE) == Verdict(Write.SNAPSHOT, clear=True, lift=True)


def test_a_404_erases_a_bare_row_unless_there_was_news_meanwhile() -> None:
    assert on_strong(row(), MARK, Read(THEN + SECOND, 0, 7), None) == Verdict(Write.ERASE)
    assert on_strong(row(), MARK, Read(THEN + SECOND, 0, 6), None) == Verdict()


@pytest.mark.parametrize("answer", [None, THERE])
def test_who_is_kept_out_goes_whatever_the_tenant_says(answer: dict[str, str] | None) -> None:
    assert on_strong(row(keep_out=True), MARK, Read(THEN + SECOND, 0, 7), answer) == Verdict(Write.ERASE)
