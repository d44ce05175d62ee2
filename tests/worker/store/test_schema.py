"""The schema: what the migrations make is what the models say, and a database remembers its tenant."""

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, create_engine, text

from worker.errors import SchemaBehind, WrongTenant
from worker.store import schema
from worker.store.music import plays

metadata = plays.metadata


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


def test_upgrading_twice_changes_nothing(connection: Connection) -> None:
    assert schema.upgrade(connection.engine) == schema.needed()


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
