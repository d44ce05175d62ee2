"""The request budget, on a real Redis whose clock the test sets (docs/protocol.md P26)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from redis import Redis

from worker.auth0.pace import SERVER_CLOCK, Budget, Priority, pause_from
from worker.errors import BrokerDown, WrongSetting
from worker.settings import Settings

SETTABLE_CLOCK = "local now = tonumber(redis.call('GET', 'the clock'))"
START = 1_795_000_000.0
CLASSES: tuple[Priority, ...] = ("now", "push", "settle", "mass")
CUSHIONS = {"now": 0.0, "push": 0.1, "settle": 0.2, "mass": 0.5}
SHARES = {"now": 0.35, "push": 0.2, "settle": 0.3, "mass": 0.1}


def a_setting(**changes: Any) -> Settings:
    values: dict[str, Any] = {
        "database_url": "postgresql://nobody@127.0.0.1/none",
        "redis_url": "redis://127.0.0.1:1/0",
        "auth0_domain": "acme.eu.auth0.com",
        "auth0_budget_share": 1,
    }
    return Settings(**values | changes)


@dataclass
class Clock:
    """The time by Redis, in the test's hands."""

    redis: Redis
    now: float = START

    def __post_init__(self) -> None:
        self.forward(0)

    def forward(self, seconds: float) -> None:
        self.now += seconds
        self.redis.set("the clock", repr(self.now))


@pytest.fixture
def clock(redis: Redis) -> Clock:
    return Clock(redis)


@pytest.fixture
def budget_of(redis: Redis, clock: Clock) -> Callable[..., Budget]:  # noqa: ARG001  # the clock is set first
    def make(burst: float = 10, rate: float = 1, **changes: Any) -> Budget:
        chosen = a_setting(**{"auth0_limits": {"global": (burst, rate)}} | changes)
        return Budget(redis, chosen, clock=SETTABLE_CLOCK, chance=lambda: 0.0)

    return make


def full(budget: Budget, clock: Clock, seconds: float = 100) -> Budget:
    """Wait until the bucket is full."""
    budget.look("read_users")
    clock.forward(seconds)
    return budget


def take_all(budget: Budget, priority: Priority = "now") -> int:
    return budget.take("read_users", priority, 1000).granted


def test_a_bucket_never_seen_begins_empty(budget_of: Callable[..., Budget], clock: Clock) -> None:
    budget = budget_of(burst=10, rate=2)
    first = budget.take("read_users", "now")
    assert (first.granted, first.reason) == (0, "spent")
    assert first.wait == pytest.approx(0.5)
    clock.forward(first.wait)
    assert budget.take("read_users", "now").granted == 1


def test_a_wiped_redis_does_not_give_the_burst_again(
    budget_of: Callable[..., Budget], clock: Clock, redis: Redis
) -> None:
    budget = full(budget_of(burst=10), clock)
    assert take_all(budget) == 10
    redis.flushdb()
    redis.script_flush()
    clock.forward(0)
    assert take_all(budget) == 0


def test_every_process_spends_from_the_same_bucket(budget_of: Callable[..., Budget], clock: Clock) -> None:
    one, other = full(budget_of(burst=10), clock), budget_of(burst=10)
    assert one.take("read_users", "now", 7).granted == 7
    assert other.take("read_users", "now", 7).granted == 3


def test_our_share_of_the_burst_is_at_least_one_request(budget_of: Callable[..., Budget], clock: Clock) -> None:
    budget = full(budget_of(burst=2, rate=2, auth0_budget_share=0.1), clock)
    look = budget.look("read_users")
    assert (look.level, look.capacity) == (1, 1)
    assert look.rate == pytest.approx(0.2)


def test_groups_that_auth0_limits_apart_do_not_share(redis: Redis, clock: Clock) -> None:
    budget = Budget(redis, a_setting(auth0_plan="essentials"), clock=SETTABLE_CLOCK)
    for group in ("read_users", "write_users", "read_logs"):
        budget.look(group)
    clock.forward(1000)
    assert budget.take("read_users", "now", 1000).granted == 40
    assert budget.take("write_users", "push", 1000, keep_place=False).granted >= 18
    assert budget.look("read_logs").capacity == 10


def test_a_plan_with_one_limit_has_one_bucket(redis: Redis, clock: Clock) -> None:
    budget = full(Budget(redis, a_setting(auth0_plan="enterprise"), clock=SETTABLE_CLOCK), clock)
    assert budget.take("read_users", "now", 1000).granted == 50
    assert budget.take("write_users", "push").granted == 0


def test_a_limit_for_an_unknown_group_is_a_wrong_setting(redis: Redis) -> None:
    with pytest.raises(WrongSetting, match="reed_users"):
        Budget(redis, a_setting(auth0_limits={"reed_users": (1, 1)}))


def test_tokens_given_back_are_there_again(budget_of: Callable[..., Budget], clock: Clock) -> None:
    budget = full(budget_of(burst=10), clock)
    take_all(budget)
    budget.give_back("read_users", "now", 4)
    assert take_all(budget) == 4


def test_a_charge_is_paid_before_anybody_gets_more(budget_of: Callable[..., Budget], clock: Clock) -> None:
    budget = full(budget_of(burst=10), clock)
    take_all(budget)
    budget.charge("read_users", 2)
    clock.forward(2)
    assert take_all(budget) == 0
    clock.forward(1)
    assert take_all(budget) == 1


def test_a_read_and_a_write_come_together_or_not_at_all(budget_of: Callable[..., Budget], clock: Clock) -> None:  # P16
    groups = {"read_users": (5.0, 1.0), "write_users": (1.0, 0.5), "other": (1.0, 1.0)}
    budget = budget_of(auth0_limits=groups)
    budget.look("read_users"), budget.look("write_users")
    clock.forward(60)
    assert budget.take_read_and_write("push").granted == 1
    refused = budget.take_read_and_write("push")
    assert refused.granted == 0
    assert refused.wait == pytest.approx(2)
    assert budget.look("read_users").level == pytest.approx(4), "the token for the read was not given back"


def test_one_bucket_of_one_token_allows_a_write_and_is_repaid(
    budget_of: Callable[..., Budget], clock: Clock
) -> None:  # P16
    budget = full(budget_of(burst=1, rate=1), clock)
    assert budget.take_read_and_write("push").granted == 1
    clock.forward(1.5)
    assert budget.take("read_users", "now").granted == 0
    clock.forward(0.5)
    assert budget.take("read_users", "now").granted == 1


def test_pushes_that_book_ahead_pay_with_their_own_share(budget_of: Callable[..., Budget], clock: Clock) -> None:  # P26
    budget = full(budget_of(burst=1, rate=10), clock)
    granted = {"now": 0, "push": 0}
    for _ in range(1000):
        clock.forward(0.01)
        granted["push"] += 2 * budget.take_read_and_write("push").granted
        granted["now"] += budget.take("read_users", "now").granted
    assert 15 <= granted["push"] <= 50, granted
    assert granted["now"] + granted["push"] <= 102


def test_a_write_that_was_not_needed_is_given_back(budget_of: Callable[..., Budget], clock: Clock) -> None:
    budget = full(budget_of(burst=2, rate=1), clock)
    budget.take_read_and_write("push")
    budget.give_back("write_users", "push", 1)
    assert budget.look("read_users").level == pytest.approx(1)


def test_a_429_pauses_the_group_for_everyone_until_the_reset(budget_of: Callable[..., Budget], clock: Clock) -> None:
    one, other = full(budget_of(), clock), budget_of()
    headers = {"x-ratelimit-reset": "1767225607", "date": "Thu, 01 Jan 2026 00:00:00 GMT"}
    assert one.throttled("read_users", headers) == pytest.approx(7)
    refused = other.take("read_users", "now")
    assert (refused.granted, refused.reason) == (0, "throttled")
    assert refused.paused == pytest.approx(7)
    clock.forward(6.9)
    assert other.take("read_users", "now").granted == 0
    clock.forward(0.1)
    assert other.take("read_users", "now").granted == 0, "nothing was earned during the pause"
    clock.forward(1)
    assert take_all(other) == 1


def test_a_pause_of_one_group_leaves_its_neighbour_in_peace(redis: Redis, clock: Clock) -> None:
    budget = Budget(redis, a_setting(auth0_plan="essentials"), clock=SETTABLE_CLOCK)
    for group in ("read_users", "write_users"):
        budget.look(group)
    clock.forward(1000)
    budget.throttled("read_users", {"retry-after": "30"})
    assert budget.take("read_users", "now").granted == 0
    assert budget.take("write_users", "push").granted == 1


def test_a_missing_scope_pauses_its_group_though_the_bucket_is_shared(
    budget_of: Callable[..., Budget], clock: Clock
) -> None:
    budget = full(budget_of(), clock)
    budget.pause("write_users", 60, "lacks scope update:users")
    assert budget.take("write_users", "push").reason == "lacks scope update:users"
    assert budget.take("read_users", "now").granted == 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "12", "x-ratelimit-reset": "1767225603", "date": "Thu, 01 Jan 2026 00:00:00 GMT"}, 12),
        ({"x-ratelimit-reset": "1767225603", "date": "Thu, 01 Jan 2026 00:00:00 GMT"}, 3),
        ({"x-ratelimit-reset": "1767225600", "date": "Thu, 01 Jan 2026 00:00:00 GMT"}, 1),
        ({"x-ratelimit-reset": "1767229200", "date": "Thu, 01 Jan 2026 00:00:00 GMT"}, 60),
        ({"x-ratelimit-reset": "1767225603"}, None),
        ({"x-ratelimit-reset": "soon", "date": "never"}, None),
        ({"retry-after": "nan"}, None),
        ({}, None),
    ],
)
def test_a_pause_lasts_from_the_answers_own_date_to_its_reset(headers: dict[str, str], seconds: float | None) -> None:
    assert pause_from(headers) == seconds


def test_an_outage_backs_off_to_a_minute_and_one_success_ends_it(
    budget_of: Callable[..., Budget], clock: Clock
) -> None:
    budget = full(budget_of(), clock)
    pauses = []
    for _ in range(8):
        pauses.append(round(budget.failed("read_users")))
        clock.forward(pauses[-1])
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    budget.heard("read_users", {})
    assert budget.failed("read_users") == pytest.approx(1)


def test_failures_that_were_under_way_together_count_once(budget_of: Callable[..., Budget], clock: Clock) -> None:
    budget = full(budget_of(), clock)
    assert [round(budget.failed("read_users")) for _ in range(5)] == [1] * 5
    assert budget.look("read_users").reason == "outage"


def test_after_an_outage_one_request_goes_first(budget_of: Callable[..., Budget], clock: Clock) -> None:
    budget = full(budget_of(burst=50, rate=10), clock)
    budget.failed("read_users")
    clock.forward(1)
    assert take_all(budget) == 1


def test_what_others_leave_lowers_our_level(budget_of: Callable[..., Budget], clock: Clock) -> None:
    budget = full(budget_of(burst=40, auth0_budget_share=0.5), clock)
    budget.heard("read_users", {"x-ratelimit-limit": "40", "x-ratelimit-remaining": "6"})
    assert take_all(budget) == 3


def test_what_we_hear_never_raises_our_level(budget_of: Callable[..., Budget], clock: Clock) -> None:
    budget = full(budget_of(burst=10), clock)
    take_all(budget)
    budget.heard("read_users", {"x-ratelimit-limit": "1000", "x-ratelimit-remaining": "1000"})
    assert (budget.look("read_users").level, budget.look("read_users").capacity) == (0, 10)


def asked(redis: Redis) -> int:
    """How often the budget has asked Redis."""
    found: Any = redis.info("commandstats")
    return int(found["cmdstat_evalsha"]["calls"])


def test_an_answer_that_cannot_change_the_budget_costs_no_round_trip(
    budget_of: Callable[..., Budget], clock: Clock, redis: Redis
) -> None:
    budget = full(budget_of(burst=10, rate=1e-6), clock, seconds=1e8)
    assert budget.take("read_users", "now", 4).granted == 4
    before = asked(redis)
    for headers in ({}, {"x-ratelimit-limit": "10", "x-ratelimit-remaining": "7"}):
        budget.heard("read_users", headers)
    assert asked(redis) == before
    budget.heard("read_users", {"x-ratelimit-limit": "10", "x-ratelimit-remaining": "5"})
    assert budget.look("read_users").level == pytest.approx(5, abs=0.01)


def test_a_success_ends_the_failures_of_another_process(budget_of: Callable[..., Budget], clock: Clock) -> None:
    ours, theirs = full(budget_of(), clock), budget_of()
    assert ours.take("read_users", "now").granted == 1
    for _ in range(3):
        clock.forward(theirs.failed("read_users"))
    clock.forward(60)
    assert ours.take("read_users", "now").granted == 1
    ours.heard("read_users", {"x-ratelimit-remaining": "10"})
    assert theirs.failed("read_users") == pytest.approx(1)


@pytest.mark.parametrize("nonsense", ["", "-5", "nan", "inf", "many"])
def test_nonsense_in_the_headers_is_not_believed(budget_of: Callable[..., Budget], clock: Clock, nonsense: str) -> None:
    budget = full(budget_of(burst=10), clock)
    budget.heard("read_users", {"x-ratelimit-limit": nonsense, "x-ratelimit-remaining": nonsense})
    assert take_all(budget) == 10


def test_a_smaller_limit_is_believed_for_ten_minutes(budget_of: Callable[..., Budget], clock: Clock) -> None:
    budget = full(budget_of(burst=40), clock)
    budget.heard("read_users", {"x-ratelimit-limit": "5"})
    clock.forward(300)
    assert budget.look("read_users").capacity == 5
    assert take_all(budget) == 5
    clock.forward(400)
    assert budget.look("read_users").capacity == 40


def test_a_clock_that_jumps_back_does_not_stop_the_bucket(budget_of: Callable[..., Budget], clock: Clock) -> None:
    budget = full(budget_of(), clock)
    take_all(budget)
    clock.forward(-86_400)
    assert take_all(budget) == 0
    clock.forward(3)
    assert take_all(budget) == 3


def test_mass_work_alone_gets_the_whole_rate(budget_of: Callable[..., Budget], clock: Clock) -> None:
    budget = full(budget_of(burst=10, rate=4), clock)
    take_all(budget, "mass")
    granted = 0
    for _ in range(400):
        clock.forward(0.25)
        granted += budget.take("read_users", "mass").granted
    assert granted >= 395


def test_mass_work_leaves_part_of_the_burst_to_fresh_news(budget_of: Callable[..., Budget], clock: Clock) -> None:
    budget = full(budget_of(burst=20, rate=0.01), clock, 10_000)
    mass = sum(budget.take("read_users", "mass", keep_place=False).granted for _ in range(100))
    assert mass < 14
    assert take_all(budget, "now") == 20 - mass


def test_a_place_is_kept_for_who_waits_and_lapses_if_they_do_not_come(
    budget_of: Callable[..., Budget], clock: Clock
) -> None:
    budget = full(budget_of(burst=1, rate=1), clock)
    assert take_all(budget, "now") == 1
    told = budget.take("read_users", "mass")
    assert told.granted == 0
    clock.forward(told.wait)
    assert take_all(budget, "now") == 0, "the token belongs to the one who waits"
    assert budget.take("read_users", "mass").granted == 1
    assert budget.take("read_users", "mass").granted == 0
    clock.forward(30)
    assert take_all(budget, "now") == 1


def test_a_place_lapses_if_its_holder_does_not_come_back(budget_of: Callable[..., Budget], clock: Clock) -> None:
    budget = full(budget_of(burst=1, rate=1), clock)
    assert take_all(budget, "now") == 1
    assert take_all(budget, "mass") == 0
    clock.forward(30)
    assert take_all(budget, "now") == 1


def test_no_place_is_kept_for_who_does_something_else_instead(budget_of: Callable[..., Budget], clock: Clock) -> None:
    budget = full(budget_of(burst=1, rate=1), clock)
    assert take_all(budget, "now") == 1
    assert budget.take("read_users", "mass", keep_place=False).granted == 0
    clock.forward(1)
    assert take_all(budget, "now") == 1


def test_beyond_its_share_a_class_stands_back_for_who_waits_above_it(
    budget_of: Callable[..., Budget], clock: Clock
) -> None:
    budget = full(budget_of(burst=4, rate=4), clock)
    assert budget.take("read_users", "push", 2).granted == 2
    assert take_all(budget, "now") == 2
    assert take_all(budget, "now") == 0
    clock.forward(0.4)
    assert take_all(budget, "push") == 0
    assert take_all(budget, "now") == 1


@pytest.mark.parametrize(("burst", "rate"), [(1, 1), (2, 2), (20, 4), (40, 8.333)])
def test_each_class_gets_its_share_when_all_want_more(
    budget_of: Callable[..., Budget], clock: Clock, burst: float, rate: float
) -> None:
    budget = full(budget_of(burst=burst, rate=rate), clock)
    granted = dict.fromkeys(CLASSES, 0)
    step, seconds = 0.25 / rate, 300 / rate
    for _ in range(int(seconds / step)):
        clock.forward(step)
        for priority in CLASSES:  # the highest always asks first
            granted[priority] += budget.take("read_users", priority).granted
    for priority in CLASSES:
        assert granted[priority] >= SHARES[priority] * rate * seconds * 0.95 - 2, granted
    assert sum(granted.values()) <= burst + rate * seconds + 1e-3
    assert sum(granted.values()) >= rate * seconds * 0.95 - 2, granted
    assert granted["now"] > granted["push"] > granted["mass"]


def test_what_one_class_leaves_the_others_get(budget_of: Callable[..., Budget], clock: Clock) -> None:
    budget = full(budget_of(burst=4, rate=4), clock)
    granted = {"settle": 0, "mass": 0}
    for _ in range(400):
        clock.forward(0.25)
        granted["settle"] += budget.take("read_users", "settle").granted
        granted["mass"] += budget.take("read_users", "mass").granted
    assert sum(granted.values()) >= 395
    assert granted["settle"] > 3 * granted["mass"]
    assert granted["mass"] >= 0.1 * 400 - 2


@pytest.fixture(scope="module")
def own_redis(redis_server: Any) -> Iterator[Redis]:
    redis_server.flush()
    with Redis.from_url(redis_server.url) as redis:
        yield redis


_steps = st.lists(
    st.tuples(
        st.floats(0, 5),
        st.sampled_from(CLASSES),
        st.integers(1, 30),
        st.sampled_from(["take", "take", "take", "take", "heard", "failed", "throttled"]),
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(burst=st.floats(1, 50), rate=st.floats(0.2, 50), steps=_steps)
def test_no_window_ever_sees_more_than_burst_and_rate(
    own_redis: Redis, burst: float, rate: float, steps: list[tuple[float, Priority, int, str]]
) -> None:
    own_redis.flushdb()
    clock = Clock(own_redis)
    budget = Budget(own_redis, a_setting(auth0_limits={"global": (burst, rate)}), clock=SETTABLE_CLOCK)
    spent: list[tuple[float, int]] = []
    for seconds, priority, wanted, act in steps:
        clock.forward(seconds)
        if act == "take":
            grant = budget.take("read_users", priority, wanted)
            assert 0 <= grant.granted <= wanted
            assert (grant.wait > 0) == (grant.granted < wanted)
            spent.append((clock.now, grant.granted))
        elif act == "heard":
            budget.heard("read_users", {"x-ratelimit-remaining": str(wanted)})
        elif act == "failed":
            budget.failed("read_users")
        else:
            budget.throttled("read_users", {"retry-after": str(wanted)})
    for first in range(len(spent)):
        total = 0
        for when, granted in spent[first:]:
            total += granted
            assert total <= burst + rate * (when - spent[first][0]) + 1e-4


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(burst=st.floats(1, 40), rate=st.floats(0.5, 20), wanting=st.sets(st.sampled_from(CLASSES), min_size=1))
def test_who_comes_back_when_told_is_served_at_its_share(
    own_redis: Redis, burst: float, rate: float, wanting: set[Priority]
) -> None:
    """Each class asks, and comes back exactly when it was told to: sparse askers must not starve among eager ones."""
    own_redis.flushdb()
    clock = Clock(own_redis)
    budget = Budget(own_redis, a_setting(auth0_limits={"global": (burst, rate)}), clock=SETTABLE_CLOCK)
    due = dict.fromkeys(sorted(wanting), clock.now)
    granted = dict.fromkeys(sorted(wanting), 0)
    end = clock.now + 60 / rate
    while (when := min(due.values())) < end:
        clock.forward(max(0.0, when - clock.now) + 1e-4 / rate)
        priority = min(due, key=lambda name: due[name])
        grant = budget.take("read_users", priority)
        granted[priority] += grant.granted
        due[priority] = clock.now + max(grant.wait, 0.2 / rate)
    for priority, count in granted.items():
        assert count >= SHARES[priority] * 60 * 0.85 - 3, granted
    filled_first = min(CUSHIONS[priority] for priority in wanting) * (burst - 1)  # nobody wants what lies below it
    assert sum(granted.values()) >= 60 * 0.8 - 3 - filled_first, granted


def test_counts_tell_what_was_spent_and_what_was_refused(budget_of: Callable[..., Budget], clock: Clock) -> None:
    budget = full(budget_of(burst=10), clock)
    budget.take("read_users", "now", 3)
    budget.throttled("read_users", {"retry-after": "1"})
    budget.count_token_request()
    assert budget.counts() == {"global": {"spent:now": 3, "heard:throttled": 1}, "token": {"spent:token": 1}}


def test_without_redis_nothing_is_granted() -> None:
    chosen = a_setting()
    with Redis.from_url(chosen.redis_url.get_secret_value(), socket_connect_timeout=1) as redis:
        budget = Budget(redis, chosen)
        with pytest.raises(BrokerDown):
            budget.take("read_users", "now")


def test_the_product_keeps_time_by_redis(redis: Redis) -> None:
    budget = Budget(redis, a_setting(auth0_limits={"global": (1000, 1_000_000)}), clock=SERVER_CLOCK)
    budget.look("read_users")
    seconds, microseconds = redis.time()
    while redis.time() < (seconds, microseconds + 2000) and redis.time()[0] == seconds:
        pass
    assert take_all(budget) == 1000
