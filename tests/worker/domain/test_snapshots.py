"""What a snapshot that was pushed, or exported, does to a row (P2, P6, P7, P10, P11, P12), clause by clause."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from worker.domain.snapshots import EVENT_COVERS, differing, on_event, on_export, over
from worker.domain.users import Mark, Profile, Row, Tolerances, Verdict, Write, profile_time

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
TOLERANCES = Tolerances(timedelta(seconds=5), timedelta(seconds=60))


def at(seconds: float) -> str:
    return (NOON + timedelta(seconds=seconds)).isoformat()


def profile(seconds: float = 0, linked: tuple[str, ...] = (), **said: Any) -> dict[str, Any]:
    identities = [
        {"provider": "auth0", "user_id": key, "connection": "c", "isSocial": False} for key in ("ada", *linked)
    ]
    return {"user_id": "auth0|ada", "updated_at": at(seconds), "identities": identities, **said}


def row(known: Profile | None = None, **fields: Any) -> Row:
    return Row("auth0|ada", 3, known, **fields)


def mark(newest: float | None = 0, **fields: Any) -> Mark:
    return Mark(7, NOON, None if newest is None else NOON + timedelta(seconds=newest), **fields)


def decide(held: Row, *told: Profile, news: Mark | None = None) -> Verdict:
    return on_event(held, news, told, TOLERANCES)[0]


def test_a_newer_snapshot_improves_the_row_and_asks_for_nothing() -> None:
    assert decide(row(profile(0)), profile(1, name="Ada")) == Verdict(Write.SNAPSHOT)


def test_a_bare_row_takes_any_snapshot() -> None:
    assert decide(row(), profile(0)) == Verdict(Write.SNAPSHOT)


def test_an_older_snapshot_loses_and_clears_nothing() -> None:
    assert decide(row(profile(60)), profile(50), news=mark(0)) == Verdict()


def test_the_same_snapshot_again_changes_nothing() -> None:
    assert decide(row(profile(0, name="Ada")), profile(0, name="Ada")) == Verdict()


def test_only_the_newest_of_a_batch_is_written() -> None:
    verdict, said = on_event(
        row(profile(0)), None, [profile(3, name="c"), profile(9, name="i"), profile(6)], TOLERANCES
    )
    assert (verdict.write, said["name"]) == (Write.SNAPSHOT, "i")


def test_whose_row_is_dated_ahead_is_read_strongly() -> None:
    latest = NOON + timedelta(days=1)
    ahead = row(profile(2 * 86_400))
    assert on_event(ahead, mark(0), [profile(9, linked=("bob",))], TOLERANCES, latest)[0] == Verdict(
        ask=True, ask_others=frozenset({"auth0|bob"}), expected_gone=frozenset({"auth0|bob"})
    )
    assert on_event(row(profile(86_400)), None, [profile(9)], TOLERANCES, latest)[0] == Verdict()


@pytest.mark.parametrize(
    "odd", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-06-30T23:59:60Z", "2026-11-01T12:00:00", 7]
)
def test_a_time_that_not_everybody_can_read_is_none(odd: object) -> None:
    assert profile_time(odd) is None


def test_two_snapshots_of_one_moment_that_differ_ask_for_a_strong_read() -> None:
    assert decide(row(profile(0)), profile(1, name="a"), profile(1, name="b")).ask
    assert decide(row(profile(1, name="a")), profile(1, name="b")) == Verdict(ask=True)


def test_two_snapshots_of_one_moment_that_say_the_same_ask_for_nothing() -> None:
    assert decide(row(profile(0)), profile(1, name="a"), profile(1, name="a")) == Verdict(Write.SNAPSHOT)


def test_a_mark_is_cleared_only_from_the_news_date_plus_the_skew_on() -> None:
    assert not decide(row(profile(0)), profile(4.9), news=mark(0)).clear
    assert decide(row(profile(0)), profile(5), news=mark(0)).clear


def test_a_mark_that_asks_for_a_strong_read_stays() -> None:
    verdict = decide(row(profile(0)), profile(60), news=mark(0, strong=True))
    assert verdict == Verdict(Write.SNAPSHOT)


def test_a_mark_whose_news_has_no_date_stays() -> None:
    assert not decide(row(profile(0)), profile(60), news=mark(None)).clear


def test_an_old_snapshot_clears_no_mark_however_old_the_news() -> None:
    assert not decide(row(profile(60)), profile(50), news=mark(0)).clear


def test_a_tombstone_is_not_lifted_it_asks() -> None:
    assert decide(row(deleted=True), profile(60)) == Verdict(ask=True)


def test_a_snapshot_no_later_than_a_deletion_asks_and_does_not_win() -> None:
    for held, news in (
        (row(profile(0), deletion_seen_at=NOON + timedelta(seconds=10)), None),
        (row(profile(0)), mark(0, deletion_seen_at=NOON + timedelta(seconds=10))),
        (row(), mark(0, deletion_seen_at=NOON + timedelta(seconds=10))),
    ):
        assert decide(held, profile(15), news=news) == Verdict(ask=True)
        assert decide(held, profile(15.1), news=news).write is Write.SNAPSHOT


def test_ids_that_come_and_go_are_asked_for_whether_the_snapshot_wins_or_not() -> None:
    held = row(profile(10, linked=("bob",)))
    for seconds in (5, 20):
        verdict = decide(held, profile(seconds, linked=("cy",)))
        assert (verdict.ask_others, verdict.expected_gone) == (
            frozenset(("auth0|bob", "auth0|cy")),
            frozenset(("auth0|cy",)),
        )


def test_ids_that_only_an_older_snapshot_of_the_batch_names_are_asked_for_too() -> None:
    verdict = decide(row(profile(0)), profile(1, linked=("bob",)), profile(2))
    assert (verdict.write, verdict.ask_others) == (Write.SNAPSHOT, frozenset(("auth0|bob",)))


def test_what_an_event_says_nothing_of_stays_and_what_it_lacks_goes() -> None:
    known = profile(0, name="Ada", email="a@example.com", last_password_reset=at(-60))
    assert over(known, profile(1, name="Ada"), EVENT_COVERS) == profile(1, name="Ada", last_password_reset=at(-60))


def test_an_attribute_that_only_an_event_brings_is_kept() -> None:
    assert over(None, profile(1, shoe_size=38), EVENT_COVERS) == profile(1, shoe_size=38)


def test_what_differs_is_named_in_canonical_form_over_what_is_covered() -> None:
    here = profile(0, name="Ada", blocked=None, last_password_reset=at(0))
    there = profile(0, name="Ida", phone_number="+1")
    assert differing(here, there, EVENT_COVERS) == ["name", "phone_number"]
    assert differing(here, dict(reversed(here.items())), EVENT_COVERS) == []


def exported(held: Row, told: Profile, news: Mark | None = None) -> Verdict:
    """Decide on a line of an export that was asked for at noon, by our clock."""
    return on_export(held, news, told, None, TOLERANCES, NOON)[0]


def test_an_export_no_later_than_a_deletion_asks_and_does_not_win() -> None:
    for held, news in (
        (row(profile(0), deletion_seen_at=NOON + timedelta(seconds=10)), None),
        (row(profile(0)), mark(0, deletion_seen_at=NOON + timedelta(seconds=10))),
        (row(), mark(0, deletion_seen_at=NOON + timedelta(seconds=10))),
    ):
        assert exported(held, profile(15), news) == Verdict(ask=True)
        assert exported(held, profile(15.1), news) == Verdict(Write.SNAPSHOT)


def test_a_row_that_is_newer_than_an_export_is_in_doubt_only_if_it_was_so_before() -> None:
    moment = timedelta(milliseconds=1)
    before = row(profile(60, name="a"), synced_at=NOON - moment)
    since = row(profile(60, name="a"), synced_at=NOON)
    assert exported(before, profile(50, name="b")) == Verdict(ask=True)
    assert exported(before, profile(60, name="a")) == Verdict()
    assert exported(since, profile(50, name="b")) == Verdict()
