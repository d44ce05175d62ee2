"""`understudy forget`, run as an operator runs it, against a simulated tenant."""

from __future__ import annotations

import json
import subprocess
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine

from tests.api.web import environment
from tests.simulator.running import Simulator
from tests.worker.sync.forgetting import Copy, record
from worker.logs import fingerprint
from worker.settings import Settings

UNDERSTUDY = Path(sysconfig.get_path("scripts")) / "understudy"

Understudy = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def tenant() -> Iterator[Simulator]:
    tenant = Simulator("--plan", "none", "--index-lag", "0")
    yield tenant
    tenant.stop()


@pytest.fixture
def settings(tenant: Simulator, database_url: str, redis_url: str) -> dict[str, str]:
    return environment(
        database_url,
        redis_url,
        AUTH0_DOMAIN=tenant.ready["domain"],
        AUTH0_CA_FILE=tenant.ready["ca_file"],
        AUTH0_M2M_CLIENT_ID=tenant.ready["client_id"],
        AUTH0_M2M_CLIENT_SECRET=tenant.ready["client_secret"],
        AUTH0_LIMITS="global=1000:1000/s",
        AUTH0_BUDGET_SHARE="1",
    )


@pytest.fixture
def understudy(settings: dict[str, str]) -> Understudy:
    def run(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [UNDERSTUDY, *arguments], env=settings | changes, capture_output=True, text=True, check=False
        )
        assert "Traceback" not in done.stderr
        return done

    return run


@pytest.fixture
def copy(database_url: str, tenant: Simulator) -> Iterator[Copy]:
    engine: Engine = create_engine(database_url.replace("postgresql:", "postgresql+psycopg:"))
    yield Copy(engine, domain=tenant.ready["domain"])
    engine.dispose()


def known(copy: Copy, tenant: Simulator) -> tuple[str, dict[str, Any]]:
    """Have the tenant and the copy know somebody, who has a song and records in the inbox."""
    [user_id] = tenant.sign_up(1, connection="Username-Password-Authentication")
    profile = tenant.user(user_id)
    copy.auth0[user_id] = profile
    copy.news(user_id, strong=True)
    copy.refresh()
    copy.sql("INSERT INTO songs (user_id, songname) VALUES (:a, 'x')", a=user_id)
    copy.put("logs", record(user_id, "1", user_name=profile["email"]), record("auth0|bob", "2"))
    copy.drain()
    return user_id, profile


def test_it_refuses_while_auth0_has_them_and_erases_them_when_they_are_gone(
    copy: Copy, tenant: Simulator, understudy: Understudy, settings: dict[str, str]
) -> None:
    user_id, profile = known(copy, tenant)
    refused = understudy("forget", user_id)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == (
        "understudy: Auth0 has this person: delete them there first, or keep them out of here with --keep-out\n"
    )
    tenant.act(user_id, "delete")
    done = understudy("forget", user_id)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()[-1]
    assert said == "removed: 1 user's row, 1 mark, 1 record in the inbox, 1 song"
    assert copy.left(user_id.partition("|")[2], profile["email"]) == {}
    # Log lines name nobody, but by the fingerprint.
    assert user_id not in done.stdout + done.stderr
    assert profile["email"] not in done.stdout + done.stderr
    key = Settings.model_validate(
        {
            name.lower(): value
            for name, value in settings.items()
            if name.startswith(("AUTH0_M2M", "AUTH0_DOMAIN", "DATABASE", "REDIS"))
        }
    ).fingerprint_key
    [line] = [json.loads(line) for line in done.stdout.splitlines() if '"event": "forgotten"' in line]
    assert line["user"] == fingerprint(user_id, key)
    again = understudy("forget", user_id)
    assert (again.returncode, again.stdout.splitlines()[-1]) == (0, "removed: nothing")


def test_a_dry_run_counts_and_changes_nothing(copy: Copy, tenant: Simulator, understudy: Understudy) -> None:
    user_id, _ = known(copy, tenant)
    copy.put("logs", record(user_id, "3"))  # not drained yet
    before = copy.left(user_id.partition("|")[2])
    told = understudy("forget", user_id, "--dry-run")
    assert told.returncode == 0, told.stderr
    assert told.stdout.splitlines() == [
        "would remove: 1 user's row, 1 mark, 2 records in the inbox, 1 song",
        "but Auth0 has this person: it would refuse without --keep-out",
    ]
    assert copy.left(user_id.partition("|")[2]) == before
    assert copy.sql("SELECT count(*) FROM forgotten") == [(0,)]


def test_who_is_kept_out_goes_though_auth0_has_them(copy: Copy, tenant: Simulator, understudy: Understudy) -> None:
    user_id, _ = known(copy, tenant)
    done = understudy("forget", user_id, "--keep-out")
    assert done.returncode == 0, done.stderr
    assert copy.left(user_id.partition("|")[2]) == {}
    assert copy.sql("SELECT keep_out FROM forgotten") == [(True,)]


def test_the_hash_outlives_the_client_secret(copy: Copy, tenant: Simulator, understudy: Understudy) -> None:
    user_id, _ = known(copy, tenant)
    understudy("forget", user_id, "--keep-out")
    client = tenant.control("POST", "clients", {"scopes": ["read:users"]})
    rotated = {
        "AUTH0_M2M_CLIENT_ID": client["client_id"],
        "AUTH0_M2M_CLIENT_SECRET": client["client_secret"],
        "USER_HASH_KEY": "new",
    }
    copy.put("logs", record(user_id, "4"))
    assert understudy("drain", **rotated).returncode == 0
    assert copy.left(user_id.partition("|")[2]) == {}


@pytest.mark.parametrize("said", ["ada@home.test", "", "auth0|" + "x" * 2000])
def test_what_is_no_id_gets_a_sentence(copy: Copy, understudy: Understudy, said: str) -> None:
    done = understudy("forget", said)
    assert done.returncode == 2
    assert done.stderr.startswith("understudy: ")
    assert done.stderr.count("\n") == 1
    assert copy.sql("SELECT count(*) FROM forgotten") == [(0,)]


def test_an_auth0_that_is_away_is_a_sentence_too_and_nothing_is_erased(
    copy: Copy, tenant: Simulator, understudy: Understudy
) -> None:
    user_id, _ = known(copy, tenant)
    before = copy.left(user_id.partition("|")[2])
    tenant.control("PUT", "faults", [{"where": "api", "kind": "status", "status": 503}])
    try:
        done = understudy("forget", user_id)
    finally:
        tenant.control("PUT", "faults", [])
    assert done.returncode == 2
    assert done.stderr.startswith("understudy: Auth0")
    assert copy.left(user_id.partition("|")[2]) == before
