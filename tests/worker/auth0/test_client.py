"""What the tenant's answers mean, over real HTTPS (docs/protocol.md P8 to P12)."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from tests.worker.auth0.conftest import Simulator
from worker.auth0.client import Rejected, SearchTimedOut, Tenant
from worker.auth0.pace import TOKENS_THROTTLED, Budget
from worker.domain.users import Profile
from worker.errors import BadRecord, Error, Refused, TenantDown, Throttled, WrongSetting
from worker.settings import Settings

SettingsFor = Callable[..., Settings]
TenantFor = Callable[[Settings], Tenant]
Read = Callable[[Tenant, str], "Profile | None"]


@pytest.fixture(params=["alone", "among many"])
def read(request: pytest.FixtureRequest) -> Read:
    """A strong read, sent either way: it means the same."""

    async def among(tenant: Tenant, user_id: str) -> Profile | None:
        many = tenant.many()
        try:
            return await tenant.read_user_among(many, user_id)
        finally:
            await many.close()

    return Tenant.read_user if request.param == "alone" else lambda *asked: asyncio.run(among(*asked))


@pytest.fixture
def budget(redis: Redis, settings_for: SettingsFor) -> Budget:
    return Budget(redis, settings_for())


def truth(simulator: Simulator, user_id: str) -> dict[str, Any]:
    users: list[dict[str, Any]] = simulator.control.get("/_sim/truth", params={"limit": 100_000}).json()["users"]
    return next(user for user in users if user["user_id"] == user_id)


def test_a_strong_read_gives_the_profile_as_auth0_wrote_it(tenant: Tenant, simulator: Simulator, read: Read) -> None:
    (user_id,) = simulator.sign_up()
    assert read(tenant, user_id) == truth(simulator, user_id)


def test_a_missing_user_is_none(tenant: Tenant, read: Read) -> None:
    assert read(tenant, "auth0|nobody") is None


@pytest.mark.parametrize(
    "user_id", ["samlp|corp|x@y.z", 'a"b', "a/../b", "a%7Cb", "a?b#c", "é😀|x", "a\\b", "x" * 1000]
)
def test_no_id_reaches_another_endpoint(tenant: Tenant, user_id: str, read: Read) -> None:
    assert read(tenant, user_id) is None


@pytest.mark.parametrize("user_id", ["", ".", ".."])
def test_what_can_be_no_id_is_not_asked_for(tenant: Tenant, simulator: Simulator, user_id: str, read: Read) -> None:
    with pytest.raises(BadRecord):
        read(tenant, user_id)
    assert simulator.stats()["api_calls_total"] == 0


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 500},
        {"kind": "status", "status": 503},
        {"kind": "html"},
        {"kind": "html", "status": 404},
        {"kind": "html", "status": 200},
        {"kind": "html", "status": 401},
        {"kind": "status", "status": 404},
        {"kind": "drop"},
        {"kind": "hang"},
    ],
    ids=lambda fault: f"{fault['kind']} {fault.get('status', '')}",
)
def test_an_outage_is_never_taken_for_a_missing_user(
    tenant: Tenant, simulator: Simulator, budget: Budget, fault: dict[str, Any], read: Read
) -> None:
    simulator.faults({"where": "api", **fault})
    with pytest.raises(TenantDown):
        read(tenant, "auth0|nobody")
    assert budget.look("read_users").reason == "outage"


@pytest.mark.parametrize("fault", [{"kind": "status", "status": 503}, {"kind": "drop"}], ids=["503", "drop"])
def test_one_call_is_one_request_whatever_comes_back(
    tenant: Tenant, simulator: Simulator, fault: dict[str, Any], read: Read
) -> None:
    simulator.faults({"where": "api", "times": 5, **fault})
    with pytest.raises(TenantDown):
        read(tenant, "auth0|nobody")
    (left,) = simulator.control.get("/_sim/faults").json()["faults"]
    assert left["times"] == 4


def test_a_429_pauses_the_group_for_every_process(
    tenant: Tenant, simulator: Simulator, redis: Redis, settings_for: SettingsFor, read: Read
) -> None:
    read(tenant, "auth0|nobody")
    simulator.limits(groups={"global": [1, 0.2]})
    read(tenant, "auth0|nobody")
    with pytest.raises(Throttled) as throttled:
        read(tenant, "auth0|nobody")
    assert throttled.value.retry_after is not None
    assert 0 < throttled.value.retry_after <= 8  # 5 s for a token, the seconds of two clocks rounded, the jitter
    elsewhere = Budget(redis, settings_for())
    assert elsewhere.take("read_users", "now").reason == "throttled"


def test_what_the_headers_say_reaches_the_budget(
    tenant: Tenant, simulator: Simulator, budget: Budget, read: Read
) -> None:
    simulator.limits(groups={"global": [10, 0.01]})
    read(tenant, "auth0|nobody")
    assert budget.look("read_users").capacity == 5


def test_a_token_that_auth0_no_longer_takes_is_replaced_once(
    tenant: Tenant, simulator: Simulator, redis: Redis, read: Read
) -> None:
    read(tenant, "auth0|nobody")
    simulator.faults({"where": "api", "kind": "status", "status": 401, "times": 1})
    assert read(tenant, "auth0|nobody") is None
    assert simulator.stats()["token_fetches"] == 2
    assert redis.hget(f"understudy:{simulator.domain}:budget:global", "spent:unasked") == b"1"


def test_a_token_refused_twice_stops_every_group(
    tenant: Tenant, simulator: Simulator, budget: Budget, read: Read
) -> None:
    simulator.faults({"where": "api", "kind": "status", "status": 401})
    with pytest.raises(Refused) as refused:
        read(tenant, "auth0|nobody")
    assert refused.value.scope is None
    assert simulator.stats()["api_calls_total"] == 2
    assert budget.take("write_users", "push").reason == "credentials refused"


def test_a_missing_scope_is_named(
    tenant_for: TenantFor, settings_for: SettingsFor, simulator: Simulator, budget: Budget, read: Read
) -> None:
    made = simulator.control.post("/_sim/clients", json={"scopes": ["update:users"]}).json()
    tenant = tenant_for(
        settings_for(auth0_m2m_client_id=made["client_id"], auth0_m2m_client_secret=made["client_secret"])
    )
    with pytest.raises(Refused, match="read:users") as refused:
        read(tenant, "auth0|nobody")
    assert refused.value.scope == "read:users"
    assert budget.look("read_users").reason == "lacks scope read:users"
    assert budget.look("write_users").paused == 0


def test_whoever_mended_a_refusal_is_not_kept_waiting(
    tenant: Tenant, simulator: Simulator, budget: Budget, read: Read
) -> None:
    budget.pause("read_users", 60, "credentials refused")
    budget.pause("read_logs", 60, "lacks scope read:logs")
    budget.pause("write_users", 60, TOKENS_THROTTLED)
    simulator.faults({"where": "api", "kind": "status", "status": 503, "times": 1})
    with pytest.raises(TenantDown):
        read(tenant, "auth0|nobody")
    tenant.forget_refusals()
    assert budget.look("read_users").reason == "outage"
    assert budget.look("read_logs").reason == "outage"
    assert budget.look("write_users").reason == TOKENS_THROTTLED


def test_wrong_credentials_stop_every_group(
    tenant_for: TenantFor, settings_for: SettingsFor, budget: Budget, read: Read
) -> None:
    with pytest.raises(Refused, match="access_denied"):
        read(tenant_for(settings_for(auth0_m2m_client_secret="wrong")), "auth0|nobody")
    assert budget.look("read_logs").reason == "credentials refused"


def test_a_request_that_auth0_rejects_concerns_nobody_else(
    tenant: Tenant, simulator: Simulator, budget: Budget, read: Read
) -> None:
    simulator.faults({"where": "api", "kind": "status", "status": 409})
    with pytest.raises(Rejected) as rejected:
        read(tenant, "auth0|nobody")
    assert rejected.value.status == 409
    assert budget.look("read_users").paused == 0


def test_a_certificate_nobody_vouches_for_is_no_tenant(
    tenant_for: TenantFor, settings_for: SettingsFor, read: Read
) -> None:
    with pytest.raises(TenantDown):
        read(tenant_for(settings_for(auth0_ca_file=None)), "auth0|nobody")


def test_the_environments_proxy_is_asked_and_its_exceptions_are_heeded(
    tenant: Tenant, tenant_for: TenantFor, settings_for: SettingsFor, monkeypatch: pytest.MonkeyPatch, read: Read
) -> None:
    read(tenant, "auth0|nobody")  # the token is there
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # nobody is there
    with pytest.raises(TenantDown):
        read(tenant_for(settings_for()), "auth0|nobody")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert read(tenant_for(settings_for()), "auth0|nobody") is None


def test_an_unreadable_ca_file_is_a_wrong_setting(tenant_for: TenantFor, settings_for: SettingsFor, read: Read) -> None:
    with pytest.raises(WrongSetting, match="AUTH0_CA_FILE"):
        read(tenant_for(settings_for(auth0_ca_file=__file__)), "auth0|nobody")


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": status, "message": "marker@example.com"}
        for status in (400, 401, 403, 404, 409, 429, 500, 503)
    ]
    + [{"kind": "html"}, {"kind": "drop"}, {"kind": "hang"}],
    ids=lambda fault: f"{fault['kind']} {fault.get('status', '')}",
)
def test_no_error_tells_whose_profile_was_asked_for(
    tenant: Tenant, simulator: Simulator, settings_for: SettingsFor, fault: dict[str, Any], read: Read
) -> None:
    simulator.faults({"where": "api", **fault})
    secret = settings_for().auth0_m2m_client_secret.get_secret_value()
    asked = "email|marker@example.com"
    raised = [error_of(lambda: read(tenant, asked)), error_of(lambda: tenant.search_users([asked, "b"]))]
    assert raised[0] is not None
    for error in filter(None, raised):
        told = "".join(traceback.format_exception(error)) + repr(error) + repr(error.__context__)
        assert not [word for word in ("marker@", "Bearer", secret) if word in told]


def error_of(ask: Callable[[], object]) -> Error | None:
    try:
        ask()
    except Error as error:
        return error
    return None


# Searching


def test_a_search_finds_those_that_exist_and_is_conclusive_about_the_rest(tenant: Tenant, simulator: Simulator) -> None:
    user_ids = simulator.sign_up(3)
    page = tenant.search_users([*user_ids, "auth0|nobody"])
    assert {hit["user_id"]: hit for hit in page.hits} == {user_id: truth(simulator, user_id) for user_id in user_ids}
    assert page.covered == {*user_ids, "auth0|nobody"}
    assert page.trouble == ""


@pytest.mark.parametrize(
    "odd", ['a"b', "a\\", 'x" OR user_id:*', "a|b|c@d", "é😀", "(a)", "a AND b", "a:b", "%22", "+&="]
)
def test_odd_ids_change_neither_the_query_nor_its_neighbours(tenant: Tenant, simulator: Simulator, odd: str) -> None:
    (user_id,) = simulator.sign_up()
    page = tenant.search_users([odd, user_id])
    assert [hit["user_id"] for hit in page.hits] == [user_id]
    assert page.covered == {odd, user_id}


def test_a_search_is_one_request(tenant: Tenant, simulator: Simulator) -> None:
    user_ids = simulator.sign_up(60)
    page = tenant.search_users(user_ids, per_page=30)
    assert len(page.hits) == len(page.covered) == 30
    assert simulator.stats()["api_calls_total"] == 1


def test_nobody_is_not_searched_for(tenant: Tenant, simulator: Simulator) -> None:
    assert tenant.search_users([]).covered == frozenset()
    assert tenant.take_that_fit([]) == 0
    assert simulator.stats()["api_calls_total"] == 0


def test_a_server_with_smaller_pages_is_remembered(tenant: Tenant, simulator: Simulator) -> None:
    user_ids = simulator.sign_up(80)
    simulator.limits(per_page_max=50)
    assert tenant.take_that_fit(user_ids) == 80
    first = tenant.search_users(user_ids)
    assert (first.hits, first.covered, first.trouble) == ([], frozenset(), "per_page")
    assert tenant.take_that_fit(user_ids) == 50
    assert len(tenant.search_users(user_ids).hits) == 50


def test_a_url_that_was_too_long_is_halved_until_it_fits(tenant: Tenant, simulator: Simulator) -> None:
    user_ids = simulator.sign_up(80)
    simulator.limits(q_max=600)
    searches, left = 0, user_ids
    found: list[str] = []
    while left:
        page = tenant.search_users(left[: tenant.take_that_fit(left)])
        found += [hit["user_id"] for hit in page.hits]
        left = [user_id for user_id in left if user_id not in page.covered]
        searches += 1
        assert searches < 30
    assert sorted(found) == sorted(user_ids)


def test_an_id_too_long_for_any_url_takes_no_room_and_is_left_to_a_strong_read(
    tenant: Tenant, simulator: Simulator
) -> None:
    (user_id,) = simulator.sign_up()
    endless = "samlp|" + "😀" * 2000
    assert tenant.take_that_fit([endless, user_id]) == 2
    page = tenant.search_users([endless, user_id])
    assert page.covered == {endless, user_id}
    assert [hit["user_id"] for hit in page.hits] == [user_id]
    assert tenant.search_users([endless]).covered == {endless}


def test_a_search_that_times_out_makes_the_next_ones_smaller(
    tenant: Tenant, simulator: Simulator, budget: Budget
) -> None:
    user_ids = simulator.sign_up(40)
    simulator.limits(search_timeout_probability=1)
    sizes = []
    for _ in range(6):
        sizes.append(tenant.take_that_fit(user_ids))
        if sizes[-1] == 1:
            break
        with pytest.raises(SearchTimedOut):
            tenant.search_users(user_ids)
    assert sizes == [40, 20, 10, 5, 2, 1]
    assert tenant.search_users(user_ids).covered == {user_ids[0]}, "the last resort is a strong read"
    assert budget.look("read_users").paused == 0, "strong reads go on"


def test_a_query_that_auth0_rejects_is_left_to_strong_reads(tenant: Tenant, simulator: Simulator) -> None:
    simulator.faults({"where": "api", "kind": "status", "status": 400, "message": "malformed"})
    page = tenant.search_users(["a", "b"])
    assert page.hits == []
    assert page.covered == {"a", "b"}
    assert page.trouble.startswith("400")


@pytest.mark.parametrize("fault", [{"kind": "html", "status": 200}, {"kind": "html", "status": 503}, {"kind": "drop"}])
def test_a_search_without_auth0s_json_is_an_outage(tenant: Tenant, simulator: Simulator, fault: dict[str, Any]) -> None:
    simulator.faults({"where": "api", **fault})
    with pytest.raises(TenantDown):
        tenant.search_users(["a", "b"])


# Writing


def test_a_write_merges_metadata_and_answers_with_the_profile(tenant: Tenant, simulator: Simulator) -> None:
    (user_id,) = simulator.sign_up()
    before = truth(simulator, user_id)
    body: dict[str, dict[str, Any]] = {
        "app_metadata": {"roles": ["playlist_editor"]},
        "user_metadata": {"displayName": "Ada"},
    }
    said = tenant.patch_user(user_id, body, "understudy-1")
    assert said == truth(simulator, user_id)
    assert said is not None
    for place, sent in body.items():
        assert said[place] == {**before.get(place, {}), **sent}


def test_a_write_to_nobody_is_none(tenant: Tenant) -> None:
    assert tenant.patch_user("samlp|corp|x/y@z", {"app_metadata": {"plan": "gold"}}, "understudy-1") is None


@pytest.mark.parametrize("body", [{}, {"app_metadata": {}}, {"app_metadata": {"plan": "gold"}, "user_metadata": {}}])
def test_no_write_can_wipe_metadata(
    tenant: Tenant, simulator: Simulator, body: dict[str, dict[str, Any]]
) -> None:  # P16
    (user_id,) = simulator.sign_up()
    before = simulator.stats()["api_calls_total"]
    with pytest.raises(ValueError, match="wipe"):
        tenant.patch_user(user_id, body, "understudy-1")
    assert simulator.stats()["api_calls_total"] == before


@pytest.mark.parametrize("status", [400, 409, 413])
def test_what_auth0_rejects_is_this_users_alone(
    tenant: Tenant, simulator: Simulator, budget: Budget, status: int
) -> None:  # P18
    (user_id,) = simulator.sign_up()
    simulator.faults({"where": "api", "kind": "status", "status": status})
    with pytest.raises(Rejected) as rejected:
        tenant.patch_user(user_id, {"app_metadata": {"plan": "gold"}}, "understudy-1")
    assert rejected.value.status == status
    assert budget.look("write_users").paused == 0


def test_a_write_whose_token_is_refused_is_not_sent_again(tenant: Tenant, simulator: Simulator) -> None:  # P16
    (user_id,) = simulator.sign_up()
    tenant.read_user(user_id)
    simulator.faults({"where": "api", "kind": "status", "status": 401, "times": 1})
    with pytest.raises(Throttled):
        tenant.patch_user(user_id, {"app_metadata": {"plan": "gold"}}, "understudy-1")
    assert truth(simulator, user_id).get("app_metadata", {}).get("plan") != "gold"
    assert tenant.patch_user(user_id, {"app_metadata": {"plan": "gold"}}, "understudy-1") is not None
