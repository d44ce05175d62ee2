"""Sessions of the page that are over."""

from sqlalchemy import Connection, text

_CLEAN = text("""
DELETE FROM sessions WHERE session_hash IN (
  SELECT session_hash FROM sessions WHERE expires_at <= now() LIMIT :rows FOR UPDATE SKIP LOCKED
)
""")


def clean(connection: Connection, *, rows: int = 2000) -> int:
    """Delete expired sessions, at most `rows`; return how many went."""
    return connection.execute(_CLEAN, {"rows": rows}).rowcount
