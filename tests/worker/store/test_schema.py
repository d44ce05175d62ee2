"""The schema: what the migrations make is what the models say, and a database remembers its tenant."""

import json
import secrets
from datetime import timedelta

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, create_engine, text

from worker.errors import Locked, SchemaBehind, TooOld, WrongTenant
from worker.store import schema
from worker.store.tables import metadata


@pytest.fixture
def connection(database_url: str):  # type: ignore[no-untyped-def]
    engine = create_engine(database_url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def test_the_migrations_make_what_the_models_say(connection: Connection) -> None:
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    assert compare_metadata(context, metadata) == []


def test_the_storage_settings_of_queues_are_what_the_models_say(connection: Connection) -> None:
    for table in (metadata.tables["inbox"], metadata.tables["news"], metadata.tables["pushes"]):
        options = connection.execute(
            text("SELECT reloptions FROM pg_class WHERE relname = :name"), {"name": table.name}
        ).scalar_one()
        assert set(options) == {
            f"{name}={value}" for name, value in table.dialect_options["postgresql"]["with"].items()
        }


def test_a_database_remembers_which_tenant_it_is_a_copy_of(connection: Connection) -> None:
    schema.claim_tenant(connection, "acme.eu.auth0.com")
    schema.claim_tenant(connection, "acme.eu.auth0.com")
    with pytest.raises(WrongTenant, match=r"copy of acme\.eu\.auth0\.com.*other\.auth0\.com"):
        schema.claim_tenant(connection, "other.auth0.com")


def test_a_schema_that_lacks_a_migration_is_named_with_what_to_do(connection: Connection) -> None:
    schema.check(connection)
    connection.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    with pytest.raises(SchemaBehind, match="understudy db upgrade"):
        schema.check(connection)


def test_the_previous_release_runs_on_a_newer_schema(connection: Connection) -> None:
    connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    schema.check(connection)


def test_a_lock_that_an_upgrade_waits_for_in_vain_is_told(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "_PATIENCE", "100ms")
    connection.execute(text("LOCK TABLE alembic_version"))
    with pytest.raises(Locked, match="understudy db upgrade"):
        schema.upgrade(connection.engine)
    connection.rollback()
    assert schema.upgrade(connection.engine) == schema.needed()


def test_a_server_that_is_too_old_is_told_before_anything_is_changed(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    [version] = connection.execute(text("SELECT current_setting('server_version_num')::int / 10000")).one()
    monkeypatch.setattr(schema, "OLDEST_POSTGRESQL", version + 1)
    with pytest.raises(TooOld, match=f"is PostgreSQL {version}, and Understudy needs {version + 1} or newer"):
        schema.upgrade(connection.engine)
    monkeypatch.setattr(schema, "OLDEST_POSTGRESQL", version)
    assert schema.upgrade(connection.engine) == schema.needed()


def test_upgrading_twice_changes_nothing(connection: Connection) -> None:
    assert schema.upgrade(connection.engine) == schema.needed()


def test_the_view_judges_a_login_by_the_settings_tolerance(connection: Connection) -> None:  # P3
    schema.claim_tenant(connection, "acme.eu.auth0.com")
    connection.execute(
        text(
            "INSERT INTO users (user_id, created_at, login_seen_at) "
            "VALUES ('auth0|a', '2026-11-20 12:00:08Z', '2026-11-20 12:00:00Z')"
        )
    )
    seen = text("SELECT login_seen_at IS NOT NULL, last_seen_at IS NOT NULL FROM live_users")
    assert connection.execute(seen).one() == (False, False)
    schema.keep_skew(connection, timedelta(seconds=8))
    assert connection.execute(seen).one() == (True, True)


@pytest.mark.parametrize("length", [2_800, 100_000])
def test_no_profile_is_too_long_for_an_index(connection: Connection, length: int) -> None:
    long = secrets.token_hex(length)  # so that PostgreSQL cannot compress it
    identities = [{"provider": "auth0", "user_id": user_id} for user_id in ("a", long, "b")]
    connection.execute(
        text("INSERT INTO users (user_id, email, identities) VALUES ('auth0|a', :email, :identities)"),
        {"email": f"{long}@example.com", "identities": json.dumps(identities)},
    )
    assert connection.execute(text("SELECT linked_ids FROM users")).scalar_one() == ["auth0|b"]


def test_plain_sql_joins_on_what_is_generated(connection: Connection) -> None:
    connection.execute(
        text(
            "INSERT INTO users (user_id, app_metadata, user_metadata) VALUES "
            """('auth0|a', '{"roles": ["admin", 7, "playlist_editor"], "plan": "pro"}', '{"displayName": "Ada"}'), """
            """('auth0|b', '{"roles": "admin", "plan": {"name": "pro"}}', '{"displayName": 5}'), ('auth0|c', NULL, NULL)"""
        )
    )
    rows = connection.execute(text("SELECT display_name, roles, plan FROM live_users ORDER BY user_id")).all()
    assert [tuple(row) for row in rows] == [
        ("Ada", ["admin", "playlist_editor"], "pro"),
        (None, None, None),
        (None, None, None),
    ]
