"""How the command line ends when something goes wrong: one sentence, and nothing of what the database holds."""

import os
import re
import subprocess
import sysconfig
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest

from local.product import inherited
from worker import cli

PERSON = "auth0|marker.of.a.person"
REFUSES = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'refused %', NEW USING DETAIL = NEW::text; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON wishes FOR EACH ROW EXECUTE FUNCTION refuse()
"""


def test_what_postgresql_refuses_is_told_without_the_row(database_url: str, redis_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("INSERT INTO users (user_id, profile, synced_at) VALUES (%s, '{}', now())", (PERSON,))
        connection.execute(REFUSES)
    environ = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "AUTH0_DOMAIN": "acme.eu.auth0.com"}
    done = subprocess.run(
        [Path(sysconfig.get_path("scripts")) / "understudy", "plan", "set", PERSON, "gold"],
        env={**inherited(os.environ), **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("understudy: PostgreSQL refused a statement (psycopg.errors.RaiseException")
    assert len(done.stderr.splitlines()) == 1
    assert PERSON not in done.stderr


def test_the_release_is_told() -> None:
    said = subprocess.check_output([Path(sysconfig.get_path("scripts")) / "understudy", "--version"], text=True)
    assert re.fullmatch(r"understudy \d+\.\d+\.\d+\n", said)


def test_a_bug_is_told_by_its_place_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(*_: object) -> None:
        raise KeyError(PERSON)

    monkeypatch.setattr(cli, "fingerprint", fail)
    monkeypatch.setattr(cli, "settings", lambda: SimpleNamespace(fingerprint_key=b""))
    monkeypatch.setattr("sys.argv", ["understudy", "fingerprint", PERSON])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "this is a bug: builtins.KeyError at fail:" in said
    assert PERSON not in said
