"""The tenant log by checkpoint: how it ages, and that no order in it can be relied on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.simulator.running import Simulator


@pytest.fixture
def logged(start: Callable[..., Simulator]) -> Simulator:
    """A tenant with some hundred log records."""
    tenant = start("--plan", "none", "--log-skew", "5")
    tenant.sign_up(80)
    return tenant


def pulled(tenant: Simulator, since: str, take: int = 100) -> httpx.Response:
    return tenant.api("GET", "logs", params={"from": since, "take": take})


def dates(records: list[dict[str, Any]]) -> list[str]:
    return [record["date"] for record in records]


def test_the_next_page_is_where_the_link_points(logged: Simulator) -> None:
    since, seen = "", []
    while page := (answer := pulled(logged, since, take=50)).json():
        seen += [record["log_id"] for record in page]
        link = answer.headers["link"]
        assert link.endswith('rel="next"')
        since = httpx.URL(link[1 : link.index(">")]).params["from"]
        assert since == page[-1]["log_id"]
    assert seen == sorted(set(seen))
    assert len(seen) == logged.control("GET", "stats")["logs_written"]


@pytest.mark.parametrize("status", [400, 404])
def test_a_checkpoint_that_has_aged_out_is_refused(logged: Simulator, status: int) -> None:
    logged.control("PUT", "logs", {"expired_status": status})
    records = logged.pull_logs()
    assert logged.control("POST", "logs/expire", {"keep": 10}) == {"kept": 10}
    answer = pulled(logged, records[0]["log_id"])
    assert (answer.status_code, answer.json()["statusCode"]) == (status, status)
    assert [r["log_id"] for r in pulled(logged, records[-10]["log_id"]).json()] == [r["log_id"] for r in records[-9:]]
    assert logged.api("GET", f"logs/{records[0]['log_id']}").status_code == 404


def test_an_aged_checkpoint_can_also_go_on_silently(logged: Simulator) -> None:
    logged.control("PUT", "logs", {"expired_status": 200})
    records = logged.pull_logs()
    logged.control("POST", "logs/expire", {"keep": 10})
    assert [r["log_id"] for r in pulled(logged, records[0]["log_id"]).json()] == [r["log_id"] for r in records[-10:]]


def test_the_log_ages_by_days(logged: Simulator) -> None:
    newest = logged.pull_logs()[-1]["log_id"]
    logged.control("PUT", "logs", {"retention_days": 0})
    assert logged.pull_logs() == []
    assert pulled(logged, newest).status_code == 400


def test_a_record_can_come_to_stand_before_those_already_read(logged: Simulator) -> None:
    logged.control("PUT", "logs", {"id_skew": 60})
    newest = logged.pull_logs()[-1]["log_id"]
    known = {record["log_id"] for record in logged.pull_logs()}
    logged.sign_up(20)
    everything = {record["log_id"] for record in logged.pull_logs()}
    missed = everything - known - {record["log_id"] for record in logged.pull_logs(newest)}
    assert missed


def test_pages_stop_at_a_thousand(logged: Simulator) -> None:
    assert logged.api("GET", "logs", params={"per_page": 100, "page": 9}).status_code == 200
    assert logged.api("GET", "logs", params={"per_page": 100, "page": 10}).status_code == 400


def test_the_log_can_be_searched_by_date_to_begin_anew(logged: Simulator) -> None:
    everything = sorted(dates(logged.pull_logs()))
    since = everything[len(everything) // 2]
    params: dict[str, Any] = {"q": f"date:[{since} TO *] AND type:s", "sort": "date:1", "per_page": 100}
    found = logged.api("GET", "logs", params=params).json()
    assert dates(found) == sorted(dates(found))
    assert dates(found)[0] >= since
    assert {record["type"] for record in found} == {"s"}
    params["q"] = f"date:[* TO {since[:19]}]"
    assert max(dates(logged.api("GET", "logs", params=params).json())) <= since[:19] + ".999Z"


@pytest.mark.parametrize("params", [{"q": "user_id:x"}, {"sort": "type:1"}])
def test_another_search_is_refused(logged: Simulator, params: dict[str, str]) -> None:
    assert logged.api("GET", "logs", params=params).status_code == 400


def test_auth0s_own_client_reads_the_log_by_page(logged: Simulator) -> None:
    """Its models know no checkpoints: neither `from`, nor the bare list that answers it."""
    client = logged.management().logs
    page = client.list(per_page=10, sort="date:-1")
    first, *others = page.items or []
    assert len(others) == 9
    assert client.get(first.log_id or "").log_id == first.log_id


def test_secrets_of_streams_stay_out_of_the_log(logged: Simulator) -> None:
    authorization = {"method": "bearer", "token": "s3cret"}
    configuration = {"webhook_endpoint": "http://127.0.0.1:9/", "webhook_authorization": authorization}
    body = {
        "name": "x",
        "subscriptions": [{"event_type": "user.created"}],
        "destination": {"type": "webhook", "configuration": configuration},
    }
    (record,) = logged.logs_of(lambda: logged.api("POST", "event-streams", json=body))
    assert record["type"] == "sapi"
    assert "s3cret" not in str(record)
