"""The tenant says that everybody is gone, which is not so: the brake (P19) stops at ten, says so, and forgives."""

from __future__ import annotations

import json
import time

import pytest

from tests.journeys.conftest import OnStage

pytestmark = pytest.mark.journey


def test_a_mass_404_deletes_ten_and_asks_a_human(play: OnStage) -> None:
    with play(people=60) as stage:
        stage.faults({"where": "api", "kind": "missing_user"})
        # Slowly: under pressure users are searched, and those whom a search finds are there.
        stage.burst(60, 8)
        stage.wait_until_drained()
        stage.wait_until(lambda: stage.count("news WHERE braked_at IS NULL") == 0, "everybody to be read or braked", 40)
        braked = stage.count("news WHERE braked_at IS NOT NULL")

        assert braked > 0
        assert stage.count("users WHERE deleted_at IS NOT NULL") == 10
        report = stage.understudy("status", "--json")
        assert report.status == 1
        assert json.loads(report.out)["news"]["braked"] == braked
        assert any("understudy brake" in problem for problem in json.loads(report.out)["problems"])
        assert stage.understudy("status").status == 1
        assert "understudy brake" in stage.understudy("status").out

        calls = stage.tenant.control("GET", "stats")["api_calls_total"]
        time.sleep(6)  # beat rings refresh every five seconds
        assert stage.tenant.control("GET", "stats")["api_calls_total"] == calls, "braked users are read again"

        stage.faults()
        assert stage.understudy("brake", "--recheck").status == 0
        stage.assert_equal(at_least=60)
        assert stage.understudy("status").status == 0


def test_a_deleted_connections_users_pass_the_brake(play: OnStage) -> None:
    with play(people=20) as stage:
        stage.sign_up(25, connection="acme-saml")
        stage.settle()
        assert stage.tenant.control("POST", "connections/delete", {"connection": "acme-saml"})["deleted"] >= 25
        stage.assert_equal(at_least=10)
        assert stage.count("users WHERE deleted_at IS NOT NULL AND deletion_announced") >= 25
        assert stage.count("users WHERE deleted_at IS NOT NULL AND NOT deletion_announced") == 0
        assert stage.understudy("status").status == 0


def test_announced_deletions_pass_the_brake(play: OnStage) -> None:
    with play() as stage:
        people = stage.sign_up(40)
        stage.settle()
        for user_id in people[:30]:
            stage.tenant.control("POST", "people/act", {"act": "delete", "user_id": user_id, "log": "both"})
        stage.assert_equal(at_least=10)
        assert stage.count("users WHERE deleted_at IS NOT NULL") >= 30
        assert stage.understudy("status").status == 0
