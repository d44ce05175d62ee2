"""Roles that plays earn and plans that are set get to Auth0, whoever is killed on the way; what others wrote there stays."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import psycopg
import pytest

from tests.journeys.conftest import OnStage
from tests.journeys.stage import Stage

pytestmark = pytest.mark.journey

EDITOR = "playlist_editor"


def owns(stage: Stage, plays: dict[str, int], *, told: bool = True) -> None:
    """Give people a playlist that was played so often; `told`: with the hint that whoever counts plays leaves."""
    with psycopg.connect(stage.database_url) as connection, connection.cursor() as cursor:
        cursor.execute("DELETE FROM playlists WHERE user_id = ANY(%s)", (list(plays),))
        cursor.executemany("INSERT INTO playlists (user_id, name, plays) VALUES (%s, 'mine', %s)", plays.items())
        if told:
            cursor.executemany(
                "INSERT INTO pushes (user_id) VALUES (%s) ON CONFLICT DO NOTHING", [(one,) for one in plays]
            )


def held(stage: Stage) -> dict[str, dict[str, Any]]:
    return {user["user_id"]: user.get("app_metadata", {}) for user in stage.tenant.truth()}


def gets_foreign_roles(stage: Stage, ids: Iterable[str]) -> dict[str, list[str]]:
    """Have somebody else give these people roles of theirs; return what everybody has that is none of ours."""
    for user_id in ids:
        given = {"act": "metadata", "user_id": user_id, "app_metadata": {"roles": ["admin", "beta"]}}
        stage.tenant.control("POST", "people/act", given)
    stage.settle()
    return foreign_roles(stage)


def foreign_roles(stage: Stage) -> dict[str, list[str]]:
    return {
        user_id: [role for role in metadata.get("roles", []) if role != EDITOR]
        for user_id, metadata in held(stage).items()
    }


def editors(stage: Stage) -> set[str]:
    return {user_id for user_id, metadata in held(stage).items() if EDITOR in metadata.get("roles", [])}


def test_the_right_people_are_editors_in_auth0_and_in_sql(play: OnStage) -> None:
    with play(people=30) as stage:
        ids = sorted(held(stage))
        foreign = gets_foreign_roles(stage, ids[::3])
        earning, silent, rest = ids[:10], ids[10:12], ids[12:]
        owns(stage, dict.fromkeys(earning, 100) | dict.fromkeys(rest, 99))
        owns(stage, dict.fromkeys(silent, 1000), told=False)
        for _ in range(3):
            time.sleep(1)
            stage.product.worker.kill()
            stage.start("worker", f"worker {time.monotonic()}")
        stage.wait_until(lambda: editors(stage) == {*earning, *silent}, "everybody to get the role")
        stage.assert_equal(at_least=30)
        in_sql = stage.query("SELECT user_id FROM live_users WHERE 'playlist_editor' = ANY(roles) ORDER BY user_id")
        assert [user_id for (user_id,) in in_sql] == sorted([*earning, *silent])
        assert foreign_roles(stage) == foreign


def test_our_own_writes_come_back_and_end_there(play: OnStage) -> None:
    with play(people=10) as stage:
        ids = sorted(held(stage))
        stage.tenant.control("POST", "stats/reset")
        owns(stage, dict.fromkeys(ids, 100))
        stage.wait_until(lambda: editors(stage) == set(ids), "everybody to get the role")
        stage.settle()
        stage.wait_until_drained()
        time.sleep(6)  # beat has rung every loop
        calls = stage.tenant.control("GET", "stats")["api_calls"]
        assert calls["PATCH /api/v2/users/{id}"] == 10
        # A record that overtakes its own answer is news, and costs one read more.
        assert 10 <= calls["GET /api/v2/users/{id}"] <= 12
        [(ignored,)] = stage.query("SELECT value FROM counters WHERE name = 'own_writes_ignored'")
        assert ignored >= 8


def test_a_role_removed_by_hand_comes_back_and_a_foreign_one_given_meanwhile_stays(play: OnStage) -> None:
    with play(people=3) as stage:
        user_id = min(held(stage))
        owns(stage, {user_id: 100})
        stage.wait_until(lambda: editors(stage) == {user_id}, "the role")
        by_hand = {"act": "metadata", "user_id": user_id, "app_metadata": {"roles": ["admin"]}}
        stage.tenant.control("POST", "people/act", by_hand)
        stage.wait_until(lambda: held(stage)[user_id].get("roles") == ["admin", EDITOR], "the role to come back")
        told = stage.understudy("plan", "set", user_id, "gold")
        assert (told.status, told.out) == (0, "the plan is set\n")
        stage.wait_until(lambda: held(stage)[user_id].get("plan") == "gold", "the plan")
        assert stage.query("SELECT count(*) FROM live_users WHERE plan = 'gold'") == [(1,)]
        told = stage.understudy("plan", "set", "auth0|nobody", "gold")
        assert told.status == 2
        assert "no living user of that id is known here" in told.err
        stage.assert_equal(at_least=3)
        assert stage.understudy("status").status == 0
