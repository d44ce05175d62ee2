"""The least a database can do: COPY already decoded rows into a temporary table, upsert them into `users` and `news`, commit per batch.

A process of its own: `python -m bench.bare ROWS COMMIT ANSWER`: a file with lines of `user_id TAB date`; "on" to wait for the disk at each
commit or "off", as drain does; a file where the seconds it took go.
"""

import os
import sys
import time
from datetime import datetime
from pathlib import Path

import psycopg

# As many rows as a batch of the drain's.
BATCH = 5_000

_UPSERT_USERS = """
INSERT INTO users (user_id) SELECT user_id FROM batch ORDER BY user_id COLLATE "C" ON CONFLICT DO NOTHING
"""
_UPSERT_NEWS = """
INSERT INTO news AS held (user_id, newest, login_seen_at)
SELECT user_id, seen_at, seen_at FROM batch ORDER BY user_id COLLATE "C"
ON CONFLICT (user_id) DO UPDATE SET
  number = nextval('news_number'), last_at = now(),
  newest = greatest(held.newest, excluded.newest), login_seen_at = greatest(held.login_seen_at, excluded.login_seen_at)
"""


def _load(path: str) -> list[tuple[str, datetime]]:
    lines = (line.split("\t") for line in Path(path).read_text().splitlines())
    return [(user_id, datetime.fromisoformat(date)) for user_id, date in lines]


def main() -> None:
    """Write the file's rows and say how many seconds it took, reading the file not counted."""
    rows = _load(sys.argv[1])
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        connection.execute("SELECT set_config('synchronous_commit', %s, false)", [sys.argv[2]])
        connection.execute('CREATE TEMPORARY TABLE batch (user_id text COLLATE "C", seen_at timestamptz)')
        begun = time.perf_counter()
        for start in range(0, len(rows), BATCH):
            with connection.transaction():
                _write(connection, rows[start : start + BATCH])
        Path(sys.argv[3]).write_text(str(time.perf_counter() - begun))


def _write(connection: psycopg.Connection, rows: list[tuple[str, datetime]]) -> None:
    cursor = connection.cursor()
    with cursor.copy("COPY batch FROM STDIN (FORMAT binary)") as copy:
        copy.set_types(["text", "timestamptz"])
        for row in rows:
            copy.write_row(row)
    cursor.execute(_UPSERT_USERS)
    cursor.execute(_UPSERT_NEWS)
    cursor.execute("TRUNCATE batch")


if __name__ == "__main__":
    main()
