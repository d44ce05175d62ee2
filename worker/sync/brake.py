"""The brake on losses of roles (P19): beyond a day's share, and after a restore, they wait for a human."""

from sqlalchemy import Connection

from worker.queue import Witness
from worker.store import notes, pushed
from worker.store.pushes import Mark
from worker.sync.plans import Plan

# Users who lose a role in a day stop beyond this share of all, but never below this number.
SHARE, LEAST = 0.01, 10

RESTORED = "database_restored"
_RESTORED = (
    "this database has pushed more than it knows of, so it was restored from a backup or is a new one: no role is taken "
    "away until `understudy brake --trust` says that its counts are right"
)
BRAKED = "removals_braked"
_BRAKED = "more users are to lose a role than a day allows: look with `understudy brake`, then let them be compared again or lose it"


def look_back(connection: Connection, witness: Witness) -> None:
    """Notice a database that was restored: roles earned since its backup look unearned to it."""
    if witness.fell_behind(pushed.position(connection)):
        notes.raise_condition(connection, RESTORED, _RESTORED)


def hold_back(connection: Connection, mark: Mark, plan: Plan) -> Plan:
    """Return the plan without its loss of a role, where that must wait; what is harmless beside it goes."""
    if not plan.loses or mark.removal_allowed:
        return plan
    if notes.condition_is_on(connection, RESTORED):
        return plan.without_losses()
    if pushed.removals_left(connection, share=SHARE, least=LEAST) > 0:
        return plan
    notes.count(connection, {"removals_braked": 1})
    notes.raise_condition(connection, BRAKED, _BRAKED)
    return plan.without_losses()
