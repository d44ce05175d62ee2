"""Users through the Management API: Auth0's rules for creating, patching, deleting and linking."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import jwt
import pytest

from tests.simulator.running import Simulator, eventually

DATABASE = "Username-Password-Authentication"


def path_of(user_id: str) -> str:
    return f"users/{quote(user_id, safe='')}"


def create(tenant: Simulator, **fields: Any) -> dict[str, Any]:
    body = {"connection": DATABASE, "password": "correct horse", **fields}
    answer = tenant.api("POST", "users", json=body)
    assert answer.status_code == 201, answer.text
    user: dict[str, Any] = answer.json()
    return user


def patch(tenant: Simulator, user_id: str, **fields: Any) -> dict[str, Any]:
    answer = tenant.api("PATCH", path_of(user_id), json=fields)
    assert answer.status_code == 200, answer.text
    user: dict[str, Any] = answer.json()
    return user


def test_a_created_user_can_be_read_by_auth0s_own_client(tenant: Simulator) -> None:
    made = tenant.management().users.create(connection=DATABASE, email="Ada@Example.com", password="correct horse")
    read = tenant.management().users.get(made.user_id or "")
    assert read.email == "ada@example.com"  # database users' addresses are stored in lower case
    assert read.email_verified is False
    assert (read.name, read.nickname) == ("ada@example.com", "ada")
    assert read.last_login is None


def test_an_address_is_taken_once_per_connection(tenant: Simulator) -> None:
    create(tenant, email="once@example.com")
    body = {"connection": DATABASE, "password": "correct horse", "email": "ONCE@example.com"}
    answer = tenant.api("POST", "users", json=body)
    assert (answer.status_code, answer.json()["message"]) == (409, "The user already exists.")
    assert tenant.api("POST", "users", json={"connection": "email", "email": "once@example.com"}).status_code == 201
    assert len(tenant.api("GET", "users-by-email", params={"email": "once@example.com"}).json()) == 2


@pytest.mark.parametrize(
    "odd", ["with/slash", "with space", "per%7Ccent", "two|pipes", "emoji🎸", "quote\"'", "a+b?c#d"]
)
def test_ids_of_every_form_work(tenant: Simulator, odd: str) -> None:
    user = create(tenant, email=f"odd{abs(hash(odd))}@example.com", user_id=odd)
    assert user["user_id"] == f"auth0|{odd}"
    assert tenant.user(user["user_id"]) == user
    assert tenant.management().users.get(user["user_id"]).user_id == user["user_id"]
    quoted = user["user_id"].replace("\\", "\\\\").replace('"', '\\"')
    assert tenant.search(f'user_id:"{quoted}"') == [user]


def test_metadata_merges_at_the_first_level_alone(tenant: Simulator) -> None:
    user = create(tenant, email="merge@example.com", app_metadata={"a": {"x": 1, "y": 2}, "b": 1})
    changed = patch(tenant, user["user_id"], app_metadata={"a": {"x": 3}, "c": 1})
    assert changed["app_metadata"] == {"a": {"x": 3}, "b": 1, "c": 1}


def test_null_deletes_a_key_of_metadata(tenant: Simulator) -> None:
    user = create(tenant, email="null@example.com", user_metadata={"a": 1, "b": 2})
    assert patch(tenant, user["user_id"], user_metadata={"a": None})["user_metadata"] == {"b": 2}


def test_an_empty_object_wipes_all_metadata(tenant: Simulator) -> None:
    user = create(tenant, email="wipe@example.com", user_metadata={"a": 1, "b": 2})
    assert patch(tenant, user["user_id"], user_metadata={})["user_metadata"] == {}


def test_null_unsets_a_root_attribute(tenant: Simulator) -> None:
    user = create(tenant, email="unset@example.com", given_name="Ada", name="Ada L")
    changed = patch(tenant, user["user_id"], given_name=None, name="Ada")
    assert "given_name" not in changed
    assert changed["name"] == "Ada"


def test_every_change_moves_updated_at(tenant: Simulator) -> None:
    user = create(tenant, email="moves@example.com")
    assert eventually(lambda: patch(tenant, user["user_id"], name="Same")["updated_at"] > user["updated_at"])


def test_a_new_address_is_unverified(tenant: Simulator) -> None:
    user = create(tenant, email="old@example.com", email_verified=True)
    changed = patch(tenant, user["user_id"], email="New@example.com")
    assert (changed["email"], changed["email_verified"]) == ("new@example.com", False)
    assert tenant.api("GET", "users-by-email", params={"email": "old@example.com"}).json() == []


def test_a_new_password_lifts_an_admins_block(tenant: Simulator) -> None:
    user = create(tenant, email="lift@example.com", blocked=True)
    assert patch(tenant, user["user_id"], password="another one")["blocked"] is False


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ({}, "Too few properties defined (0), minimum 1"),
        ([], "Expected type object but found type array"),
        ({"last_login": "2020-01-01"}, "Additional properties not allowed: last_login"),
        ({"name": 7}, "Expected type string but found type integer on property name"),
        ({"email": None}, "Expected type string but found type null on property email"),
        ({"name": "x" * 301}, "String is too long (301 chars), maximum 300"),
        ({"app_metadata": {"blocked": True}}, "Invalid property names in app_metadata: blocked"),
        ({"user_metadata": {"a.b": 1, "$c": 2}}, "Invalid property names in user_metadata: $c,a.b"),
        ({"email": "a@b.c", "password": "x"}, "Cannot update email and password simultaneously"),
        ({"user_metadata": {"long": "x" * 10_240}}, "exceeds the maximum of 10240 bytes"),
    ],
)
def test_a_bad_patch_is_refused_and_changes_nothing(tenant: Simulator, body: Any, part: str) -> None:
    (user_id,) = tenant.sign_up(connection=DATABASE)
    before = tenant.user(user_id)
    answer = tenant.api("PATCH", path_of(user_id), json=body)
    assert answer.status_code == 400
    assert part in answer.json()["message"]
    assert tenant.user(user_id) == before


def test_json_that_is_none_is_refused(tenant: Simulator) -> None:
    (user_id,) = tenant.sign_up()
    answer = tenant.api("PATCH", path_of(user_id), content=b'{"name":')
    assert (answer.status_code, answer.json()["message"]) == (400, "Invalid request payload JSON format")


def test_a_body_over_a_megabyte_is_refused(tenant: Simulator) -> None:
    (user_id,) = tenant.sign_up()
    answer = tenant.api("PATCH", path_of(user_id), content=b" " * 1_100_000)
    assert (answer.status_code, answer.json()["error"]) == (413, "Request Entity Too Large")


def test_fields_narrow_a_profile(tenant: Simulator) -> None:
    (user_id,) = tenant.sign_up()
    only = tenant.api("GET", path_of(user_id), params={"fields": "user_id,email"}).json()
    assert set(only) <= {"user_id", "email"}
    rest = tenant.api("GET", path_of(user_id), params={"fields": "identities", "include_fields": "false"}).json()
    assert "identities" not in rest
    assert rest["user_id"] == user_id


def test_a_deleted_user_is_gone_and_deleting_again_is_no_error(tenant: Simulator) -> None:
    (user_id,) = tenant.sign_up()
    assert tenant.api("DELETE", path_of(user_id)).status_code == 204
    answer = tenant.api("GET", path_of(user_id))
    assert (answer.status_code, answer.json()) == (
        404,
        {
            "statusCode": 404,
            "error": "Not Found",
            "message": "The user does not exist.",
            "errorCode": "inexistent_user",
        },
    )
    assert tenant.api("DELETE", path_of(user_id)).status_code == 204


def linked_pair(tenant: Simulator) -> tuple[str, str]:
    primary, secondary = (
        create(tenant, email=f"p{len(tenant.truth())}@example.com")["user_id"],
        tenant.sign_up(connection="google-oauth2")[0],
    )
    patch(tenant, secondary, user_metadata={"lost": True})
    provider, _, uid = secondary.partition("|")
    answer = tenant.api("POST", f"{path_of(primary)}/identities", json={"provider": provider, "user_id": uid})
    assert answer.status_code == 201
    assert answer.json() == tenant.user(primary)["identities"]
    return primary, secondary


def test_a_linked_user_lives_on_as_an_identity(tenant: Simulator) -> None:
    (spare,) = tenant.sign_up(connection="google-oauth2")
    email = tenant.user(spare)["email"]
    primary, secondary = linked_pair(tenant)
    first, second = tenant.user(primary)["identities"]
    assert f"{first['provider']}|{first['user_id']}" == primary
    assert f"{second['provider']}|{second['user_id']}" == secondary
    assert second["isSocial"] is True
    assert set(second["profileData"]) >= {"email", "name", "picture"}
    assert tenant.api("GET", path_of(secondary)).status_code == 404
    assert tenant.search(f'user_id:"{secondary}"') == []
    assert email not in str(second)


def test_a_login_of_a_linked_identity_is_the_primarys(tenant: Simulator) -> None:
    primary, secondary = linked_pair(tenant)
    logs = tenant.logs_of(lambda: tenant.control("POST", "people/login", {"user_ids": [secondary]}))
    assert tenant.user(primary)["logins_count"] == 1
    (login,) = [record for record in logs if record["type"] == "s"]
    assert login["user_id"] == primary
    assert login["identity_user_id"] == secondary.partition("|")[2]
    assert login["connection"] in {"google-oauth2", None}


def test_an_unlinked_identity_is_a_user_again_without_metadata(tenant: Simulator) -> None:
    primary, secondary = linked_pair(tenant)
    provider, _, uid = secondary.partition("|")
    answer = tenant.api("DELETE", f"{path_of(primary)}/identities/{provider}/{quote(uid, safe='')}")
    assert answer.status_code == 200
    assert answer.json() == tenant.user(primary)["identities"]
    again = tenant.user(secondary)
    assert "user_metadata" not in again
    assert again["email"]
    assert "profileData" not in again["identities"][0]


def test_secondaries_go_with_their_primary(tenant: Simulator) -> None:
    primary, secondary = linked_pair(tenant)
    assert tenant.api("DELETE", path_of(primary)).status_code == 204
    assert not {primary, secondary} & tenant.truth().keys()


def test_a_link_with_a_token_names_the_secondary_inside_it(tenant: Simulator) -> None:
    primary, secondary = tenant.sign_up(2)
    token = jwt.encode({"sub": secondary}, "k" * 32, algorithm="HS256")
    assert tenant.api("POST", f"{path_of(primary)}/identities", json={"link_with": token}).status_code == 201
    assert secondary not in tenant.truth()


def test_nobody_is_linked_to_himself_or_to_nobody_or_twice(tenant: Simulator) -> None:
    primary, secondary = linked_pair(tenant)
    for other, status in ((primary, 400), ("auth0|nobody", 404), (secondary, 409)):
        provider, _, uid = other.partition("|")
        answer = tenant.api("POST", f"{path_of(primary)}/identities", json={"provider": provider, "user_id": uid})
        assert answer.status_code == status


def test_a_github_identity_has_an_integer_id(tenant: Simulator) -> None:
    (user_id,) = tenant.sign_up(connection="github")
    identity = tenant.user(user_id)["identities"][0]
    assert isinstance(identity["user_id"], int)
    assert user_id == f"github|{identity['user_id']}"


def test_an_enterprise_id_has_two_pipes_and_an_at(tenant: Simulator) -> None:
    (user_id,) = tenant.sign_up(connection="acme-saml")
    assert user_id.startswith("samlp|acme-saml|")
    assert "@" in user_id


def test_a_connection_takes_its_users_with_it(start: Any) -> None:
    tenant = start("--plan", "none")
    (google,) = tenant.sign_up(connection="google-oauth2")
    (other,) = tenant.sign_up(connection="sms")
    (connection,) = tenant.api("GET", "connections", params={"name": "google-oauth2"}).json()
    logs = tenant.logs_of(lambda: tenant.api("DELETE", f"connections/{connection['id']}"))
    assert [record["type"] for record in logs] == ["sapi"]
    assert set(tenant.truth()) == {other}
    assert google not in tenant.truth()
    assert tenant.refused("POST", "people/signup", {"count": 1, "connection": "google-oauth2"})


def test_the_truth_is_what_the_api_answers(tenant: Simulator) -> None:
    tenant.control("POST", "people/live", {"actions": 200, "seed": 3})
    truth = tenant.truth(limit=7)
    for user_id in list(truth)[:40]:
        assert tenant.user(user_id) == truth[user_id]
