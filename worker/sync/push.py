"""Push: what was earned or wished here goes to Auth0. Leases marks, gives each user a turn, spends the budget (P15 to P20)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection

from worker.auth0.pace import Budget, Priority
from worker.domain.pushes import rest
from worker.errors import Refused, TenantDown, Throttled, Transient, WrongSetting
from worker.logs import get_logger
from worker.queue import Witness
from worker.store import pushes
from worker.store.people import Person, people
from worker.store.pushes import Mark
from worker.sync.brake import look_back
from worker.sync.turn import Turns, close, say_refused

# Marks looked at under one lock; most of them are hints that come to nothing.
LOOK_AT = 100
# At most so many are leased at once; each renews its lease when its turn comes.
LEASED_AT_ONCE = 10
# Beat rings anyway after so long.
NEXT_RING = timedelta(seconds=5)

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Push:
    """The loop, over what it needs. `run` never sleeps: it says when to ring again."""

    turns: Turns
    budget: Budget
    witness: Witness

    def run(self, *, go_on: Callable[[], bool]) -> float | None:
        """Push until nothing is due, the budget is spent, or `go_on` says stop.

        Returns after how many seconds to ring again, 0 for at once, None where beat's ring is soon enough.
        """
        totals = dict.fromkeys(("read", "pushed", "rejected"), 0)
        again: float | None = 0
        self._look_back()
        try:
            while go_on():
                again = self._round(totals, go_on)
                if again is None or again > 0:
                    break
        except Refused as error:
            say_refused(self.turns.engine, "auth0_refused", error)
            again = None
        except Throttled as error:
            again = error.retry_after
        except TenantDown as error:
            log.warning("tenant is down", reason=str(error))
            again = None
        if any(totals.values()):
            self._look_back()
            log.info("pushed", **totals)
        return again

    def _look_back(self) -> None:
        with self.turns.engine.begin() as connection:
            look_back(connection, self.witness)

    # One claim's worth

    def _round(self, totals: dict[str, int], go_on: Callable[[], bool]) -> float | None:
        paused = self.budget.look("write_users").paused
        if paused > 0:
            return paused
        leased, looked_at = self._claim()
        for place, mark in enumerate(leased):
            left = leased[place:]
            if place and not go_on():  # a slow tenant must not make a slice outlast its leases
                self._give_back(left)
                return 0
            priority: Priority = "mass" if mark.last else "push"
            try:
                grant = self.budget.take_read_and_write(priority)
                if not grant.granted:
                    self._give_back(left)
                    return max(grant.wait, 0.01)
                if not self.turns.take(mark, totals):
                    self.budget.give_back("write_users", priority, 1)
            except (Transient, Refused, WrongSetting):
                self._give_back(left)
                raise
        if looked_at:
            return 0
        with self.turns.engine.connect() as connection:
            return pushes.next_due(connection, NEXT_RING)

    def _claim(self) -> tuple[list[Mark], int]:
        """Look at what is due: drop the hints that come to nothing, lease what must be asked of Auth0."""
        leased: list[Mark] = []
        with self.turns.engine.begin() as connection:
            marks = pushes.lock_due(connection, rows=LOOK_AT)
            known = people(connection, [mark.user_id for mark in marks])
            for mark in marks:
                if len(leased) < LEASED_AT_ONCE and self._needs_a_turn(connection, mark, known.get(mark.user_id)):
                    leased.append(mark)
            pushes.lease(connection, leased, self.turns.lease)
        return leased, len(marks)

    def _needs_a_turn(self, connection: Connection, mark: Mark, person: Person | None) -> bool:
        """Tell whether a locked mark needs a turn now; if not, write back what it needs instead."""
        if person is None or not person.alive:
            # Only a row that holds a snapshot is pushed; its first one marks it again.
            pushes.done(connection, mark)
            return False
        if person.braked:  # nobody knows whether there is such a user
            pushes.keep(connection, mark, waits=True)
            return False
        plan = self.turns.planner.plan(mark, person, person.metadata, person.updated_at)
        if not plan.send.values and not plan.send.shown:
            close(connection, mark, plan)
            return False
        if plan.send.default_only and not mark.last:
            mark.last = True
            pushes.keep(connection, mark)
            return False
        resting = rest(person.pushed_in_an_hour, wished=bool(person.wishes)) - person.since_pushed
        if resting > timedelta(0) and not mark.attempts:
            pushes.keep(connection, mark, rest=resting)
            return False
        return True

    def _give_back(self, marks: Sequence[Mark]) -> None:
        with self.turns.engine.begin() as connection:
            for mark in sorted(marks, key=lambda one: one.user_id.encode()):
                pushes.keep(connection, mark)
