"""What was pushed: written before each PATCH, so that no crash hides one from those who count (P18, P19) or know it again (P20)."""

from collections.abc import Collection, Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import Connection, text

_INTEND = text("""
INSERT INTO pushed (user_id, correlation_id, gained, lost, allowed)
VALUES (:user_id, :correlation_id, :gained, :lost, :allowed)
""")


def intend(
    connection: Connection,
    user_id: str,
    correlation_id: UUID,
    *,
    gained: Sequence[str],
    lost: Sequence[str],
    allowed: bool,
) -> None:
    """Note a PATCH that is about to be sent; `allowed`: a human has let its losses pass."""
    connection.execute(
        _INTEND,
        {
            "user_id": user_id,
            "correlation_id": correlation_id,
            "gained": list(gained),
            "lost": list(lost),
            "allowed": allowed,
        },
    )


def answered(connection: Connection, correlation_id: UUID, *, applied: bool) -> None:
    """Note that Auth0 took it, and whether its answer was applied with the version unmoved (P20)."""
    connection.execute(
        text("UPDATE pushed SET applied = :applied WHERE correlation_id = :correlation_id"),
        {"applied": applied, "correlation_id": correlation_id},
    )


def withdraw(connection: Connection, correlation_id: UUID) -> None:
    """Forget a PATCH that Auth0 has certainly not carried out."""
    connection.execute(
        text("DELETE FROM pushed WHERE correlation_id = :correlation_id"), {"correlation_id": correlation_id}
    )


_ECHOES = text("""
SELECT correlation_id FROM pushed
JOIN unnest(CAST(:ids AS uuid[]), CAST(:users AS text[])) AS heard (correlation_id, user_id) USING (correlation_id, user_id)
WHERE applied
""")


def echoes(connection: Connection, heard: Collection[tuple[UUID, str]]) -> set[UUID]:
    """Return which of these, (correlation id, user id), say nothing that the copy does not hold (P20)."""
    if not heard:
        return set()
    asked = {"ids": [one for one, _ in heard], "users": [user_id for _, user_id in heard]}
    return set(connection.execute(_ECHOES, asked).scalars())


_LOST_TODAY = text("""
SELECT count(DISTINCT user_id) FROM pushed
WHERE pushed_at > now() - interval '1 day' AND cardinality(lost) > 0 AND NOT allowed
""")
_LIVE = text("SELECT count(*) FROM users WHERE deleted_at IS NULL AND synced_at IS NOT NULL")
_BRAKE_LOCK = 0x726F6C65  # "role"


def removals_left(connection: Connection, *, share: float, least: int) -> int:
    """Return how many more users may lose a role today (P19), holding other pushers off until the transaction ends."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _BRAKE_LOCK})
    lost = int(connection.execute(_LOST_TODAY).scalar_one())
    if lost < least:
        return least - lost
    return int(connection.execute(_LIVE).scalar_one() * share) - lost


def position(connection: Connection) -> int:
    """Return how many pushes this database has ever written down: a number that only a restored backup makes smaller."""
    found = connection.execute(text("SELECT pg_sequence_last_value(pg_get_serial_sequence('pushed', 'id')::regclass)"))
    return int(found.scalar() or 0)


def clean(connection: Connection, retention: timedelta) -> int:
    """Delete what is older than `retention` and than the day that counts; return how many went."""
    kept = max(retention, timedelta(days=1))
    return connection.execute(text("DELETE FROM pushed WHERE pushed_at < now() - :kept"), {"kept": kept}).rowcount
