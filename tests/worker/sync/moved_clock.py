"""A database whose clock stands still until a test moves it: leases run out, news settles and days pass when it says so.

The product asks PostgreSQL for the time, always as now() or clock_timestamp(). Here both are found in a schema that
comes before PostgreSQL's own, and give each transaction a moment of its own, a microsecond after the one before.
"""

from datetime import datetime

from sqlalchemy import Connection, Engine, create_engine, text

_FUNCTIONS = """
CREATE SCHEMA clock;
CREATE TABLE clock.time (at timestamptz NOT NULL, first_transaction bigint NOT NULL);
INSERT INTO clock.time VALUES ('epoch', 0);
CREATE FUNCTION clock.now() RETURNS timestamptz STABLE LANGUAGE sql AS $$
  SELECT at + (pg_current_xact_id()::text::bigint - first_transaction) * interval '1 microsecond' FROM clock.time
$$;
CREATE FUNCTION clock.clock_timestamp() RETURNS timestamptz STABLE LANGUAGE sql AS 'SELECT clock.now()';
DO $$
DECLARE found record;
BEGIN
  FOR found IN
    SELECT adrelid::regclass AS place, attname AS name FROM pg_attrdef
    JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum
    WHERE pg_get_expr(adbin, adrelid) IN ('now()', 'clock_timestamp()')
  LOOP
    EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT clock.now()', found.place, found.name);
  END LOOP;
END
$$;
"""
_SET = text("UPDATE clock.time SET at = :at")
_BEGIN = text("UPDATE clock.time SET at = :at, first_transaction = pg_current_xact_id()::text::bigint")


def moved_clock_engine(database_url: str, connections: int) -> Engine:
    """Give a migrated database a clock of its own, and return an engine that goes by it."""
    url = database_url.replace("postgresql:", "postgresql+psycopg:")
    plain = create_engine(url)
    with plain.begin() as connection:
        connection.execute(text(_FUNCTIONS))
    plain.dispose()
    options = "-c search_path=clock,public,pg_catalog -c timezone=UTC -c synchronous_commit=off"
    return create_engine(url, pool_size=connections, max_overflow=0, connect_args={"options": options})


def begin(connection: Connection, at: datetime) -> None:
    """Begin a history at this moment."""
    connection.execute(_BEGIN, {"at": at})


def move(connection: Connection, at: datetime) -> None:
    """Let it be this moment."""
    connection.execute(_SET, {"at": at})
