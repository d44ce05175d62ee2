"""How far a walk through something large has come, kept for the next process that goes on with it."""

from sqlalchemy import Connection, text

_MOVE = text("""
INSERT INTO cursors (name, position) VALUES (:name, :position)
ON CONFLICT (name) DO UPDATE SET position = excluded.position, since = CASE WHEN :begins THEN now() ELSE cursors.since END
""")


def position(connection: Connection, name: str) -> str:
    """Return how far this walk has come, "" for its beginning."""
    found: str | None = connection.execute(
        text("SELECT position FROM cursors WHERE name = :name"), {"name": name}
    ).scalar()
    return found or ""


def move(connection: Connection, name: str, position: str | None) -> None:
    """Note how far it is now; None: at the end, so that a new round begins."""
    connection.execute(_MOVE, {"name": name, "position": position or "", "begins": position is None})
