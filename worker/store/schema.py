"""Brings the schema up to date, says whether it is new enough for this code, and which tenant the database copies."""

from datetime import timedelta
from importlib import resources

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg.errors import LockNotAvailable
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from worker.errors import Locked, SchemaBehind, TooOld, WrongTenant

# Two releases may migrate at once (deploys overlap): the second waits for the first.
_MIGRATION_LOCK = 0x756E6465  # "unde"
# For any lock. A migration that waits for a table makes everybody else's queries of it wait behind itself.
_PATIENCE = "20s"
# Since then a function's body may be written in standard SQL, as those of migration 0005 are.
OLDEST_POSTGRESQL = 14


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(resources.files("worker") / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def upgrade(engine: Engine) -> str | None:
    """Apply all migrations; return the revision the database now has. Raises Locked, TooOld."""
    with engine.connect() as connection:
        check_server(connection)
        try:
            connection.execute(text(f"SET lock_timeout = '{_PATIENCE}'"))
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _MIGRATION_LOCK})
            connection.commit()
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            return revision(connection)
        except OperationalError as error:
            if isinstance(error.orig, LockNotAvailable):
                raise Locked(
                    "a table, or the migrations themselves, are locked by somebody else (a long query, a backup, another "
                    "release): run `understudy db upgrade` again when that is over"
                ) from None
            raise
        finally:
            connection.invalidate()  # ends the session, and with it its lock and its setting


def check_server(connection: Connection) -> None:
    """Raise TooOld unless the server is new enough for the migrations."""
    version = connection.execute(text("SELECT current_setting('server_version_num')::int / 10000")).scalar_one()
    if version < OLDEST_POSTGRESQL:
        raise TooOld(
            f"the server at DATABASE_URL is PostgreSQL {version}, and Understudy needs {OLDEST_POSTGRESQL} or newer"
        )


def revision(connection: Connection) -> str | None:
    """Return the revision the database has, None for an empty database."""
    return MigrationContext.configure(connection).get_current_revision()


def needed() -> str:
    """Return the newest revision this code ships."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def check(connection: Connection) -> None:
    """Raise SchemaBehind unless the schema is at least what this code needs; a newer one is fine (expand, then contract)."""
    found = revision(connection)
    if found is None or found < needed():
        raise SchemaBehind(
            f"the database is at revision {found or 'none'}, this release needs {needed()}: run `understudy db upgrade`"
        )


def claim_tenant(connection: Connection, domain: str) -> None:
    """Remember `domain` as what this database is a copy of; raise WrongTenant if it is a copy of another one.

    A staging database on production credentials would otherwise see a 404 for everyone.
    """
    kept = connection.execute(text("SELECT domain FROM tenant")).scalar()
    if kept is None:
        connection.execute(
            text("INSERT INTO tenant (domain) VALUES (:domain) ON CONFLICT DO NOTHING"), {"domain": domain}
        )
        kept = connection.execute(text("SELECT domain FROM tenant")).scalar()
        connection.commit()
    if kept != domain:
        raise wrong_tenant(str(kept), domain)


def wrong_tenant(kept: str, domain: str) -> WrongTenant:
    """Return the error for a copy of `kept` that is asked to be one of `domain`."""
    return WrongTenant(
        f"this database is a copy of {kept}, but AUTH0_DOMAIN is {domain}: point one of them at the other, or use an empty database"
    )


def keep_skew(connection: Connection, skew: timedelta) -> None:
    """Let the view `live_users` judge login times by the same tolerance as the rules do (P3)."""
    connection.execute(text("UPDATE tenant SET log_date_skew = :skew WHERE log_date_skew <> :skew"), {"skew": skew})
    connection.commit()
