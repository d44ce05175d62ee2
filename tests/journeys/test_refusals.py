"""What Auth0 or we refuse: another tenant's database, wrong credentials, a missing scope."""

from __future__ import annotations

import json

import pytest

from local.processes import ProcessDied
from local.server import free_port
from tests.journeys.conftest import OnStage
from tests.journeys.stage import Stage

pytestmark = pytest.mark.journey


def assert_refused_loudly(stage: Stage, word: str) -> None:
    """Refresh has stopped and `status` says why; drain goes on, and nobody is taken for deleted."""
    stage.burst(20, 0)
    stage.wait_until(lambda: stage.count("conditions WHERE name = 'auth0_refused'") == 1, "a refusal", 75)
    report = stage.understudy("status", "--json")
    assert report.status == 1
    assert any(word in problem for problem in json.loads(report.out)["problems"]), report.out
    stage.wait_until_drained()
    assert stage.count("news") > 0
    assert stage.count("users WHERE deleted_at IS NOT NULL") == 0


def test_wrong_credentials_and_a_missing_scope_stop_refresh_loudly_until_mended(play: OnStage) -> None:
    with play(people=40) as stage:
        secret = stage.environ["AUTH0_M2M_CLIENT_SECRET"]
        stage.replace_worker(AUTH0_M2M_CLIENT_SECRET="wrong")
        assert_refused_loudly(stage, "credentials are refused")
        stage.replace_worker(AUTH0_M2M_CLIENT_SECRET=secret)
        stage.assert_equal(at_least=40)
        assert stage.understudy("status").status == 0

        able = {"AUTH0_M2M_CLIENT_ID": stage.environ["AUTH0_M2M_CLIENT_ID"], "AUTH0_M2M_CLIENT_SECRET": secret}
        stage.replace_worker(**stage.application("read:logs", "read:clients"))
        assert_refused_loudly(stage, "read:users")
        stage.replace_worker(**able)
        stage.assert_equal(at_least=40)
        assert stage.understudy("status").status == 0


def test_the_scope_read_users_is_all_that_the_copy_needs(play: OnStage) -> None:
    with play() as stage:
        stage.replace_worker(**stage.application("read:users"), PULL_LOGS="false")
        stage.sign_up(60)
        stage.live(60)
        stage.burst(300, 2)
        stage.assert_equal(at_least=40)
        assert stage.tenant.control("GET", "stats")["api_statuses"].get("403", 0) == 0
        assert stage.understudy("status").status == 0


def test_every_process_refuses_another_tenants_database_in_one_line(play: OnStage) -> None:
    with play(people=20) as stage:
        another = "another.eu.auth0.com"
        for role in ("web", "worker", "beat"):
            name = f"wrong {role}"
            with pytest.raises(ProcessDied):
                stage.run(role, name, AUTH0_DOMAIN=another, PORT=str(free_port()))
            said = stage.output.of(name)
            assert "Traceback" not in said
            assert_one_line_names_both(said, stage.tenant.domain, another)
        for command in (["drain"], ["status"], ["status", "--json"], ["brake"], ["db", "upgrade"]):
            told = stage.understudy(*command, AUTH0_DOMAIN=another)
            assert told.status == 2
            assert told.out == ""
            assert_one_line_names_both(told.err, stage.tenant.domain, another)
        stage.burst(20, 0)
        stage.assert_equal(at_least=20)


def assert_one_line_names_both(said: str, ours: str, another: str) -> None:
    lines = [line for line in said.splitlines() if line.strip()]
    assert len(lines) == 1, said
    assert ours in lines[0]
    assert another in lines[0]
