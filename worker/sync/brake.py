"""The brake on losses of roles (P19): beyond a day's share, and after a restore, they wait for a human."""

from sqlalchemy import Connection

from worker.logs import get_logger
from worker.queue import Witness
from worker.store import notes, places, pushed
from worker.store.pushes import Mark
from worker.sync.plans import Plan

# Users who lose a role in a day stop beyond this share of all, but never below this number.
SHARE, LEAST = 0.01, 10

RESTORED = "database_restored"
_RESTORED = (
    "this database was restored from a backup, or moved: users are compared with the tenant by themselves, but what was "
    "played and wished for since the backup is not known here, so no role is taken away until `understudy brake --trust` "
    "says that its counts are right"
)
_COMPARE = {
    "restored": "this database was restored from a backup, or moved",
    "failed over": "another server has taken over from PostgreSQL's, and may lack the last moments",
}
log = get_logger(__name__)

BRAKED = "removals_braked"
_BRAKED = "more users are to lose a role than a day allows: look with `understudy brake`, then let them be compared again or lose it"


def look_back(connection: Connection, witness: Witness) -> None:
    """Notice a database that was restored: its users are as old as its backup, and roles earned since look unearned to it."""
    move = places.moved(connection)
    if witness.fell_behind(pushed.position(connection)):
        move = "restored"
    if move == "restored":
        notes.raise_condition(connection, RESTORED, _RESTORED)
    if move is not None:
        log.warning("the database has lost time", how=move)
        notes.raise_condition(connection, "reconcile_wanted", _COMPARE[move])


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
