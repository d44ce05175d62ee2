"""What news and answers do to the copy, rule by rule (docs/protocol.md P2 to P13, P19), on a real database."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, text

from worker.domain.snapshots import on_event
from worker.domain.users import Profile, Tolerances, Verdict, on_search, on_strong
from worker.store import users
from worker.store.users import Claim, Held, UserNews
from worker.sync.answers import Applied, apply
from worker.sync.snapshots import improve

SKEW, SETTLE = timedelta(seconds=5), timedelta(seconds=60)
TOLERANCES = Tolerances(SKEW, SETTLE)
T0 = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
LEASE = timedelta(seconds=30)
MISSING = None


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def profile(user_id: str = "auth0|ada", updated: float = 0, **attributes: Any) -> dict[str, Any]:
    provider, _, key = user_id.partition("|")
    return {
        "user_id": user_id,
        "created_at": "2026-11-01T00:00:00.000Z",
        "updated_at": at(updated).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "identities": [{"provider": provider, "user_id": key, "connection": "c", "isSocial": False}],
        **attributes,
    }


def linked(user_id: str, *secondaries: str, updated: float = 0, **attributes: Any) -> dict[str, Any]:
    primary = profile(user_id, updated, **attributes)
    for secondary in secondaries:
        provider, _, key = secondary.partition("|")
        primary["identities"].append({"provider": provider, "user_id": key, "connection": "c", "isSocial": True})
    return primary


class Copy:
    """The tables, spoken to in the words of the rules."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def hears(self, *news: UserNews) -> None:
        with self.engine.begin() as connection:
            users.mark(connection, news)

    def begins_read(self, user_id: str = "auth0|ada") -> Claim:
        """Begin a read of one user, whatever else is marked."""
        with self.engine.begin() as connection:
            claims = users.claim(connection, "any", rows=1000, lease=LEASE)
            users.release(connection, [claim.user_id for claim in claims if claim.user_id != user_id])
        return next(claim for claim in claims if claim.user_id == user_id)

    def strong(self, claim: Claim, answer: dict[str, Any] | None) -> Applied:
        return apply(self.engine, [(claim, answer)], on_strong, settle=None)

    def search(self, claim: Claim, hit: dict[str, Any] | None, *, settled: bool = True) -> Applied:
        """Answer a search whose read began when the news was settled, or just now."""
        if settled:
            claim = replace(claim, read=replace(claim.read, began_at=claim.read.began_at + SETTLE))
        return apply(self.engine, [(claim, hit)], partial(on_search, tolerances=TOLERANCES), settle=SETTLE)

    def event(self, said: dict[str, Any]) -> int:
        """Have an event stream tell of a user."""

        def rule(held: Held, told: list[dict[str, Any]]) -> tuple[Verdict, Profile]:
            return on_event(held.row, held.mark, told, TOLERANCES)

        return improve(self.engine, {said["user_id"]: [said]}, rule, lambda _: None)

    def knows(self, said: dict[str, Any]) -> None:
        """Have a user read strongly, once."""
        self.hears(UserNews(said["user_id"]))
        self.strong(self.begins_read(said["user_id"]), said)

    def row(self, user_id: str = "auth0|ada") -> Any:
        with self.engine.connect() as connection:
            return connection.execute(text("SELECT * FROM users WHERE user_id = :id"), {"id": user_id}).one_or_none()

    def mark(self, user_id: str = "auth0|ada") -> Any:
        with self.engine.connect() as connection:
            return connection.execute(text("SELECT * FROM news WHERE user_id = :id"), {"id": user_id}).one_or_none()

    def ask(self, sql: str) -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.execute(text(sql)).all())


@pytest.fixture
def copy(database_url: str) -> Iterator[Copy]:
    engine = create_engine(database_url.replace("postgresql:", "postgresql+psycopg:"))
    yield Copy(engine)
    engine.dispose()


def test_a_snapshot_replaces_the_whole_profile_and_what_is_gone_upstream_becomes_null(copy: Copy) -> None:  # P2
    copy.knows(profile(nickname="ada", username="a", app_metadata={"roles": ["admin"], "plan": "pro"}))
    copy.knows(profile(updated=1, name="Ada"))
    row = copy.row()
    assert (row.name, row.nickname, row.username, row.roles, row.plan) == ("Ada", None, None, None, None)
    assert "nickname" not in row.profile


def test_snapshots_are_compared_in_one_canonical_form(copy: Copy) -> None:  # P2
    said = profile()
    copy.knows(said)
    before = copy.row()
    copy.hears(UserNews("auth0|ada"))
    claim = copy.begins_read()
    same = {**said, "email": None, "identities": [{"user_id": "ada", "connection": "c", "provider": "auth0"}]}
    assert copy.strong(claim, same).written == 0
    assert copy.row().profile == before.profile


def test_integer_ids_of_identities_are_text(copy: Copy) -> None:  # P2
    said = profile("google-oauth2|117")
    said["identities"][0]["user_id"] = 117
    copy.knows(said)
    copy.hears(UserNews("google-oauth2|117"))
    assert copy.strong(copy.begins_read("google-oauth2|117"), profile("google-oauth2|117")).written == 0


def test_last_login_comes_from_snapshots_alone_and_the_view_shows_the_later(copy: Copy) -> None:  # P3
    copy.knows(profile(last_login="2026-11-20T11:00:00.000Z"))
    copy.hears(UserNews("auth0|ada", newest=at(0), login_seen_at=at(0)))
    assert copy.row().last_login == at(-3600)
    [(seen,)] = copy.ask("SELECT last_seen_at FROM live_users")
    assert seen == at(0)


def test_the_login_seen_only_moves_forward_and_outlives_its_mark(copy: Copy) -> None:  # P3
    copy.hears(UserNews("auth0|ada", newest=at(9), login_seen_at=at(9)))
    copy.hears(UserNews("auth0|ada", newest=at(3), login_seen_at=at(3)))
    copy.strong(copy.begins_read(), profile(updated=9))
    assert copy.mark() is None
    assert copy.row().login_seen_at == at(9)


def test_the_login_seen_outlives_a_mark_that_an_event_clears_without_saying_anything_new(copy: Copy) -> None:  # P3, P11
    copy.knows(profile(updated=9))
    copy.hears(UserNews("auth0|ada", newest=at(4), login_seen_at=at(4)))

    assert copy.event(profile(updated=9)) == 0
    assert copy.mark() is None
    assert copy.row().login_seen_at == at(4)


def test_a_login_of_an_earlier_life_of_the_id_is_not_shown(copy: Copy) -> None:  # P3
    copy.hears(UserNews("auth0|ada", newest=at(0), login_seen_at=at(0)))
    copy.strong(copy.begins_read(), profile(updated=60, created_at="2026-11-20T12:01:00.000Z"))
    assert copy.ask("SELECT login_seen_at, last_seen_at FROM live_users") == [(None, None)]


@pytest.mark.parametrize("answer", [profile(), profile(updated=5), MISSING], ids=["unchanged", "changed", "gone"])
def test_every_strong_answer_moves_the_version(copy: Copy, answer: dict[str, Any] | None) -> None:  # P4
    copy.knows(profile())
    before = copy.row().version
    copy.hears(UserNews("auth0|ada"))
    copy.strong(copy.begins_read(), answer)
    assert copy.row().version == before + 1


LATER_NEWS = pytest.mark.parametrize(
    "later",
    [UserNews("auth0|ada", newest=at(1)), UserNews("auth0|ada", newest=at(1), login_seen_at=at(1))],
    ids=["a_change", "a_login"],
)


@LATER_NEWS
def test_news_that_arrives_while_the_user_is_read_keeps_its_mark(copy: Copy, later: UserNews) -> None:  # P5
    copy.hears(UserNews("auth0|ada", newest=at(0)))
    claim = copy.begins_read()
    copy.hears(later)
    copy.strong(claim, profile())
    assert copy.mark().newest == at(1)
    assert copy.row().updated_at == at(0)


@LATER_NEWS
def test_news_settles_from_its_last_arrival(copy: Copy, later: UserNews) -> None:  # P5, P10
    copy.knows(profile())
    copy.hears(UserNews("auth0|ada", newest=at(0)))
    first = copy.mark().last_at
    copy.hears(later)
    claim = copy.begins_read()
    claim = replace(claim, read=replace(claim.read, began_at=first + SETTLE))
    copy.search(claim, profile(updated=1), settled=False)
    assert copy.mark() is not None


@LATER_NEWS
def test_later_news_never_weakens_a_mark(copy: Copy, later: UserNews) -> None:  # P6
    copy.hears(UserNews("auth0|ada", strong=True, deletion_announced=True, deletion_seen_at=at(0), newest=at(0)))
    copy.hears(later)
    mark = copy.mark()
    assert (mark.strong, mark.deletion_announced, mark.deletion_seen_at, mark.newest) == (True, True, at(0), at(1))


def test_an_older_login_in_later_news_moves_nothing_back(copy: Copy) -> None:  # P3, P6
    copy.hears(UserNews("auth0|ada", newest=at(9), login_seen_at=at(9)))
    copy.hears(UserNews("auth0|ada", newest=at(3), login_seen_at=at(2)))
    mark = copy.mark()
    assert (mark.newest, mark.login_seen_at) == (at(9), at(9))


def test_a_mark_set_anew_is_another_mark(copy: Copy) -> None:  # P5: a number is never used again
    copy.hears(UserNews("auth0|ada"))
    first, late = copy.begins_read(), copy.mark().number
    copy.strong(first, profile())
    copy.hears(UserNews("auth0|ada"))
    with copy.engine.begin() as connection:
        users.clear(connection, {"auth0|ada": late})
    assert copy.mark() is not None


def test_merged_news_keeps_the_newest_dates_and_the_strongest_wish(copy: Copy) -> None:  # P6
    copy.hears(UserNews("auth0|ada", newest=at(5), login_seen_at=at(1), strong=True, deletion_seen_at=at(2)))
    copy.hears(UserNews("auth0|ada", newest=at(3), login_seen_at=at(3)))
    mark = copy.mark()
    assert (mark.newest, mark.login_seen_at, mark.strong, mark.deletion_seen_at) == (at(5), at(3), True, at(2))


def test_equal_times_with_different_content_ask_for_a_strong_read(copy: Copy) -> None:  # P6
    copy.knows(profile(name="Ada"))
    copy.hears(UserNews("auth0|ada", newest=at(0)))
    copy.search(copy.begins_read(), profile(name="Grace"))
    assert copy.row().name == "Ada"
    assert copy.mark().strong


def test_news_of_a_tombstone_asks_for_a_strong_read(copy: Copy) -> None:  # P7
    copy.knows(profile())
    copy.hears(UserNews("auth0|ada", strong=True))
    copy.strong(copy.begins_read(), MISSING)
    copy.hears(UserNews("auth0|ada", newest=at(1)))
    copy.search(copy.begins_read(), profile(updated=2), settled=False)
    assert copy.mark().strong


def test_someone_a_settled_search_does_not_find_is_read_strongly(copy: Copy) -> None:  # P7, P10
    copy.knows(profile())
    copy.hears(UserNews("auth0|ada"))
    copy.search(copy.begins_read(), MISSING)
    assert copy.mark().strong
    assert copy.row().deleted_at is None


@pytest.mark.parametrize("wins", [True, False], ids=["winning", "losing"])
def test_ids_that_a_snapshot_gains_or_loses_are_read_strongly(copy: Copy, wins: bool) -> None:  # P7
    copy.knows(linked("auth0|ada", "sms|1"))
    copy.strong(copy.begins_read("sms|1"), MISSING)
    copy.hears(UserNews("auth0|ada"))
    copy.search(copy.begins_read(), linked("auth0|ada", "email|2", updated=10 if wins else -10))
    assert copy.mark("sms|1").strong
    assert copy.mark("email|2").strong


def test_the_secondaries_of_a_deleted_primary_are_read_strongly(copy: Copy) -> None:  # P7
    copy.knows(linked("auth0|ada", "sms|1"))
    copy.strong(copy.begins_read("sms|1"), MISSING)
    copy.hears(UserNews("auth0|ada", strong=True, deletion_announced=True))
    copy.strong(copy.begins_read(), MISSING)
    assert copy.mark("sms|1").strong


def test_two_readers_never_hold_the_same_mark(copy: Copy) -> None:  # P8
    copy.hears(UserNews("auth0|ada"), UserNews("auth0|bob"))
    with copy.engine.begin() as one, copy.engine.begin() as other:
        first = users.claim(one, "any", rows=1, lease=LEASE)
        second = users.claim(other, "any", rows=5, lease=LEASE)
    assert {claim.user_id for claim in first} & {claim.user_id for claim in second} == set()
    assert len(first) + len(second) == 2


def test_a_lease_ends_by_its_time(copy: Copy) -> None:  # P8
    copy.hears(UserNews("auth0|ada"))
    with copy.engine.begin() as connection:
        assert users.claim(connection, "any", rows=1, lease=timedelta(0))
    with copy.engine.begin() as connection:
        assert users.claim(connection, "any", rows=1, lease=LEASE)
    with copy.engine.begin() as connection:
        assert not users.claim(connection, "any", rows=1, lease=LEASE)


def test_a_strong_answer_is_applied_whatever_its_times_say(copy: Copy) -> None:  # P9
    copy.knows(profile(updated=100, name="Ada"))
    copy.hears(UserNews("auth0|ada"))
    copy.strong(copy.begins_read(), profile(updated=50, name="Grace"))
    assert copy.row().name == "Grace"
    assert copy.mark() is None


@pytest.mark.parametrize("answer", [profile(updated=100, name="Late"), MISSING], ids=["profile", "gone"])
def test_an_answer_whose_row_moved_meanwhile_writes_nothing_and_asks(
    copy: Copy, answer: dict[str, Any] | None
) -> None:  # P9
    copy.knows(profile(name="Ada"))
    copy.hears(UserNews("auth0|ada"))
    late = copy.begins_read()
    copy.hears(UserNews("auth0|ada"))
    with copy.engine.begin() as connection:
        users.release(connection, ["auth0|ada"])
    copy.strong(copy.begins_read(), profile(updated=1, name="Grace"))
    assert copy.mark() is None
    copy.strong(late, answer)
    assert copy.row().name == "Grace"
    assert copy.mark().strong


def test_a_search_whose_row_moved_meanwhile_writes_nothing(copy: Copy) -> None:  # P9
    copy.knows(profile())
    copy.hears(UserNews("auth0|ada"))
    late = copy.begins_read()
    with copy.engine.begin() as connection:
        users.release(connection, ["auth0|ada"])
    copy.strong(copy.begins_read(), MISSING)
    copy.hears(UserNews("auth0|ada"))
    copy.strong(copy.begins_read(), profile(updated=20, name="Again"))
    copy.search(late, profile(updated=30, name="Late"))
    assert copy.row().name == "Again"
    assert copy.mark().strong


def test_a_late_strong_answer_equal_to_the_row_may_clear_the_mark(copy: Copy) -> None:  # P9
    copy.hears(UserNews("auth0|ada"))
    claim = copy.begins_read()
    copy.strong(claim, profile())
    copy.hears(UserNews("auth0|ada"))
    again = copy.begins_read()
    moved = replace(again, read=replace(again.read, version=claim.read.version))
    copy.strong(moved, profile())
    assert copy.mark() is None


def test_a_search_improves_at_once_but_clears_only_what_has_settled(copy: Copy) -> None:  # P10
    copy.knows(profile())
    copy.hears(UserNews("auth0|ada", newest=at(10)))
    copy.search(copy.begins_read(), profile(updated=10, name="Ada"), settled=False)
    assert copy.row().name == "Ada"
    assert copy.mark() is not None
    assert copy.mark().due_at >= copy.mark().last_at + SETTLE
    copy.search(copy.begins_read(), profile(updated=10, name="Ada"))
    assert copy.mark() is None


def test_a_settled_search_older_than_the_news_asks_for_a_strong_read(copy: Copy) -> None:  # P10
    copy.knows(profile())
    copy.hears(UserNews("auth0|ada", newest=at(10)))
    copy.search(copy.begins_read(), profile(updated=4.9))
    assert copy.mark().strong


def test_a_search_as_old_as_the_news_less_the_skew_will_do(copy: Copy) -> None:  # P10: log dates are seconds off
    copy.knows(profile())
    copy.hears(UserNews("auth0|ada", newest=at(10)))
    copy.search(copy.begins_read(), profile(updated=5))
    assert copy.mark() is None


def test_a_search_never_clears_a_mark_that_wants_a_strong_read(copy: Copy) -> None:  # P5, P10
    copy.knows(profile())
    copy.hears(UserNews("auth0|ada", strong=True))
    copy.search(copy.begins_read(), profile(updated=99))
    assert copy.mark().strong


def test_a_strong_wish_heard_during_a_search_does_not_wait_for_the_news_to_settle(copy: Copy) -> None:  # P7, P10
    copy.hears(UserNews("auth0|ada"))
    claim = copy.begins_read()
    copy.hears(UserNews("auth0|ada", strong=True))
    copy.search(claim, profile(), settled=False)
    assert copy.mark().due_at <= copy.mark().last_at


def test_leases_end_in_the_order_of_ids_whatever_the_order_of_the_rows(copy: Copy) -> None:
    for user_id in ("auth0|z", "auth0|a"):  # so they lie on the page
        copy.hears(UserNews(user_id))

    def end_leases() -> None:
        with copy.engine.begin() as connection:
            users.release(connection, ["auth0|z", "auth0|a"])

    with ThreadPoolExecutor() as pool:
        with copy.engine.begin() as connection:
            users.mark(connection, [UserNews("auth0|a")])
            ending = pool.submit(end_leases)
            while not copy.ask("SELECT FROM pg_locks WHERE NOT granted"):
                assert not ending.done()
            users.mark(connection, [UserNews("auth0|z")])
        ending.result()


def test_an_older_search_hit_never_overwrites(copy: Copy) -> None:  # P10
    copy.knows(profile(updated=10, name="Ada"))
    copy.hears(UserNews("auth0|ada", newest=at(8)))
    copy.search(copy.begins_read(), profile(updated=9, name="Old"))
    assert copy.row().name == "Ada"


def test_a_missing_user_becomes_a_tombstone_without_personal_data(copy: Copy) -> None:  # P12
    copy.knows(profile(email="ada@example.com", name="Ada"))
    copy.hears(UserNews("auth0|ada", strong=True, deletion_announced=True))
    copy.strong(copy.begins_read(), MISSING)
    row = copy.row()
    assert row.deleted_at is not None
    assert (row.email, row.name, row.profile, row.identities) == (None, None, None, None)
    assert copy.ask("SELECT * FROM live_users") == []


def test_an_id_we_never_had_gets_a_tombstone_too(copy: Copy) -> None:  # P12
    copy.hears(UserNews("auth0|ghost", strong=True))
    copy.strong(copy.begins_read("auth0|ghost"), MISSING)
    assert copy.row("auth0|ghost").deleted_at is not None


def test_only_a_strong_read_brings_somebody_back(copy: Copy) -> None:  # P12
    copy.knows(profile())
    copy.hears(UserNews("auth0|ada", strong=True, deletion_announced=True))
    copy.strong(copy.begins_read(), MISSING)
    copy.hears(UserNews("auth0|ada", newest=at(99)))
    copy.search(copy.begins_read(), profile(updated=99))
    assert copy.row().deleted_at is not None
    assert copy.mark().strong
    copy.strong(copy.begins_read(), profile(updated=99))
    assert copy.row().deleted_at is None


def test_a_search_no_later_than_a_deletion_asks_and_does_not_win(copy: Copy) -> None:  # P12
    copy.knows(profile(name="Ada"))
    copy.hears(UserNews("auth0|ada", newest=at(20), deletion_seen_at=at(20), strong=True))
    copy.strong(copy.begins_read(), profile(updated=1, name="Ada"))
    copy.hears(UserNews("auth0|ada", newest=at(20)))
    copy.search(copy.begins_read(), profile(updated=24.9, name="Ghost"))
    assert copy.row().name == "Ada"
    assert copy.mark().strong


def test_an_alias_follows_from_the_identities_of_live_primaries(copy: Copy) -> None:  # P13
    copy.knows(linked("auth0|ada", "sms|1"))
    assert copy.ask("SELECT alias_id, user_id FROM aliases") == [("sms|1", "auth0|ada")]
    copy.strong(copy.begins_read("sms|1"), MISSING)
    assert copy.ask("SELECT alias_id, user_id FROM aliases") == [("sms|1", "auth0|ada")]
    copy.hears(UserNews("auth0|ada", strong=True, deletion_announced=True))
    copy.strong(copy.begins_read(), MISSING)
    assert copy.ask("SELECT alias_id, user_id FROM aliases") == []


def test_a_live_row_is_never_an_alias(copy: Copy) -> None:  # P13
    copy.knows(linked("auth0|ada", "sms|1"))
    copy.strong(copy.begins_read("sms|1"), profile("sms|1"))
    assert copy.ask("SELECT alias_id, user_id FROM aliases") == []


def test_deletions_that_nothing_announced_stop_at_the_brake(copy: Copy) -> None:  # P19
    ids = [f"auth0|{number:02}" for number in range(15)]
    for user_id in ids:
        copy.knows(profile(user_id))
    copy.hears(*(UserNews(user_id, strong=True) for user_id in ids))
    braked = sum(copy.strong(copy.begins_read(user_id), MISSING).braked for user_id in ids)
    assert braked == 5
    assert copy.ask("SELECT count(*) FROM users WHERE deleted_at IS NOT NULL") == [(10,)]
    with copy.engine.begin() as connection:
        assert users.claim(connection, "any", rows=99, lease=LEASE) == []
        assert users.recheck_deletions(connection) == 15
    for user_id in ids:
        copy.strong(copy.begins_read(user_id), profile(user_id))
    assert copy.ask("SELECT count(*) FROM users WHERE deleted_at IS NULL") == [(15,)]


@pytest.mark.parametrize("answer", [users.recheck_deletions, lambda connection: users.allow_deletions(connection, 9)])
def test_a_human_answers_the_brake_in_the_order_of_ids(copy: Copy, answer: Callable[[Connection], int]) -> None:  # P19
    for user_id in ("auth0|z", "auth0|a"):  # so they lie on the page, and so they were braked
        copy.hears(UserNews(user_id))
        with copy.engine.begin() as connection:
            users.brake(connection, [user_id])

    def say() -> int:
        with copy.engine.begin() as connection:
            return answer(connection)

    with ThreadPoolExecutor() as pool:
        with copy.engine.begin() as connection:
            users.mark(connection, [UserNews("auth0|a")])
            answering = pool.submit(say)
            while not copy.ask("SELECT FROM pg_locks WHERE NOT granted"):
                assert not answering.done()
            users.mark(connection, [UserNews("auth0|z")])
        assert answering.result() == 2
    assert copy.ask("SELECT count(*) FROM news WHERE braked_at IS NOT NULL") == [(0,)]


def test_a_braked_user_keeps_a_mark_though_a_search_cleared_it(copy: Copy) -> None:  # P19
    for number in range(10):
        copy.knows(profile(f"auth0|{number}"))
        copy.hears(UserNews(f"auth0|{number}", strong=True))
        copy.strong(copy.begins_read(f"auth0|{number}"), MISSING)
    copy.knows(profile())
    copy.hears(UserNews("auth0|ada", newest=at(0)))
    late = copy.begins_read()
    with copy.engine.begin() as connection:
        users.release(connection, ["auth0|ada"])
    copy.search(copy.begins_read(), profile())
    assert copy.mark() is None
    assert copy.strong(late, MISSING).braked == 1
    assert copy.mark().braked_at is not None


def test_a_braked_user_keeps_a_mark_whatever_a_late_event_or_search_says(copy: Copy) -> None:  # P11, P19
    for number in range(10):
        copy.knows(profile(f"auth0|{number}"))
        copy.hears(UserNews(f"auth0|{number}", strong=True))
        copy.strong(copy.begins_read(f"auth0|{number}"), MISSING)
    copy.knows(profile())
    copy.hears(UserNews("auth0|ada", newest=at(0)))
    claim = copy.begins_read()
    assert copy.strong(claim, MISSING).braked == 1
    copy.search(claim, profile(updated=9))
    assert copy.mark().braked_at is not None
    copy.event(profile(updated=10))
    assert copy.row().updated_at == at(10)
    assert copy.mark().braked_at is not None


def test_a_tombstone_that_a_search_misses_is_read_strongly_at_once(copy: Copy) -> None:  # P7
    copy.hears(UserNews("auth0|ada", strong=True))
    copy.strong(copy.begins_read(), MISSING)
    copy.hears(UserNews("auth0|ada", newest=at(1)))
    copy.search(copy.begins_read(), MISSING, settled=False)
    assert copy.mark().strong


def test_announced_deletions_pass_the_brake(copy: Copy) -> None:  # P19
    ids = [f"auth0|{number:02}" for number in range(15)]
    for user_id in ids:
        copy.knows(profile(user_id))
    copy.hears(*(UserNews(user_id, strong=True, deletion_announced=True) for user_id in ids))
    assert sum(copy.strong(copy.begins_read(user_id), MISSING).braked for user_id in ids) == 0
    assert copy.ask("SELECT * FROM live_users") == []


@pytest.mark.parametrize(
    "said",
    [
        {"name": "nul \x00 inside"},
        {"name": "half \ud800 a pair"},
        {"email_verified": "true"},
        {"logins_count": 10**30},
        {"logins_count": "many"},
        {"created_at": "not a date"},
        {"last_login": {"at": 1}},
        {"app_metadata": {"roles": "admin"}},
        {"identities": None},
        {"user_metadata": ["list"]},
    ],
    ids=repr,
)
def test_an_odd_profile_is_kept_as_far_as_columns_can_hold_it(copy: Copy, said: dict[str, Any]) -> None:
    copy.knows(
        profile(nickname="ada", **said)
        if "created_at" not in said and "identities" not in said
        else profile(nickname="ada") | said
    )
    assert copy.row().nickname == "ada"
    assert copy.mark() is None
