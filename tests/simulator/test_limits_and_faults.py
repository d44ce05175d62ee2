"""Rate limits by plan, and faults of the API and of the token endpoint."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from simulator.rate_limits import PLANS, RateLimits, group_of
from tests.simulator.running import Simulator

NOBODY = "users/auth0%7Cnobody"


class StillClock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_is_followed_by_429_with_the_numbers_a_client_needs(start: Callable[..., Simulator]) -> None:
    tenant = start("--plan", "free")
    token = tenant.token()
    answers = [tenant.api("GET", NOBODY, token) for _ in range(12)]
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json() == {
        "statusCode": 429,
        "error": "Too Many Requests",
        "message": "Global limit has been reached",
        "errorCode": "too_many_requests",
    }
    assert (refused.headers["x-ratelimit-limit"], refused.headers["x-ratelimit-remaining"]) == ("2", "0")
    assert abs(int(refused.headers["x-ratelimit-reset"]) - time.time()) < 5
    assert "retry-after" not in refused.headers
    stats = tenant.control("GET", "stats")
    assert stats["rate_limited"] == stats["api_statuses"]["429"] > 0
    tenant.control("PUT", "limits", {"plan": "none"})
    assert [r["type"] for r in tenant.pull_logs() if r["type"] == "api_limit"] == ["api_limit"]


@pytest.mark.parametrize("path", [NOBODY, "nothing", "logs"])
def test_every_answer_carries_the_limits(tenant: Simulator, path: str) -> None:
    for answer in (tenant.api("GET", path), tenant.http.get(f"/api/v2/{path}")):
        assert {"x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"} <= answer.headers.keys()


def test_tokens_come_back_at_the_plans_rate() -> None:
    clock = StillClock()
    limits = RateLimits("enterprise", clock)
    assert [limits.take("read_users").granted for _ in range(51)] == [True] * 50 + [False]
    clock.now += 1
    assert [limits.take("other").granted for _ in range(17)] == [True] * 16 + [False]
    clock.now += 3600
    assert limits.take("read_users").remaining == 49


def test_the_reset_is_when_the_next_token_comes() -> None:
    clock = StillClock()
    limits = RateLimits("professional", clock)
    grants = [limits.take("read_logs") for _ in range(11)]
    assert not grants[-1].granted
    assert grants[-1].reset == 1_000_001  # 100 a minute: the next one in 0.6 s


def test_groups_of_a_self_service_plan_are_counted_apart() -> None:
    limits = RateLimits("essentials", StillClock())
    assert [sum(limits.take(group).granted for _ in range(60)) for group in PLANS["essentials"]] == [
        40,
        20,
        20,
        10,
        5,
        10,
    ]


@pytest.mark.parametrize(
    ("method", "path", "group"),
    [
        ("GET", "/api/v2/users", "read_users"),
        ("GET", "/api/v2/users-by-email", "read_users"),
        ("PATCH", "/api/v2/users/x", "write_users"),
        ("POST", "/api/v2/users/x/identities", "write_users"),
        ("DELETE", "/api/v2/users/x", "delete_users"),
        ("GET", "/api/v2/logs", "read_logs"),
        ("GET", "/api/v2/log-streams", "other"),
        ("GET", "/api/v2/connections", "connections"),
    ],
)
def test_a_call_belongs_to_a_group(method: str, path: str, group: str) -> None:
    assert group_of(method, path) == group


def test_limits_can_be_ones_own(start: Callable[..., Simulator]) -> None:
    tenant = start()
    tenant.control("PUT", "limits", {"groups": {"read_users": [3, 0.001]}})
    assert [tenant.api("GET", NOBODY).status_code for _ in range(4)] == [404, 404, 404, 429]
    assert tenant.api("GET", "logs").status_code == 200
    assert "no such limit" in tenant.refused("PUT", "limits", {"speed": 1})


@pytest.fixture
def faulty(tenant: Simulator) -> Any:
    """Sets faults that are gone after the test."""
    yield lambda *faults: tenant.control("PUT", "faults", list(faults))
    tenant.control("DELETE", "faults")


def test_a_status_fault_strikes_as_often_as_it_was_told(tenant: Simulator, faulty: Any) -> None:
    faulty({"where": "api", "kind": "status", "status": 503, "times": 2})
    assert [tenant.api("GET", NOBODY).status_code for _ in range(3)] == [503, 503, 404]


def test_a_429_fault_looks_like_the_real_thing(tenant: Simulator, faulty: Any) -> None:
    faulty({"where": "api", "kind": "status", "status": 429})
    answer = tenant.api("GET", NOBODY)
    assert (answer.status_code, answer.json()["errorCode"]) == (429, "too_many_requests")


def test_a_fault_can_be_narrowed_to_method_and_path(tenant: Simulator, faulty: Any) -> None:
    faulty({"where": "api", "kind": "status", "match": {"method": "GET", "path": "^/api/v2/users/"}})
    assert tenant.api("GET", NOBODY).status_code == 500
    assert tenant.api("GET", "users").status_code == 200
    assert tenant.api("DELETE", NOBODY).status_code == 204


def test_a_login_page_may_come_instead_of_json(tenant: Simulator, faulty: Any) -> None:
    faulty({"where": "api", "kind": "html"})
    answer = tenant.api("GET", NOBODY)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")


def test_a_dropped_call_gets_no_answer(tenant: Simulator, faulty: Any) -> None:
    faulty({"where": "api", "kind": "drop", "times": 1})
    with pytest.raises(httpx.TransportError):
        tenant.api("GET", NOBODY)
    assert tenant.api("GET", NOBODY).status_code == 404


def test_a_hanging_call_never_answers(tenant: Simulator, faulty: Any) -> None:
    faulty({"where": "api", "kind": "hang", "times": 1})
    with pytest.raises(httpx.ReadTimeout):
        tenant.api("GET", NOBODY, timeout=0.3)
    assert tenant.api("GET", NOBODY).status_code == 404


def test_a_delayed_call_is_answered_late(tenant: Simulator, faulty: Any) -> None:
    faulty({"where": "api", "kind": "delay", "seconds": 0.3})
    with pytest.raises(httpx.ReadTimeout):
        tenant.api("GET", NOBODY, timeout=0.1)
    assert tenant.api("GET", NOBODY).status_code == 404


def test_everyone_can_go_missing_at_once(tenant: Simulator, faulty: Any) -> None:
    (user_id,) = tenant.sign_up(connection="sms")
    path = f"users/{user_id.replace('|', '%7C')}"
    faulty({"where": "api", "kind": "missing_user"})
    answer = tenant.api("GET", path)
    assert (answer.status_code, answer.json()["errorCode"]) == (404, "inexistent_user")
    assert tenant.api("GET", "users").status_code == 200
    assert user_id in tenant.truth()


def test_tokens_can_fail(tenant: Simulator, faulty: Any) -> None:
    faulty({"where": "token", "kind": "status", "status": 503, "times": 1})
    assert tenant.ask_for_token().status_code == 503
    assert tenant.ask_for_token().status_code == 200


def test_a_fault_may_strike_by_chance(tenant: Simulator, faulty: Any) -> None:
    faulty({"where": "api", "kind": "status", "probability": 0.5})
    assert {tenant.api("GET", NOBODY).status_code for _ in range(40)} == {404, 500}


@pytest.mark.parametrize(
    "fault", [{"where": "moon", "kind": "status"}, {"where": "api", "kind": "rain"}, {"wher": "api"}]
)
def test_a_fault_that_makes_no_sense_is_refused(tenant: Simulator, fault: dict[str, str]) -> None:
    assert tenant.refused("PUT", "faults", [fault])
