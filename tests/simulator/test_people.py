"""The control plane: people by the thousand, the truth, and the counters."""

from __future__ import annotations

from collections.abc import Callable

import psutil

from tests.simulator.running import Receiver, Simulator


def test_a_burst_is_of_different_users(tenant: Simulator) -> None:
    tenant.control("POST", "users/load", {"count": 300})
    before = {user_id: user.get("logins_count", 0) for user_id, user in tenant.truth().items()}
    assert tenant.control("POST", "people/burst", {"logins": 200})["users"] == 200
    after = tenant.truth()
    assert sum(after[user_id].get("logins_count", 0) - count == 1 for user_id, count in before.items()) == 200


def test_a_burst_can_be_of_few_users_many_times(tenant: Simulator) -> None:
    tenant.sign_up(5)
    before = sum(user.get("logins_count", 0) for user in tenant.truth().values())
    tenant.control("POST", "people/burst", {"logins": 30, "users": 3})
    assert sum(user.get("logins_count", 0) for user in tenant.truth().values()) == before + 30


def test_a_burst_can_be_spread(tenant: Simulator) -> None:
    assert tenant.control("POST", "people/burst", {"logins": 10, "seconds": 0.5})["seconds"] >= 0.4


def test_life_has_everything_in_it(start: Callable[..., Simulator], receiver: Receiver) -> None:
    tenant = start("--plan", "none")
    tenant.stream_to(receiver)
    answer = tenant.control("POST", "people/live", {"actions": 3000, "seed": 11})
    assert sum(answer["acts"].values()) + sum(answer["refused"].values()) == 3000
    assert set(answer["acts"]) == {
        "signup", "login", "failed_login", "noise", "change_email", "change_name", "change_username", "change_phone",
        "change_password", "verify_email", "metadata", "block", "unblock", "delete", "recreate", "admin_create", "link",
        "unlink", "brute_force", "scim", "future_code",
    }  # fmt: skip
    assert tenant.drain() == 0
    seen = {record["data"]["type"] for record in receiver.records()}
    assert seen >= {
        "s",
        "seacft",
        "ss",
        "sapi",
        "sdu",
        "f",
        "fp",
        "sce",
        "scu",
        "scp",
        "scpn",
        "sv",
        "sscim",
        "limit_wc",
        "ublkdu",
    }
    stats = tenant.control("GET", "stats")
    assert stats["users"] == len(tenant.truth())
    assert stats["deliveries"]["records"] == len(receiver.records())
    assert stats["deliveries"]["accepted"] == len(receiver.deliveries)


def test_weights_choose_what_happens(tenant: Simulator) -> None:
    tenant.sign_up()
    acts = tenant.control("POST", "people/live", {"actions": 20, "weights": {"login": 1e9}})["acts"]
    assert acts == {"login": 20}
    assert "no such act" in tenant.refused("POST", "people/live", {"actions": 1, "weights": {"fly": 1}})
    assert "act is one of" in tenant.refused("POST", "people/act", {"act": "fly"})


def test_somebody_deleted_comes_back_under_the_same_id(tenant: Simulator) -> None:
    for connection in ("Username-Password-Authentication", "google-oauth2"):
        (user_id,) = tenant.sign_up(connection=connection)
        before = tenant.user(user_id)
        tenant.act(user_id, "delete")
        assert tenant.act(user_id, "recreate")["user_id"] == user_id
        assert tenant.user(user_id)["created_at"] > before["created_at"]


def test_counters_can_start_anew(tenant: Simulator) -> None:
    tenant.api("GET", "users/x%7Cy")
    tenant.ask_for_token()
    stats = tenant.control("GET", "stats")
    assert stats["api_calls"]["GET /api/v2/users/{id}"] >= 1
    assert stats["token_fetches"] >= 1
    tenant.control("POST", "stats/reset")
    assert tenant.control("GET", "stats")["api_calls_total"] == 0


def test_a_hundred_thousand_users_fit_in_a_gigabyte(start: Callable[..., Simulator]) -> None:
    tenant = start("--plan", "none")
    assert tenant.control("POST", "users/load", {"count": 100_000}) == {"users": 100_000}
    tenant.control("POST", "people/burst", {"logins": 20_000})
    assert psutil.Process(tenant.process.pid).memory_info().rss < 1_000_000_000


def test_people_can_be_somebody_in_particular(tenant: Simulator) -> None:
    profile = {"email": "user@domain.com", "name": "Úrsula", "app_metadata": {"roles": ["admin"]}}
    assert tenant.sign_up(connection="acme-saml", profile=profile) == ["samlp|acme-saml|user@domain.com"]
    shown = tenant.user("samlp|acme-saml|user@domain.com")
    assert {name: shown[name] for name in profile} == profile
    assert tenant.user(tenant.sign_up(profile={"email": "Ada@example.com"})[0])["email"] == "ada@example.com"
