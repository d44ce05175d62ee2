"""What the tenant log says of what people and admins do."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import quote, unquote

import pytest

from tests.simulator.running import Simulator

DATABASE = "Username-Password-Authentication"


def codes(records: list[dict[str, Any]]) -> list[str]:
    return [record["type"] for record in records]


def test_a_login_is_written_beside_its_token_exchange(tenant: Simulator) -> None:
    (user_id,) = tenant.sign_up(login=False)
    logs = tenant.logs_of(lambda: tenant.act(user_id, "login", ip="203.0.113.7"))
    assert codes(logs) == ["s", "seacft"]
    assert {record["user_id"] for record in logs} == {user_id}
    user = tenant.user(user_id)
    assert (user["last_ip"], user["logins_count"]) == ("203.0.113.7", 1)
    assert user["last_login"] == user["updated_at"]


def test_a_database_sign_up_is_written_and_a_social_one_is_not(tenant: Simulator) -> None:
    assert codes(tenant.logs_of(lambda: tenant.sign_up(connection=DATABASE))) == ["ss", "s", "seacft"]
    assert codes(tenant.logs_of(lambda: tenant.sign_up(connection="google-oauth2"))) == ["s", "seacft"]


def test_an_admins_new_user_has_both_records_and_is_no_sign_up(tenant: Simulator) -> None:
    logs = tenant.logs_of(lambda: tenant.act("", "admin_create", new_user_id="made-by-hand"))
    assert codes(logs) == ["ss", "sapi"]
    assert logs[0]["details"]["body"]["is_signup"] is False
    assert logs[1]["details"]["response"]["body"]["user_id"] == "auth0|made-by-hand"
    assert logs[1]["user_id"] != "auth0|made-by-hand"  # the actor's, not the subject's


def test_a_blocked_login_fails_and_counts_all_the_same(tenant: Simulator) -> None:
    (user_id,) = tenant.sign_up()
    tenant.act(user_id, "block")
    (record,) = tenant.logs_of(lambda: tenant.act(user_id, "login"))
    assert (record["type"], record["description"]) == ("f", "user is blocked")
    assert tenant.user(user_id)["logins_count"] == 2


@pytest.mark.parametrize(
    ("act", "code"),
    [
        ("change_email", "sce"),
        ("change_username", "scu"),
        ("change_phone", "scpn"),
        ("change_password", "scp"),
        ("verify_email", "sv"),
        ("failed_login", "fp"),
    ],
)
def test_what_people_do_themselves_has_a_code_of_its_own(tenant: Simulator, act: str, code: str) -> None:
    (user_id,) = tenant.sign_up(connection=DATABASE)
    (record,) = tenant.logs_of(lambda: tenant.act(user_id, act))
    assert (record["type"], record["user_id"]) == (code, user_id)


def test_what_an_admin_does_is_a_call_whose_path_names_the_subject(tenant: Simulator) -> None:
    (user_id,) = tenant.sign_up(connection="acme-saml")
    (record,) = tenant.logs_of(lambda: tenant.act(user_id, "block"))
    request = record["details"]["request"]
    assert record["type"] == "sapi"
    assert (request["method"], request["path"]) == ("patch", f"/api/v2/users/{quote(user_id, safe='')}")
    assert request["body"] == {"blocked": True}
    assert record["user_id"] != user_id


def test_a_call_of_the_api_is_written_with_its_client_and_correlation_id(tenant: Simulator) -> None:
    (user_id,) = tenant.sign_up()
    path = f"users/{quote(user_id, safe='')}"
    headers = {"X-Correlation-ID": "x" * 70}
    logs = tenant.logs_of(
        lambda: tenant.api("PATCH", path, json={"user_metadata": {"a": 1}, "password": "hidden"}, headers=headers)
    )
    (record,) = logs
    assert record["client_id"] == tenant.ready["client_id"]
    assert record["user_id"] is None
    assert record["references"]["correlation_id"] == "x" * 64
    assert record["details"]["request"]["body"]["password"] == "*****"


def test_a_refused_write_is_a_failed_call(tenant: Simulator) -> None:
    assert codes(tenant.logs_of(lambda: tenant.api("PATCH", "users/nobody", json={"name": "X"}))) == ["fapi"]


def test_a_deletion_is_written_in_several_shapes(tenant: Simulator) -> None:
    shapes = set()
    for user_id in tenant.sign_up(40, connection=DATABASE, login=False):
        (record,) = tenant.logs_of(partial(tenant.act, user_id, "delete", log="sdu"))
        assert record["user_id"] == user_id or record["description"] == f"user_id: {user_id.partition('|')[2]}"
        shapes.add((record["user_id"] != "", record.get("description") is not None))
    assert shapes == {(True, True), (False, True), (True, False)}


def test_a_link_may_hide_whom(tenant: Simulator) -> None:
    primary, secondary = tenant.sign_up(2, connection=DATABASE)
    (record,) = tenant.logs_of(lambda: tenant.act(primary, "link", secondary=secondary, link_with=True))
    assert unquote(record["details"]["request"]["path"]) == f"/api/v2/users/{primary}/identities"
    assert record["details"]["request"]["body"] == {"link_with": "*****"}
    (record,) = tenant.logs_of(lambda: tenant.act(primary, "unlink"))
    assert unquote(record["details"]["request"]["path"]).endswith(f"/identities/auth0/{secondary.partition('|')[2]}")


def test_machine_tokens_are_in_the_log(tenant: Simulator) -> None:
    assert codes(tenant.logs_of(tenant.ask_for_token)) == ["seccft"]
    assert codes(tenant.logs_of(lambda: tenant.ask_for_token(client_secret="wrong"))) == ["feccft"]


def test_scim_and_imports_name_nobody_at_the_top(tenant: Simulator) -> None:
    (user_id,) = tenant.sign_up(connection="acme-saml")
    (record,) = tenant.logs_of(lambda: tenant.act(user_id, "scim"))
    assert (record["type"], record["user_id"]) == ("sscim", None)
    (record,) = tenant.logs_of(lambda: tenant.control("POST", "people/import", {"count": 3}))
    assert (record["type"], record["user_id"]) == ("sui", None)


def test_absent_fields_are_null_when_pulled(tenant: Simulator) -> None:
    (record,) = tenant.logs_of(tenant.ask_for_token)
    assert record["connection"] is None
    assert tenant.api("GET", f"logs/{record['log_id']}").json() == record
    assert tenant.api("GET", "logs/nothing").status_code == 404


def test_a_checkpoint_ends_where_the_log_ends_and_goes_on_from_there(tenant: Simulator) -> None:
    tenant.sign_up(3)
    newest = tenant.pull_logs()[-1]["log_id"]
    answer = tenant.api("GET", "logs", params={"from": newest, "take": 10})
    assert answer.json() == []
    assert f"from={newest}" in answer.headers["link"]
    assert answer.headers["link"].endswith('rel="next"')


def test_pages_of_the_log_can_be_narrowed_to_codes(tenant: Simulator) -> None:
    tenant.sign_up(3)
    assert set(codes(tenant.api("GET", "logs", params={"q": "type:(s OR ss)"}).json())) == {"s", "ss"}


def test_neither_ids_nor_dates_are_the_order_of_events(start: Callable[..., Simulator]) -> None:
    tenant = start("--plan", "none", "--log-skew", "5")
    tenant.sign_up(50)
    logs = tenant.pull_logs()
    ids, dates = [record["log_id"] for record in logs], [record["date"] for record in logs]
    assert ids == sorted(ids)
    assert dates != sorted(dates)
    assert {len(log_id) for log_id in ids} == {56}
    off = [abs((datetime.fromisoformat(date) - datetime.now(UTC)).total_seconds()) for date in dates]
    assert 1 < max(off) < 60
