"""Carries out what an answer means: locks rows and marks, asks the rules in worker.domain.users, writes their verdicts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DataError, DBAPIError

from worker.domain.pushes import concerns_a_push
from worker.domain.users import Mark, Profile, Read, Row, Verdict, Write, secondary_ids
from worker.store import forgotten, notes, pushes, users, wishes
from worker.store.users import Claim, Held, UserNews

# P19: deletions that no record announced stop beyond this share of the users in a day, but never below this number.
BRAKE_SHARE = 0.01
BRAKE_LEAST = 10

Rule = Callable[[Row, Mark | None, Read, Profile | None], Verdict]


@dataclass(frozen=True, slots=True)
class Applied:
    """How many of the answers changed the copy, how many marks they cleared, how many deletions were braked.

    `stood`: whose answers were applied with the version unmoved, those that changed nothing included (P9). `suspected`: how
    many users may need a push now (P15).
    """

    written: int = 0
    cleared: int = 0
    braked: int = 0
    stood: frozenset[str] = frozenset()
    suspected: int = 0


def apply(
    engine: Engine, answers: Sequence[tuple[Claim, Profile | None]], rule: Rule, *, settle: timedelta | None
) -> Applied:
    """Apply answers by `rule` in one transaction; `settle` is how long a mark that stays waits after its last news.

    Ids that a snapshot gains or loses (P7) are marked in a transaction of their own first: a crash between the two costs
    a read, and no lock is taken out of order.
    """
    marked: frozenset[str] = frozenset()
    while True:
        with engine.begin() as connection:
            held = users.lock(connection, [claim.user_id for claim, _ in answers])
            verdicts = {
                claim.user_id: rule(held[claim.user_id].row, held[claim.user_id].mark, claim.read, answer)
                for claim, answer in answers
                if claim.user_id in held
            }
            _lift(connection, verdicts, {claim.user_id: claim.read for claim, _ in answers})
            others = frozenset[str]().union(*(verdict.ask_others for verdict in verdicts.values())) - marked
            if not others:
                said = {claim.user_id: answer for claim, answer in answers}
                return _write(connection, held, verdicts, said, settle)
        gone = frozenset[str]().union(*(verdict.expected_gone for verdict in verdicts.values()))
        with engine.begin() as connection:
            users.mark(connection, [UserNews(other, strong=True, deletion_announced=other in gone) for other in others])
        marked |= others


def _lift(connection: Connection, verdicts: dict[str, Verdict], reads: Mapping[str, Read]) -> None:
    """Let those forgotten be known again whom the answers found (P14); whose hash stands all the same is asked for again."""
    back = {user_id: reads[user_id].began_at for user_id, verdict in verdicts.items() if verdict.lift}
    for user_id in back.keys() - forgotten.lift(connection, back):
        verdicts[user_id] = Verdict(ask=True)


def _write(
    connection: Connection,
    held: Mapping[str, Held],
    verdicts: Mapping[str, Verdict],
    said: Mapping[str, Profile | None],
    settle: timedelta | None,
) -> Applied:
    by_write: dict[Write, list[str]] = {write: [] for write in Write}
    for user_id, verdict in verdicts.items():
        by_write[verdict.write].append(user_id)
    braked = _brake(connection, held, by_write[Write.TOMBSTONE])
    users.write_snapshots(
        connection, [(held[user_id].row, profile) for user_id in by_write[Write.SNAPSHOT] if (profile := said[user_id])]
    )
    users.write_tombstones(
        connection,
        [
            (held[user_id].row, held[user_id].deletion_announced)
            for user_id in by_write[Write.TOMBSTONE]
            if user_id not in braked
        ],
    )
    erased = by_write[Write.ERASE]
    users.erase(connection, erased)
    users.confirm(connection, by_write[Write.CONFIRM], answered=True)
    users.confirm(
        connection, [user_id for user_id in by_write[Write.NOTHING] if verdicts[user_id].clear], answered=False
    )
    left = [user_id for user_id in verdicts if user_id not in braked and user_id not in erased]
    open_ids = [user_id for user_id in left if not verdicts[user_id].clear]
    asking = [user_id for user_id in open_ids if verdicts[user_id].ask]
    users.release(connection, [user_id for user_id in open_ids if not verdicts[user_id].ask], settle=settle)
    users.release(connection, asking)
    users.mark(connection, [UserNews(user_id, strong=True) for user_id in asking])
    served = {
        user_id: mark.number
        for user_id, verdict in verdicts.items()
        if verdict.clear and user_id not in braked and (mark := held[user_id].mark)
    }
    users.clear(connection, served)
    gone = [user_id for user_id in by_write[Write.TOMBSTONE] if user_id not in braked]
    wishes.drop(connection, gone)
    pushes.drop(connection, gone)
    snapshots = [(held[user_id].row, profile) for user_id in by_write[Write.SNAPSHOT] if (profile := said[user_id])]
    return Applied(
        written=len(snapshots) + len(gone),
        cleared=len(served),
        braked=len(braked),
        stood=frozenset(by_write[Write.SNAPSHOT] + by_write[Write.CONFIRM] + gone),
        suspected=suspect(connection, snapshots),
    )


def suspect(connection: Connection, written: Sequence[tuple[Row, Profile]]) -> int:
    """Mark for a push those whose snapshots, just written over these rows, may ask for one (P15); return how many.

    A hint: what it misses the sweep finds.
    """
    secondaries = frozenset[str]().union(*(secondary_ids(profile) for _, profile in written))
    wishes.drop(connection, sorted(secondaries))
    return pushes.suspect(
        connection, [row.user_id for row, profile in written if concerns_a_push(row.profile, profile)]
    )


def _brake(connection: Connection, held: Mapping[str, Held], tombstones: Sequence[str]) -> frozenset[str]:
    """Return those whose deletion must wait for a human (P19): live users of whose deletion nobody told, beyond a day's share."""
    unannounced = [one for one in tombstones if held[one].has_snapshot and not held[one].deletion_announced]
    if not unannounced:
        return frozenset()
    left = max(0, users.deletions_left(connection, share=BRAKE_SHARE, least=BRAKE_LEAST))
    braked = unannounced[left:]
    if braked:
        users.brake(connection, braked)
        notes.count(connection, {"deletions_braked": len(braked)})
        notes.raise_condition(
            connection,
            "deletions_braked",
            "the tenant says that users are gone whose deletion no record announced, more than a day allows: "
            "look with `understudy brake`, then let them be asked again or go",
        )
    return frozenset(braked)


def refuses_a_value(error: DBAPIError | UnicodeError) -> bool:
    """Whether PostgreSQL will never take this value: it is no text or number there, or beyond a limit (class 54: an index's, the stack's)."""
    state = getattr(error.orig, "sqlstate", None) if isinstance(error, DBAPIError) else None
    return isinstance(error, DataError | UnicodeError) or (state or "").startswith("54")
