"""Export and import jobs: how they go, their files, and how long both last."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.simulator.running import Simulator, eventually

DATABASE = "Username-Password-Authentication"
DATABASE_ID = "con_7yJq0Zb5Tn1dVx2k"
PACE = {"export_seconds": 0, "import_seconds": 0, "link_seconds": 60, "keep_seconds": 86_400, "gzip": True}
EVERYTHING = ("user_id", "email", "email_verified", "name", "nickname", "given_name", "family_name", "picture", "username", "phone_number", "phone_verified", "blocked", "created_at", "updated_at", "last_login", "last_ip", "logins_count", "app_metadata", "user_metadata", "identities")  # fmt: skip


@pytest.fixture(autouse=True)
def _usual(tenant: Simulator) -> Iterator[None]:
    tenant.control("PUT", "jobs", PACE)
    yield
    tenant.control("DELETE", "faults")


def finished(tenant: Simulator, job_id: str, status: str = "completed") -> dict[str, Any]:
    def is_over() -> dict[str, Any] | None:
        job: dict[str, Any] = tenant.api("GET", f"jobs/{job_id}").json()
        return job if job["status"] != "pending" else None

    job: dict[str, Any] = eventually(is_over)
    assert job["status"] == status, job
    return job


def begun(tenant: Simulator, *fields: str, **asked: Any) -> str:
    wanted = {"fields": [{"name": name} for name in fields]} if fields else {}
    answer = tenant.api("POST", "jobs/users-exports", json={"format": "json", **wanted, **asked})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def download(tenant: Simulator, job: dict[str, Any], **request: Any) -> httpx.Response:
    return tenant.http.get(job["location"], **request)


def exported(tenant: Simulator, *fields: str, **asked: Any) -> list[dict[str, Any]]:
    """Everything that an export of these fields holds."""
    answer = download(tenant, finished(tenant, begun(tenant, *fields, **asked)))
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in gzip.decompress(answer.content).splitlines()]


def imported(tenant: Simulator, records: Any, **fields: Any) -> httpx.Response:
    form = {"connection_id": DATABASE_ID, **fields}
    raw = records if isinstance(records, bytes) else json.dumps(records).encode()
    return tenant.api("POST", "jobs/users-imports", data=form, files={"users": ("users.json", raw)})


def test_an_export_holds_every_user_as_the_tenant_shows_them(tenant: Simulator) -> None:
    tenant.sign_up(30)
    first, second, *_ = tenant.sign_up(2, connection=DATABASE)
    tenant.act(first, "link", secondary=second)
    users = {user["user_id"]: user for user in exported(tenant, *EVERYTHING)}
    truth = {
        user_id: {name: user[name] for name in EVERYTHING if name in user} for user_id, user in tenant.truth().items()
    }
    assert users == truth


def test_fields_are_chosen_named_and_reached_into(tenant: Simulator) -> None:
    (user_id,) = tenant.sign_up(connection="email")
    tenant.act(user_id, "metadata", user_metadata={"fav_genre": "fado"})
    fields = [
        {"name": "user_id", "export_as": "id"},
        {"name": "user_metadata.fav_genre"},
        {"name": "identities[0].connection", "export_as": "through"},
        {"name": "shoe_size"},
    ]
    users = exported(tenant, connection_id="con_A9xPz1Nk6oUc3Rlw", fields=fields)
    assert {"id": user_id, "user_metadata.fav_genre": "fado", "through": "email"} in users
    assert {user["through"] for user in users} == {"email"}
    assert len(exported(tenant, limit=3)) == 3


@pytest.mark.parametrize("compressed", [True, False])
def test_a_file_is_compressed_or_not(tenant: Simulator, compressed: bool) -> None:
    tenant.sign_up()
    tenant.control("PUT", "jobs", {"gzip": compressed})
    answer = download(tenant, finished(tenant, begun(tenant)))
    assert answer.content.startswith(b"\x1f\x8b") is compressed
    assert "content-encoding" not in answer.headers  # the client is not to unpack it by itself
    half = len(answer.content) // 2
    rest = download(tenant, finished(tenant, begun(tenant)), headers={"Range": f"bytes={half}-"})
    assert (rest.status_code, rest.content) == (206, answer.content[half:])


def test_a_csv_file_has_a_header_and_harmless_strings(tenant: Simulator) -> None:
    (user_id,) = tenant.sign_up(connection=DATABASE)
    answer = download(tenant, finished(tenant, begun(tenant, "user_id", "logins_count", format="csv")))
    lines = list(csv.reader(io.StringIO(gzip.decompress(answer.content).decode())))
    assert lines[0] == ["user_id", "logins_count"]
    assert [f"'{user_id}", "1"] in lines
    refused = tenant.api("POST", "jobs/users-exports", json={"format": "csv", "fields": [{"name": "app_metadata"}]})
    assert refused.status_code == 400


def test_a_job_takes_its_time_and_says_how_far_it_is(start: Callable[..., Simulator]) -> None:
    tenant = start("--plan", "none")
    tenant.control("POST", "users/load", {"count": 2000})
    tenant.control("PUT", "jobs", {"export_seconds": 3})
    job_id = begun(tenant)
    half_way = eventually(lambda: (job := tenant.api("GET", f"jobs/{job_id}").json()).get("percentage_done") and job)
    assert (half_way["status"], half_way["type"], "location" in half_way) == ("pending", "users_export", False)
    assert half_way["time_left_seconds"] >= 0
    finished(tenant, job_id)


def test_users_change_while_they_are_exported(start: Callable[..., Simulator]) -> None:
    tenant = start("--plan", "none")
    tenant.control("POST", "users/load", {"count": 2000})
    tenant.control("PUT", "jobs", {"export_seconds": 2})
    job_id = begun(tenant, "user_id")
    eventually(lambda: tenant.api("GET", f"jobs/{job_id}").json().get("percentage_done"))
    tenant.sign_up(5)
    tenant.control("POST", "people/live", {"actions": 300, "weights": {"delete": 200, "signup": 0, "recreate": 0}})
    lines = gzip.decompress(download(tenant, finished(tenant, job_id)).content).splitlines()
    seen = {json.loads(line)["user_id"] for line in lines}
    alive = tenant.truth().keys()
    assert seen - alive  # deleted after they were read
    assert alive - seen  # came after the export began


def test_a_link_lasts_a_minute_and_each_look_makes_another(tenant: Simulator) -> None:
    first = finished(tenant, begun(tenant))
    second = tenant.api("GET", f"jobs/{first['id']}").json()
    assert first["location"] != second["location"]
    assert download(tenant, first).content == download(tenant, second).content
    tenant.control("PUT", "jobs", {"link_seconds": 0})
    late = tenant.api("GET", f"jobs/{first['id']}").json()
    assert eventually(lambda: (answer := download(tenant, late)).status_code != 200 and answer).status_code == 403
    assert download(tenant, second).status_code == 200


def test_a_link_wants_no_token(tenant: Simulator) -> None:
    job = finished(tenant, begun(tenant))
    assert download(tenant, job, headers={"Authorization": f"Bearer {tenant.default_token}"}).status_code == 400
    assert tenant.http.get(job["location"].partition("?")[0]).status_code == 403


def test_a_job_is_gone_after_a_day(tenant: Simulator) -> None:
    job = finished(tenant, begun(tenant))
    tenant.control("PUT", "jobs", {"keep_seconds": 0})
    assert tenant.api("GET", f"jobs/{job['id']}").status_code == 404
    assert download(tenant, job).status_code == 403


def test_an_export_can_fail(tenant: Simulator) -> None:
    tenant.control("PUT", "faults", [{"where": "export", "kind": "fail", "times": 1}])
    job = finished(tenant, begun(tenant), "failed")
    assert "location" not in job
    assert job["status_details"]
    finished(tenant, begun(tenant))


def test_a_file_can_be_cut_short(tenant: Simulator) -> None:
    tenant.sign_up(20)
    whole = len(exported(tenant, "user_id"))
    tenant.control("PUT", "jobs", {"gzip": False})
    tenant.control("PUT", "faults", [{"where": "export", "kind": "truncate", "times": 1}])
    answer = download(tenant, finished(tenant, begun(tenant, "user_id")))
    assert answer.status_code == 200
    assert len(answer.content.splitlines()) < whole
    assert not answer.content.endswith(b"\n")


def test_an_export_can_leave_users_out(tenant: Simulator) -> None:
    tenant.sign_up(20)
    whole = len(exported(tenant, "user_id"))
    tenant.control("PUT", "faults", [{"where": "export", "kind": "lose", "times": 7}])
    assert len(exported(tenant, "user_id")) == whole - 7


@pytest.mark.parametrize(
    ("fault", "status"), [({"kind": "expire"}, 403), ({"kind": "status", "status": 503}, 503), ({"kind": "delay", "seconds": 0.01}, 200)]
)  # fmt: skip
def test_a_download_can_be_refused_and_slow(tenant: Simulator, fault: dict[str, Any], status: int) -> None:
    job = finished(tenant, begun(tenant))
    content = download(tenant, job).content
    tenant.control("PUT", "faults", [{"where": "export", "times": 1, **fault}])
    answer = download(tenant, job)
    assert answer.status_code == status
    assert (answer.content == content) is (status == 200)
    assert download(tenant, job).content == content


def test_a_download_can_break_off(tenant: Simulator) -> None:
    job = finished(tenant, begun(tenant))
    tenant.control("PUT", "faults", [{"where": "export", "kind": "drop"}])
    with pytest.raises(httpx.RemoteProtocolError):
        download(tenant, job)


@pytest.mark.parametrize(
    "asked",
    [{"format": "xml"}, {"limit": 0}, {"fields": "email"}, {"fields": [{}]}, {"colour": "red"}],
)
def test_an_export_that_makes_no_sense_is_refused(tenant: Simulator, asked: dict[str, Any]) -> None:
    assert tenant.api("POST", "jobs/users-exports", json=asked).status_code == 400


def test_an_export_of_an_unknown_connection_and_an_unknown_job_are_404(tenant: Simulator) -> None:
    assert tenant.api("POST", "jobs/users-exports", json={"connection_id": "con_0"}).status_code == 404
    assert tenant.api("GET", "jobs/job_0").status_code == 404


def test_an_import_inserts_and_the_log_names_nobody(tenant: Simulator) -> None:
    records = [{"email": "New.One@example.com", "user_id": "imported-1"}, {"email": "new.two@example.com", "user_metadata": {"a": 1}}]  # fmt: skip
    logs = tenant.logs_of(lambda: finished(tenant, imported(tenant, records).json()["id"]))
    assert {record["type"] for record in logs} == {"sapi", "sui"}
    assert tenant.user("auth0|imported-1")["email"] == "new.one@example.com"
    assert "new.two@example.com" not in json.dumps(logs)
    (user,) = tenant.api("GET", "users-by-email", params={"email": "new.two@example.com"}).json()
    assert (user["user_metadata"], user["email_verified"]) == ({"a": 1}, False)


def test_an_upsert_overwrites_metadata_where_a_patch_merges(tenant: Simulator) -> None:
    (user_id,) = tenant.sign_up(connection=DATABASE)
    tenant.api("PATCH", f"users/{user_id}", json={"app_metadata": {"kept": 1, "plan": "pro"}})
    record = {"email": tenant.user(user_id)["email"], "app_metadata": {"plan": "free"}}
    refused = finished(tenant, imported(tenant, [record]).json()["id"], "failed")
    assert refused["summary"] == {"failed": 1, "updated": 0, "inserted": 0, "total": 1}
    (told,) = tenant.api("GET", f"jobs/{refused['id']}/errors").json()
    assert told["errors"][0]["code"] == "DUPLICATED_USER"
    done = finished(tenant, imported(tenant, [record, {"name": "no address"}], upsert="true").json()["id"])
    assert done["summary"] == {"failed": 1, "updated": 1, "inserted": 0, "total": 2}
    assert tenant.user(user_id)["app_metadata"] == {"plan": "free"}


def test_an_import_of_nobody_is_logged_as_failed(tenant: Simulator) -> None:
    logs = tenant.logs_of(lambda: finished(tenant, imported(tenant, [{"email": "no"}]).json()["id"], "failed"))
    assert {record["type"] for record in logs} == {"sapi", "fui"}


@pytest.mark.parametrize(
    ("records", "fields", "status"),
    [
        (b"not json", {}, 400),
        ({"email": "a@example.com"}, {}, 400),
        (b"[" + b" " * 512_000 + b"]", {}, 413),
        ([], {"connection_id": "con_0"}, 404),
        ([], {"connection_id": "con_m1Rr8bWcE4sYp0Ua"}, 400),
    ],
)
def test_an_import_that_makes_no_sense_is_refused(
    tenant: Simulator, records: Any, fields: dict[str, str], status: int
) -> None:
    assert imported(tenant, records, **fields).status_code == status


def test_two_imports_at_once_are_enough(tenant: Simulator) -> None:
    tenant.control("PUT", "jobs", {"import_seconds": 1})
    job_ids = [imported(tenant, []).json()["id"] for _ in range(2)]
    assert imported(tenant, []).status_code == 429
    for job_id in job_ids:
        finished(tenant, job_id)
    assert imported(tenant, []).status_code == 202


def test_auth0s_own_client_exports_and_imports(tenant: Simulator) -> None:
    client = tenant.management().jobs
    done = client.users_imports.create(
        users=("users.json", b'[{"email": "by.client@example.com"}]'), connection_id=DATABASE_ID, upsert=True
    )
    assert finished(tenant, done.id)["summary"]["inserted"] == 1
    assert client.errors.get(done.id) is None
    job = client.users_exports.create(format="json", fields=[{"name": "email"}])
    finished(tenant, job.id)
    location = client.get(job.id).location
    assert location is not None
    assert b"by.client@example.com" in gzip.decompress(tenant.http.get(location).content)


def test_each_job_needs_its_scope(tenant: Simulator) -> None:
    token = tenant.token("read:logs")
    assert tenant.api("POST", "jobs/users-exports", token, json={}).status_code == 403
    assert tenant.api("GET", "jobs/job_0", token).status_code == 403


def test_files_go_with_the_process(start: Callable[..., Simulator], tmp_path: Any) -> None:
    tenant = start("--plan", "none", "--data", str(tmp_path))
    finished(tenant, begun(tenant))
    assert list(tmp_path.glob("job_*"))
    tenant.stop()
    assert not list(tmp_path.glob("job_*"))
