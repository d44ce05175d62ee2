"""The change that docs/own-rules.md shows, applied to a copy of the package, does what the page says."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.docs.pages import CHECKOUT, blocks

PAGE = CHECKOUT / "docs" / "own-rules.md"

TRIED = """
import sys
from sqlalchemy import create_engine, text
from worker.domain.roles import rules
from worker.settings import Settings
from worker.store.people import people
from worker.store.pushes import Mark
from worker.sync.plans import Planner
from worker.sync.sweep import sweep

tiers = Settings.model_validate({"database_url": sys.argv[1], "redis_url": "redis://127.0.0.1", "auth0_domain": "a.auth0.com",
                                 "role_tiers": sys.argv[2]}).role_tiers
engine = create_engine(sys.argv[1].replace("postgresql:", "postgresql+psycopg:"))
planner = Planner(rules(tiers), "")
with engine.begin() as connection:
    connection.execute(text(
        "INSERT INTO users (user_id, profile, synced_at) SELECT 'auth0|' || n, '{}', now() FROM unnest(ARRAY[9, 10, 1000]) AS n"
    ))
    connection.execute(text(
        "INSERT INTO playlists (user_id, name, plays) SELECT 'auth0|' || owner, 'mine', 1 "
        "FROM unnest(ARRAY[9, 10]) AS owner CROSS JOIN LATERAL generate_series(1, owner)"
    ))
    connection.execute(text("INSERT INTO playlists (user_id, name, plays) VALUES ('auth0|1000', 'mine', 1000)"))
print(sweep(engine, planner, go_on=lambda: True))
with engine.connect() as connection:
    for user_id, person in sorted(people(connection, ["auth0|9", "auth0|10", "auth0|1000"]).items()):
        print(user_id, planner.plan(Mark(user_id), person, person.metadata, None).send.values.get("roles"))
"""


def tried(root: Path, database_url: str, tiers: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", TRIED, database_url, tiers], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_second_tier_needs_no_code(database_url: str) -> None:
    [shown] = blocks(PAGE, "sh")
    tiers = shown.strip().removeprefix("ROLE_TIERS=")
    assert tried(CHECKOUT, database_url, tiers) == [
        "1",
        "auth0|10 None",
        "auth0|1000 ['playlist_editor', 'curator']",
        "auth0|9 None",
    ]


def test_the_change_that_is_shown_adds_a_second_kind_of_rule(database_url: str, tmp_path: Path) -> None:
    shutil.copytree(CHECKOUT / "worker", tmp_path / "worker", ignore=shutil.ignore_patterns("__pycache__"))
    [shown] = blocks(PAGE, "diff")
    subprocess.run(["git", "apply", "-"], cwd=tmp_path, input=shown, text=True, check=True)
    assert tried(tmp_path, database_url, "playlist_editor=1000") == [
        "2",
        "auth0|10 ['collector']",
        "auth0|1000 ['playlist_editor']",
        "auth0|9 None",
    ]
