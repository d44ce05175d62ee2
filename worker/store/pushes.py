"""Who must be looked at for a push: marks like `news`, claimed by lease, deleted when nothing differs any more (P15, P16).

Writers lock `users`, `news`, `wishes` and `pushes` in this order, each by ascending id.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Connection, text

from worker.domain.pushes import Part

SOON = timedelta(seconds=1)
"""How long a mark waits for more of its kind: what is earned and lost again within it costs nothing."""

# An alias is its primary (P13). A mark that nobody has claimed yet, and that is due as soon, says it all already.
MARK = """
INSERT INTO pushes AS held (user_id, due_at, last)
SELECT coalesce(whose.user_id, batch.user_id) COLLATE "C", now() + %(after)s::interval, bool_and(%(last)s::boolean)
FROM unnest(%(ids)s::text[]) AS batch (user_id)
LEFT JOIN users own ON own.user_id = batch.user_id
LEFT JOIN LATERAL (
  SELECT u.user_id FROM users u
  WHERE u.linked_ids @> ARRAY[batch.user_id] AND u.deleted_at IS NULL
    AND (own.user_id IS NULL OR own.deleted_at IS NOT NULL OR own.synced_at IS NULL)
  ORDER BY u.user_id LIMIT 1
) AS whose ON true
GROUP BY 1 ORDER BY 1
ON CONFLICT (user_id) DO UPDATE SET
  number = nextval('push_number'), due_at = least(held.due_at, excluded.due_at), last = held.last AND excluded.last
WHERE held.leased_until IS NOT NULL OR held.due_at > excluded.due_at OR (held.last AND NOT excluded.last)
"""
"""Mark users by id (`ids`, a list), to be looked at `after` an interval; `last`: only for a default name."""


# One statement even where only some are wanted for nothing but a default name: rows are locked in one order.
_MARK_BOTH = MARK.replace("%(last)s::boolean", "batch.user_id = ANY(%(last)s::text[])")


def mark(connection: Connection, ids: Iterable[str], *, after: timedelta = SOON, last: Iterable[str] = ()) -> None:
    """Have these users, or the primaries they are aliases of, looked at for a push; a hint, which costs Auth0 nothing.

    `last`: others, for nothing but a default name. Call it in the transaction that changed their facts or wishes, as the last
    of its writes; ring "push" after the commit.
    """
    hurried, unhurried = set(ids), set(last)
    wanted = sorted(hurried | unhurried, key=str.encode)
    if wanted:
        connection.exec_driver_sql(_MARK_BOTH, {"ids": wanted, "after": after, "last": sorted(unhurried - hurried)})


_SUSPECT = text("""
SELECT u.user_id, known.hurried FROM users u
CROSS JOIN LATERAL (SELECT coalesce(cardinality(u.roles), 0) > 0
  OR EXISTS (SELECT FROM playlists WHERE playlists.user_id = ANY(ARRAY[u.user_id] || coalesce(u.linked_ids, '{}')))
  OR EXISTS (SELECT FROM wishes WHERE wishes.user_id = u.user_id) AS hurried
) AS known
WHERE u.user_id = ANY(:ids) AND u.deleted_at IS NULL AND (
  known.hurried OR EXISTS (SELECT FROM pushes WHERE pushes.user_id = u.user_id)
  OR (u.display_name IS NULL AND u.login_seen_at IS NOT NULL))
""")


def suspect(connection: Connection, ids: Sequence[str]) -> int:
    """Mark those of these users, whose snapshots were just written, who may need a push; return how many."""
    if not ids:
        return 0
    found = connection.execute(_SUSPECT, {"ids": list(ids)}).all()
    mark(
        connection,
        [user_id for user_id, hurried in found if hurried],
        last=[user_id for user_id, hurried in found if not hurried],
    )
    return len(found)


def drop(connection: Connection, ids: Sequence[str]) -> None:
    """Drop the marks of those whom nothing can be pushed to any more."""
    if ids:
        connection.execute(
            text(
                "DELETE FROM pushes WHERE user_id IN "
                "(SELECT user_id FROM pushes WHERE user_id = ANY(:ids) ORDER BY user_id FOR UPDATE)"
            ),
            {"ids": list(ids)},
        )


@dataclass(slots=True)
class Mark:
    """A mark that somebody holds, locked or leased. `parked` is {part: {"for": what it was made of, "reason": why}}."""

    user_id: str
    number: int = 0
    last: bool = False
    attempts: int = 0
    parked: dict[Part, dict[str, str]] = field(default_factory=dict)
    braked: bool = False
    removal_allowed: bool = False
    leased_until: datetime | None = None


_MARK_COLUMNS = "user_id, number, last, attempts, parked, braked_at IS NOT NULL, removal_allowed, leased_until"

_DUE = "due_at <= now() AND (rests_until IS NULL OR rests_until <= now()) AND (leased_until IS NULL OR leased_until < now())"

_LOCK_DUE = text(f"""
SELECT {_MARK_COLUMNS} FROM pushes WHERE {_DUE} ORDER BY last, due_at LIMIT :rows FOR UPDATE SKIP LOCKED
""")  # noqa: S608 (constants)


def lock_due(connection: Connection, *, rows: int) -> list[Mark]:
    """Lock the marks that are due, default names last. What is read after it in this transaction is at least as new as they are."""
    return [Mark(*row) for row in connection.execute(_LOCK_DUE, {"rows": rows})]


def held(connection: Connection, ids: Sequence[str]) -> dict[str, Mark]:
    """Return the marks of those of these users who have one."""
    found = connection.execute(
        text(f"SELECT {_MARK_COLUMNS} FROM pushes WHERE user_id = ANY(:ids)"),  # noqa: S608 (constants)
        {"ids": list(ids)},
    )
    return {row.user_id: Mark(*row) for row in found}


_LEASE = text("""
UPDATE pushes SET leased_until = clock_timestamp() + :lease WHERE user_id = ANY(:ids) RETURNING user_id, leased_until
""")


def lease(connection: Connection, marks: Sequence[Mark], lease: timedelta) -> None:
    """Lease marks that this transaction has locked; the caller commits (P8)."""
    if marks:
        asked = {"ids": [one.user_id for one in marks], "lease": lease}
        leased = {row.user_id: row.leased_until for row in connection.execute(_LEASE, asked)}
        for one in marks:
            one.leased_until = leased[one.user_id]


_HOLD = text(f"""
UPDATE pushes SET leased_until = clock_timestamp() + :lease
WHERE user_id = :user_id AND leased_until = :ours AND leased_until > clock_timestamp()
RETURNING {_MARK_COLUMNS}
""")  # noqa: S608 (constants)


def hold(connection: Connection, mark: Mark, lease: timedelta) -> bool:
    """Renew a lease that is still ours, and lock its mark as it is now until the transaction ends; False: ours no more (P16)."""
    row = connection.execute(_HOLD, {"user_id": mark.user_id, "ours": mark.leased_until, "lease": lease}).one_or_none()
    if row is None:
        return False
    for name, value in zip(Mark.__slots__, row, strict=True):
        setattr(mark, name, value)
    return True


_DONE = text("""
DELETE FROM pushes WHERE user_id = :user_id AND number = :number AND leased_until IS NOT DISTINCT FROM :ours
""")

_KEEP = text("""
UPDATE pushes SET leased_until = NULL, attempts = :attempts, parked = CAST(:parked AS jsonb),
  last = CASE WHEN number = :number THEN :last ELSE last END,
  braked_at = CASE WHEN number <> :number THEN braked_at WHEN :braked THEN coalesce(braked_at, now()) END,
  removal_allowed = CASE WHEN number = :number THEN :removal_allowed ELSE removal_allowed END,
  due_at = CASE WHEN number = :number AND :waits THEN 'infinity'::timestamptz ELSE now() END,
  rests_until = now() + CAST(:rest AS interval)
WHERE user_id = :user_id AND leased_until IS NOT DISTINCT FROM :ours
""")


def keep(connection: Connection, mark: Mark, *, waits: bool = False, rest: timedelta | None = None) -> None:
    """Give a mark back as it is now: to be looked at again after a `rest`, or (`waits`) when something changes."""
    connection.execute(
        _KEEP,
        {
            "user_id": mark.user_id,
            "number": mark.number,
            "ours": mark.leased_until,
            "last": mark.last,
            "attempts": mark.attempts,
            "parked": json.dumps(mark.parked),
            "braked": mark.braked,
            "removal_allowed": mark.removal_allowed,
            "waits": waits,
            "rest": rest,
        },
    )


def done(connection: Connection, mark: Mark) -> bool:
    """Delete a mark that has served, if it is ours and nobody marked the user anew meanwhile; tell whether it went."""
    asked = {"user_id": mark.user_id, "number": mark.number, "ours": mark.leased_until}
    return connection.execute(_DONE, asked).rowcount > 0


_NEXT = text("""
SELECT extract(epoch FROM min(greatest(due_at, rests_until, leased_until)) - now())::float8
FROM pushes WHERE NOT last AND due_at < now() + CAST(:within AS interval)
""")


def next_due(connection: Connection, within: timedelta) -> float | None:
    """Return the seconds until the next mark is due, None where none is within that time; default names don't count."""
    seconds: float | None = connection.execute(_NEXT, {"within": within}).scalar()
    return None if seconds is None or seconds > within.total_seconds() else max(0.0, seconds)


def braked(connection: Connection) -> int:
    """Return for how many users the loss of a role waits for a human (P19)."""
    return int(connection.execute(text("SELECT count(*) FROM pushes WHERE braked_at IS NOT NULL")).scalar_one())


_RECHECK = text("""
UPDATE pushes SET number = nextval('push_number'), braked_at = NULL, due_at = now(), rests_until = NULL
WHERE user_id IN (SELECT user_id FROM pushes WHERE braked_at IS NOT NULL ORDER BY user_id FOR UPDATE)
""")
_ALLOW = text("""
UPDATE pushes SET number = nextval('push_number'), braked_at = NULL, removal_allowed = true, due_at = now(), rests_until = NULL
WHERE user_id IN (
  SELECT user_id FROM pushes
  WHERE user_id IN (SELECT user_id FROM pushes WHERE braked_at IS NOT NULL ORDER BY braked_at LIMIT :number)
  ORDER BY user_id FOR UPDATE)
""")


def recheck_removals(connection: Connection) -> int:
    """Have the braked losses of roles compared again; return how many there were."""
    return connection.execute(_RECHECK).rowcount


def allow_removals(connection: Connection, number: int) -> int:
    """Let up to `number` users lose what waits, the longest waiting first; return how many there were."""
    return connection.execute(_ALLOW, {"number": number}).rowcount
