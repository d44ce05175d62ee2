"""What each code of Auth0's log means for the copy, one row of the table after the other."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from tests.corpus import api_write, log_record, user
from worker.auth0.wire import decode_delivery
from worker.domain.events import _KINDS, TABLE, Meaning, interpret
from worker.domain.news import MAX_ID_BYTES, News, identity_id, news_date, user_id

ADA = user(1)
BOB = user(2)
DATE = datetime(2026, 3, 1, 12, 0, 1, 1000, tzinfo=UTC)
PATH = f"/api/v2/users/{ADA.replace('|', '%7C')}"


def meaning_of(record: dict[str, Any], latest: datetime | None = None) -> Meaning:
    """Decode the record as drain would, and interpret it."""
    decoded = decode_delivery(msgspec.json.encode(record))
    assert not decoded.bad
    return interpret(decoded.records[0], latest) if latest else interpret(decoded.records[0])


def looked_at(*users: str) -> Meaning:
    return Meaning(tuple(News(one, DATE) for one in users))


def gone(one: str, *, creates: bool = True) -> News:
    return News(one, DATE, strong=True, severed=True, deletion=True, creates=creates)


def severed(one: str) -> News:
    return News(one, DATE, strong=True, severed=True)


NOTHING = Meaning()


# Logins


@pytest.mark.parametrize("code", ["s", "scoa", "sens", "sdel"])
def test_a_login_is_seen_and_may_be_the_first(code: str) -> None:
    assert meaning_of(log_record(code)) == Meaning((News(ADA, DATE, login=True),))


@pytest.mark.parametrize(
    "code",
    ["sepft", "seoobft", "seotpft", "sercft", "sepkoobft", "sepkotpft", "sepkrcft", "secte", "ciba_exchange_succeeded"],
)
def test_credentials_sent_for_a_token_are_a_login(code: str) -> None:
    assert meaning_of(log_record(code)) == Meaning((News(ADA, DATE, login=True),))
    assert meaning_of(log_record(code, user_id=...)) == NOTHING


@pytest.mark.parametrize("code", ["seacft", "sertft", "sede", "ssa", "sdeleacft", "sdelsa"])
def test_a_token_for_a_code_or_a_session_is_not_a_second_login(code: str) -> None:
    assert meaning_of(log_record(code)) == NOTHING


@pytest.mark.parametrize("machine", ["Aa0Bb1Cc2@clients", "", None, ...])
def test_machines_never_become_users(machine: Any) -> None:
    for code in ("seccft", "secte", "sepft"):
        assert meaning_of(log_record(code, user_id=machine)) == NOTHING
    for code in ("s", "sdu"):
        assert meaning_of(log_record(code, user_id=machine)).news == ()


def test_an_agent_does_not_log_in() -> None:
    assert meaning_of(log_record("secte", user_id="agt_1234567890abcdef")) == NOTHING


@pytest.mark.parametrize("code", ["f", "fcoa", "fens", "fepft", "feoobft", "feotpft", "fercft", "mfar"])
def test_a_login_stopped_late_marks_the_row_that_is_there(code: str) -> None:
    record = log_record(code, description="user is blocked")
    assert meaning_of(record) == Meaning((News(ADA, DATE, creates=False),))


@pytest.mark.parametrize("code", ["fp", "fu"])
def test_a_wrong_password_changes_nothing(code: str) -> None:
    assert meaning_of(log_record(code)) == NOTHING


@pytest.mark.parametrize("anything", ["nobody@example.com", "*****", "", 7, None])
def test_a_failed_login_of_nobody_is_nobodys_business(anything: Any) -> None:
    assert meaning_of(log_record("f", user_id=anything)) == NOTHING


# Changes


@pytest.mark.parametrize("code", ["ss", "si", "sce", "scu", "scpn", "scp", "scph", "sv"])
def test_sign_ups_and_changes_ask_for_a_look(code: str) -> None:
    assert meaning_of(log_record(code)) == looked_at(ADA)


@pytest.mark.parametrize(
    "code", ["scpr", "svr", "organization_member_added", "ublkdu", "limit_wc", "limit_mu", "limit_sul", "wum", "w"]
)
def test_what_is_not_in_the_profile_is_nobodys_business(code: str) -> None:
    assert meaning_of(log_record(code)) == NOTHING


@pytest.mark.parametrize("empty", ["", None, ...])
def test_a_change_without_a_user_id_is_about_whom_the_details_name(empty: Any) -> None:
    mail = {
        "body": {"email": "old@example.com", "newEmail": "new@example.com", "user_id": ADA, "email_verified": "true"}
    }
    assert meaning_of(log_record("sce", user_id=empty, details=mail)) == looked_at(ADA)
    link = {"query": {"user_id": ADA, "email": "new@example.com", "tenant": "tenant"}}
    assert meaning_of(log_record("sv", user_id=empty, details=link)) == looked_at(ADA)
    bare = {"query": {"user_id": ADA.removeprefix("auth0|")}}
    assert meaning_of(log_record("sv", user_id=empty, details=bare)) == looked_at(ADA)
    assert meaning_of(log_record("sv", user_id=empty, strategy=..., details=bare)).reconcile


@pytest.mark.parametrize("code", ["s", "ss", "sce", "sv", "sdu"])
def test_a_record_that_names_nobody_asks_for_a_reconcile(code: str) -> None:
    meaning = meaning_of(log_record(code, user_id=..., details=...))
    assert meaning.reconcile
    assert not meaning.news
    assert meaning.bad is None


@pytest.mark.parametrize(
    "code", ["gd_enrollment_complete", "gd_unenroll", "my_account_authentication_method_succeeded"]
)
def test_a_second_factor_changes_the_profile_of_a_row_that_is_there(code: str) -> None:
    assert meaning_of(log_record(code)) == Meaning((News(ADA, DATE, creates=False),))


@pytest.mark.parametrize("code", ["sui", "fui", "directory_sync_completed", "directory_sync_failed"])
def test_imports_and_directory_syncs_ask_for_a_reconcile(code: str) -> None:
    meaning = meaning_of(log_record(code, user_id=...))
    assert meaning.reconcile
    assert not meaning.news


# Deletion


def test_a_deletion_is_read_strongly() -> None:
    assert meaning_of(log_record("sdu")) == Meaning((gone(ADA),))


def test_a_deletion_without_a_user_id_is_told_by_its_description() -> None:
    assert meaning_of(log_record("sdu", user_id="", description=f"user_id: {ADA}")) == Meaning((gone(ADA),))


def test_a_bare_id_belongs_to_a_database() -> None:
    bare = ADA.removeprefix("auth0|")
    assert meaning_of(log_record("sdu", user_id="", description=f"user_id: {bare}")) == Meaning((gone(ADA),))
    assert meaning_of(log_record("sdu", user_id=bare)) == Meaning((gone(ADA),))


@pytest.mark.parametrize("strategy", [..., "samlp"])
def test_a_guessed_deletion_marks_a_row_that_is_there_and_asks_for_a_reconcile(strategy: Any) -> None:
    meaning = meaning_of(log_record("sdu", user_id="", strategy=strategy, description="user_id: 0123"))
    guess = "auth0|0123" if strategy is ... else f"{strategy}|0123"
    assert meaning.news == (gone(guess, creates=False),)
    assert meaning.reconcile


# Writes to the Management API


@pytest.mark.parametrize("method", ["patch", "PATCH", "put"])
@pytest.mark.parametrize(
    "path", [PATH, f"/api/v2/users/{ADA}", PATH + "/", f"https://tenant.eu.auth0.com{PATH}?fields=name"]
)
def test_an_update_is_about_the_user_in_the_path(method: str, path: str) -> None:
    actor = user(77)
    assert meaning_of(api_write(method, path, user_id=actor)) == looked_at(ADA)


def test_a_deletion_is_about_the_user_in_the_path() -> None:
    assert meaning_of(api_write("delete", PATH, user_id=user(77), status=204)) == Meaning((gone(ADA),))


def test_a_creation_is_named_in_the_answer_alone() -> None:
    identities = [{"connection": "db", "provider": "auth0", "user_id": ADA.removeprefix("auth0|"), "isSocial": False}]
    by_id = api_write("post", "/api/v2/users", status=201, answer={"user_id": ADA, "identities": identities})
    by_identity = api_write("post", "/api/v2/users", status=201, answer={"identities": identities})
    unread = api_write("post", "/api/v2/users", status=201, answer="*****")
    assert meaning_of(by_id) == looked_at(ADA)
    assert meaning_of(by_identity) == looked_at(ADA)
    assert meaning_of(unread).reconcile


def test_a_link_severs_both() -> None:
    record = api_write(
        "post", PATH + "/identities", status=201, body={"provider": "auth0", "user_id": BOB.removeprefix("auth0|")}
    )
    assert meaning_of(record) == Meaning((severed(ADA), gone(BOB)))


def test_a_link_may_name_the_secondary_whole_or_by_an_integer() -> None:
    whole = api_write("post", PATH + "/identities", body={"provider": "auth0", "user_id": BOB})
    number = api_write("post", PATH + "/identities", body={"provider": "google-oauth2", "user_id": 108})
    assert meaning_of(whole) == Meaning((severed(ADA), gone(BOB)))
    assert meaning_of(number) == Meaning((severed(ADA), gone("google-oauth2|108")))


def test_a_link_by_token_is_named_by_the_answer() -> None:
    answer = [
        {"provider": "auth0", "user_id": ADA.removeprefix("auth0|")},
        {"provider": "google-oauth2", "user_id": "108"},
    ]
    record = api_write("post", PATH + "/identities", body={"link_with": "*****"}, answer=answer)
    assert meaning_of(record) == Meaning((severed(ADA), gone("google-oauth2|108")))


@pytest.mark.parametrize("answer", [{}, None, "*****", []])
def test_an_unreadable_link_reads_the_primary_and_asks_for_a_reconcile(answer: Any) -> None:
    meaning = meaning_of(api_write("post", PATH + "/identities", body={"link_with": "*****"}, answer=answer))
    assert meaning.news == (severed(ADA),)
    assert meaning.reconcile


@pytest.mark.parametrize(
    ("provider", "identity", "secondary"),
    [
        ("google-oauth2", "108", "google-oauth2|108"),
        ("samlp", "corp%7Cbob%40corp.example", "samlp|corp|bob@corp.example"),
    ],
)
def test_an_unlink_severs_both(provider: str, identity: str, secondary: str) -> None:
    record = api_write("delete", f"{PATH}/identities/{provider}/{identity}")
    assert meaning_of(record) == Meaning((severed(ADA), severed(secondary)))


def test_an_unlink_that_names_nobody_asks_for_a_reconcile() -> None:
    meaning = meaning_of(api_write("delete", PATH + "/identities"))
    assert meaning.news == (severed(ADA),)
    assert meaning.reconcile


@pytest.mark.parametrize(
    "part", ["multifactor/guardian", "authenticators", "authentication-methods/am_1", "something-new"]
)
def test_parts_of_the_profile_are_looked_at(part: str) -> None:
    assert meaning_of(api_write("delete", f"{PATH}/{part}")) == looked_at(ADA)


@pytest.mark.parametrize(
    "part", ["roles", "permissions", "sessions", "refresh-tokens", "revoke-access", "organizations"]
)
def test_parts_outside_the_profile_are_not(part: str) -> None:
    assert meaning_of(api_write("post", f"{PATH}/{part}")) == NOTHING


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("delete", f"/api/v2/user-blocks/{ADA}"),
        ("post", "/api/v2/organizations/org_1/members"),
        ("post", "/api/v2/tickets/email-verification"),
        ("post", "/api/v2/tickets/password-change"),
        ("post", "/api/v2/jobs/users-exports"),
        ("post", "/api/v2/jobs/verification-email"),
        ("patch", "/api/v2/connections/con_1"),
        ("post", "/api/v2/roles/rol_1/users"),
        ("patch", "/api/v2/clients/abc"),
    ],
)
def test_writes_to_other_things_are_nobodys_business(method: str, path: str) -> None:
    assert meaning_of(api_write(method, path)) == NOTHING


def test_a_deleted_connection_takes_its_users_along() -> None:
    assert meaning_of(api_write("delete", "/api/v2/connections/con_1")).connection_gone == "con_1"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("delete", "/api/v2/connections/con_1/users"),
        ("post", "/api/v2/jobs/users-imports"),
        ("delete", "/api/v2/users"),
        ("patch", "/api/v2/users/nobody"),
    ],
)
def test_writes_to_unnamed_users_ask_for_a_reconcile(method: str, path: str) -> None:
    meaning = meaning_of(api_write(method, path, query={"email": "ada@example.com"}))
    assert meaning.reconcile
    assert not meaning.news
    assert "ada" not in meaning.reconcile


@pytest.mark.parametrize(
    "details", [..., None, "*****", {}, {"request": "*****"}, {"request": {"method": "patch", "path": 7}}]
)
def test_an_unreadable_write_asks_for_a_reconcile(details: Any) -> None:
    meaning = meaning_of(log_record("sapi", details=details))
    assert meaning.reconcile
    assert not meaning.news


@pytest.mark.parametrize("code", ["fapi", "mgmt_api_read"])
def test_what_failed_or_only_read_is_nobodys_business(code: str) -> None:
    assert (
        meaning_of({**api_write("delete", PATH), "data": api_write("delete", PATH)["data"] | {"type": code}}) == NOTHING
    )


# SCIM


def scim(method: str, path: str, answer: object = None) -> dict[str, Any]:
    details = {
        "action": "x",
        "connection_id": "con_1",
        "request": {"method": method, "path": path, "body": {}},
        "response": {"body": answer},
    }
    return log_record("sscim", user_id=..., details=details)


def test_a_scim_write_is_about_the_id_it_names() -> None:
    place = "/scim/v2/connections/con_1/Users"
    secret = "samlp%7Ccorp%7Cada%40corp.example"
    ada = "samlp|corp|ada@corp.example"
    assert meaning_of(scim("PATCH", f"{place}/{secret}")) == looked_at(ada)
    assert meaning_of(scim("DELETE", f"{place}/{secret}")) == Meaning((gone(ada),))
    assert meaning_of(scim("POST", place, {"id": ada})) == looked_at(ada)
    assert meaning_of(scim("GET", f"{place}/{secret}")) == NOTHING


def test_a_scim_write_that_names_nobody_asks_for_a_reconcile() -> None:
    assert meaning_of(scim("PATCH", "/scim/v2/connections/con_1/Users/0123")).reconcile
    assert meaning_of(log_record("sscim", user_id=..., details=...)).reconcile
    assert meaning_of(log_record("fscim", user_id=..., details=...)) == NOTHING


# The table as a whole


def test_an_unknown_code_is_counted_and_no_error() -> None:
    assert meaning_of(log_record("brand_new_code")) == Meaning(unknown=True)


@pytest.mark.parametrize("code", ["s\0", "a code with spaces", "x" * 65, "é"])
def test_what_cannot_be_a_code_is_parked(code: str) -> None:
    assert meaning_of(log_record(code)).bad


def test_no_code_is_listed_twice() -> None:
    listed = [code for _, codes in _KINDS for code in codes.split()]
    assert sorted(listed) == sorted(TABLE)
    assert len(TABLE) > 170


def test_only_logins_are_seen_logging_in() -> None:
    logins = {code for code in TABLE if any(news.login for news in meaning_of(log_record(code)).news)}
    pages, credentials = (
        "s scoa sens sdel",
        "sepft seoobft seotpft sercft sepkoobft sepkotpft sepkrcft secte ciba_exchange_succeeded",
    )
    assert sorted(logins) == sorted(f"{pages} {credentials}".split())


# Dates


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-03-01T12:00:01.001Z", DATE),
        ("2026-03-01T13:00:01.001+01:00", DATE),
        ("2026-03-01T12:00:01.001", DATE),
        (1772366401001, DATE),
        (1772366401.001, DATE),
        ({"$date": "2026-03-01T12:00:01.001Z"}, DATE),
        ("2026-02-30T00:00:00Z", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("9999-12-31T23:59:59Z", None),
        ("1999-12-31T23:59:59Z", None),
        (10**40, None),
        (float("inf"), None),
        (float("nan"), None),
        (True, None),
        ({}, None),
        ([], None),
        ("", None),
        (None, None),
    ],
)
def test_a_date_is_read_however_it_is_written(value: object, expected: datetime | None) -> None:
    found = news_date(value)
    assert found == expected
    assert found is None or found.tzinfo is UTC


@pytest.mark.parametrize("date", ["yesterday", None, ...])
def test_a_record_without_a_date_marks_its_user_for_a_strong_read_and_is_parked(date: Any) -> None:
    meaning = meaning_of(log_record("s", date=date))
    assert meaning.news == (News(ADA, None, login=True, strong=True),)
    assert meaning.bad


def test_a_date_past_the_latest_is_no_date() -> None:
    assert meaning_of(log_record("s"), latest=DATE).bad is None
    assert meaning_of(log_record("s"), latest=DATE - timedelta(seconds=1)).news[0].date is None


def test_nobodys_business_needs_no_date() -> None:
    assert meaning_of(log_record("slo", date="yesterday")) == NOTHING


# Ids


def test_an_id_postgresql_can_index_is_kept_and_a_longer_one_parked() -> None:
    longest = "auth0|" + "x" * (MAX_ID_BYTES - 6)
    assert user_id(longest) == longest
    assert meaning_of(log_record(user_id=longest + "x")).bad
    assert meaning_of(log_record(user_id="auth0|" + "é" * 600)).bad


@pytest.mark.parametrize("value", ["auth0|a\0b", "auth0|\ud83d"])
def test_an_id_postgresql_cannot_hold_is_unreadable(value: str) -> None:
    with pytest.raises(ValueError, match="an id holds"):
        user_id(value)


@pytest.mark.parametrize(
    ("provider", "identity"),
    [("", "1"), (None, "1"), ("auth0", ""), ("auth0", None), ("auth0", True), (7, "1"), ("auth0", 1.5)],
)
def test_half_an_identity_is_nobody(provider: object, identity: object) -> None:
    assert identity_id(provider, identity) is None


def test_news_does_not_show_whom_it_is_about() -> None:
    assert ADA not in repr(meaning_of(log_record("s")))
