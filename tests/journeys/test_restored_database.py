"""Yesterday's database is restored: roles earned since look unearned to it, and nobody loses one unasked (P19)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from local.servers import Postgres
from tests.journeys.conftest import OnStage
from tests.journeys.stage import Stage
from tests.journeys.test_roles import EDITOR, editors, foreign_roles, gets_foreign_roles, held, owns

pytestmark = pytest.mark.journey


@contextmanager
def at_rest(stage: Stage) -> Iterator[tuple[Postgres, str, str]]:
    """Stop the product; yield the server, and the names of its database and of a backup."""
    processes = (stage.product.beat, stage.product.worker, stage.product.web)
    for process in processes:
        process.stop()
    name = urlsplit(stage.database_url).path.removeprefix("/")
    yield Postgres(Postgres(stage.database_url).url_of("postgres")), name, f"{name}_yesterday"
    for process in reversed(processes):
        process.start()


def test_nobody_loses_a_role_to_yesterdays_database_unasked(play: OnStage) -> None:
    with play(people=8) as stage:
        ids = sorted(held(stage))
        earning, foreign = ids[:5], gets_foreign_roles(stage, ids[::2])
        owns(stage, dict.fromkeys(earning, 99))
        with at_rest(stage) as (server, today, yesterday):
            server.create_database(yesterday, template=today)
        try:
            owns(stage, dict.fromkeys(earning, 100))
            stage.wait_until(lambda: editors(stage) == set(earning), "the roles")
            stage.settle()
            with at_rest(stage) as (server, today, yesterday):
                server.drop_database(today)
                server.create_database(today, template=yesterday)
        finally:
            server.drop_database(yesterday)

        stage.tenant.control("POST", "people/login", {"user_ids": earning})
        known = f"live_users WHERE '{EDITOR}' = ANY(roles)"
        stage.wait_until(lambda: stage.count(known) == len(earning), "the copy to see roles that it knows nothing of")
        braked = "pushes WHERE braked_at IS NOT NULL"
        stage.wait_until(lambda: stage.count(braked) == len(earning), "everybody to be braked")
        time.sleep(6)  # beat has rung every loop
        assert editors(stage) == set(earning)
        report = stage.understudy("status", "--json")
        assert report.status == 1
        assert any("restored from a backup" in problem for problem in json.loads(report.out)["problems"])

        assert stage.understudy("plan", "set", earning[0], "gold").status == 0
        stage.wait_until(lambda: held(stage)[earning[0]].get("plan") == "gold", "what is harmless to go")
        owns(stage, dict.fromkeys(earning[:2], 100))  # some plays are found again
        assert stage.understudy("brake", "--trust").status == 0
        stage.wait_until(lambda: editors(stage) == set(earning[:2]), "a human's answer to be carried out")
        stage.assert_equal(at_least=8)
        assert foreign_roles(stage) == foreign
