"""Push: what was earned or wished here goes to Auth0. Leases marks, reads strongly, PATCHes only what differs (P15 to P20)."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from worker.auth0.client import Rejected, Tenant
from worker.auth0.pace import Budget, Priority
from worker.domain.pushes import echo_name, not_shown, rest
from worker.domain.users import Profile, on_strong
from worker.errors import BadRecord, Permanent, Refused, TenantDown, Throttled, Transient, WrongSetting
from worker.logs import fingerprint, get_logger
from worker.queue import Witness
from worker.store import notes, pushed, pushes, users, wishes
from worker.store.people import Person, people
from worker.store.pushes import Mark
from worker.store.users import Claim, UserNews
from worker.sync import answers
from worker.sync.plans import Plan, Planner

# P16: a PATCH may rest on a read whose answer is at most this old, in seconds.
FRESH: Final = 2.0
# P19: users who lose a role in a day stop beyond this share of all, but never below this number.
BRAKE_SHARE, BRAKE_LEAST = 0.01, 10

# Marks looked at under one lock; most of them are hints that come to nothing.
LOOK_AT = 100
# At most so many are leased at once; each renews its lease when its turn comes.
LEASED_AT_ONCE = 10
RETRY_BASE, RETRY_CAP = timedelta(seconds=5), timedelta(hours=1)
# Beat rings anyway after so long.
NEXT_RING = timedelta(seconds=5)

RESTORED = "database_restored"
RESTORED_SENTENCE = (
    "this database has pushed more than it knows of, so it was restored from a backup or is a new one: no role is taken "
    "away until `understudy brake --trust` says that its counts are right"
)

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Sending:
    """A PATCH about to be sent: written down, its lease renewed. `more`: other parts are to follow it."""

    mark: Mark
    person: Person
    plan: Plan
    more: bool
    correlation_id: UUID


@dataclass(slots=True)
class Push:
    """The loop, over what it needs. `run` never sleeps: it says when to ring again. `now` counts seconds, from anywhere."""

    engine: Engine
    tenant: Tenant
    budget: Budget
    planner: Planner
    witness: Witness
    fingerprint_key: bytes
    now: Callable[[], float] = time.monotonic

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
            self._say_refused("auth0_refused", error)
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
        """Notice a database that was restored: roles earned since its backup look unearned to it (P19)."""
        with self.engine.begin() as connection:
            if self.witness.fell_behind(pushed.position(connection)):
                notes.raise_condition(connection, RESTORED, RESTORED_SENTENCE)

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
                if not self._turn(mark, totals):
                    self.budget.give_back("write_users", priority, 1)
            except (Transient, Refused, WrongSetting):
                self._give_back(left)
                raise
        if looked_at:
            return 0
        with self.engine.connect() as connection:
            return pushes.next_due(connection, NEXT_RING)

    def _claim(self) -> tuple[list[Mark], int]:
        """Look at what is due: drop the hints that come to nothing, lease what must be asked of Auth0."""
        leased: list[Mark] = []
        with self.engine.begin() as connection:
            marks = pushes.lock_due(connection, rows=LOOK_AT)
            known = people(connection, [mark.user_id for mark in marks])
            for mark in marks:
                if len(leased) < LEASED_AT_ONCE and self._needs_a_turn(connection, mark, known.get(mark.user_id)):
                    leased.append(mark)
            pushes.lease(connection, leased, self._lease)
        return leased, len(marks)

    def _needs_a_turn(self, connection: Connection, mark: Mark, person: Person | None) -> bool:
        """Tell whether a locked mark needs a turn now; if not, write back what it needs instead."""
        if (
            person is None or not person.alive
        ):  # only a row that holds a snapshot is pushed; its first one marks it again
            pushes.done(connection, mark)
            return False
        if person.braked:  # nobody knows whether there is such a user
            pushes.keep(connection, mark, waits=True)
            return False
        plan = self.planner.plan(mark, person, person.metadata, person.updated_at)
        if not plan.send.values and not plan.send.shown:
            _close(connection, mark, plan)
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

    # One user's turn (P16)

    def _turn(self, mark: Mark, totals: dict[str, int]) -> bool:
        """Read, compare, PATCH; return whether a PATCH was sent. The tokens for both are taken."""
        begun = self._begin(mark)
        if begun is None:
            return False
        try:
            profile = self.tenant.read_user(mark.user_id)
            answered_at = self.now()
            totals["read"] += 1
            stood = self._apply(begun, profile)
        except (Refused, WrongSetting):
            raise
        except Permanent as error:
            self._put_off(mark, error)
            return False
        if (
            profile is None or not stood
        ):  # gone, its mark with it, or stopped by the brake; or overtaken by another answer
            self._keep(mark, rest=RETRY_BASE if profile is None else None)
            return False
        sending = self._prepare(mark, begun, profile)
        if sending is None:
            return False
        if self.now() - answered_at > FRESH:
            self._take_back(sending)
            return False
        self._send(sending, totals)
        return True

    def _begin(self, mark: Mark) -> Person | None:
        """Return what is true when the read begins; None where the lease is ours no more, or nobody is there."""
        with self.engine.begin() as connection:
            if not pushes.hold(connection, mark, self._lease):
                return None
            return people(connection, [mark.user_id]).get(mark.user_id)

    def _apply(self, person: Person, profile: Profile | None) -> bool:
        """Apply a strong answer (P9); return whether it stood. BadRecord for one that PostgreSQL cannot hold."""
        claim = Claim(person.user_id, person.read, person.read.began_at, strong=True, attempts=0)
        try:
            applied = answers.apply(self.engine, [(claim, profile)], on_strong, settle=None)
        except (DBAPIError, UnicodeError) as error:
            if not answers.refuses_a_value(error):
                raise
            raise BadRecord("PostgreSQL cannot hold a value of this profile") from None
        return person.user_id in applied.stood

    def _prepare(self, mark: Mark, begun: Person, profile: Profile) -> _Sending | None:
        """Decide what to send, and write it down; None where nothing is to be sent, or not now."""
        with self.engine.begin() as connection:
            wishes.lock(connection, mark.user_id)
            if not pushes.hold(connection, mark, self._lease):
                return None
            person = people(connection, [mark.user_id]).get(mark.user_id)
            if person is None or person.read.version != begun.read.version + 1:
                pushes.keep(connection, mark)
                return None
            plan = self.planner.plan(mark, person, profile, _updated_at(profile))
            plan = _brake(connection, mark, self.planner.bounded(mark, person, plan))
            wishes.fulfil(connection, mark.user_id, plan.send.shown)
            if not plan.send.values:
                _close(connection, mark, plan)
                return None
            parts = list(plan.send.values)
            if mark.attempts and len(parts) > 1:  # together they were rejected: each is tried alone (P18)
                plan = replace(plan, send=plan.send.only(parts[:1]))
            sending = _Sending(mark, person, plan, len(parts) > len(plan.send.values), uuid4())
            _intend(connection, sending)
            return sending

    def _send(self, sending: _Sending, totals: dict[str, int]) -> None:
        user_id, send = sending.mark.user_id, sending.plan.send
        try:
            answer = self.tenant.patch_user(user_id, send.body(), echo_name(sending.correlation_id))
            totals["pushed"] += 1
            if answer is None:
                self._gone(sending)
                return
            self._settle(sending, answer, stood=self._apply(sending.person, answer))
        except Rejected as error:
            totals["rejected"] += 1
            self._rejected(sending, error)
        except BadRecord as error:  # it was taken, and what came back is not to be used
            log.warning("an odd answer to a push", user=self._name(user_id), reason=str(error))
            self._settle(sending, {}, stood=False)
        except Refused as error:
            self._take_back(sending)
            self._say_refused("writing_refused", error)
            raise Throttled("writing is refused") from None
        except (Throttled, WrongSetting):
            self._take_back(sending)
            raise
        # TenantDown: nobody knows whether it was carried out, so it stays written down.

    def _settle(self, sending: _Sending, answer: Profile, *, stood: bool) -> None:
        """Write down that Auth0 took it; what the answer does not show as it was sent is parked."""
        mark, plan, person = sending.mark, sending.plan, sending.person
        plan = replace(plan, updated_at=_updated_at(answer) or plan.updated_at)
        missing = dict.fromkeys(not_shown(answer, plan.send.values), "Auth0's answer does not show what was sent")
        plan = plan.also_waiting(plan.parked(missing))
        with self.engine.begin() as connection:
            fulfilled = {name: wish.number for name, wish in person.wishes.items() if name in sending.plan.send.values}
            wishes.fulfil(connection, mark.user_id, fulfilled)
            pushed.answered(connection, sending.correlation_id, applied=stood)
            notes.count(connection, {"pushes": 1})
            notes.end_condition(connection, "writing_refused")
            mark.removal_allowed = mark.removal_allowed and not sending.plan.loses
            if sending.more or not stood:
                mark.parked = dict(plan.waiting)
                pushes.keep(connection, mark)
            else:
                _close(connection, mark, plan)

    def _rejected(self, sending: _Sending, error: Rejected) -> None:
        """Park what Auth0 rejects for this user (P18); several parts are tried alone first."""
        mark, plan = sending.mark, sending.plan
        parts = list(plan.send.values)
        log.warning("a push is rejected", user=self._name(mark.user_id), parts=parts, reason=str(error))
        mark.attempts += 1
        if len(parts) == 1:
            plan = plan.also_waiting(plan.parked({parts[0]: str(error)}))
        with self.engine.begin() as connection:
            pushed.withdraw(connection, sending.correlation_id)
            if len(parts) > 1 or sending.more:
                mark.parked = dict(plan.waiting)
                pushes.keep(connection, mark)
            else:
                _close(connection, mark, plan)

    def _gone(self, sending: _Sending) -> None:
        """Auth0 knows nobody of this id any more, which is news (P18)."""
        with self.engine.begin() as connection:
            users.mark(connection, [UserNews(sending.mark.user_id, strong=True)])
            pushes.keep(connection, sending.mark, rest=RETRY_BASE)
            pushed.withdraw(connection, sending.correlation_id)

    def _take_back(self, sending: _Sending) -> None:
        """Nothing was sent: it begins again."""
        with self.engine.begin() as connection:
            pushes.keep(connection, sending.mark)
            pushed.withdraw(connection, sending.correlation_id)

    # Marks given back

    @property
    def _lease(self) -> timedelta:
        """Longer than a request may take: a lease is renewed before each (P16)."""
        return timedelta(seconds=self.tenant.longest_call + FRESH + 5)

    def _give_back(self, marks: Sequence[Mark]) -> None:
        with self.engine.begin() as connection:
            for mark in sorted(marks, key=lambda one: one.user_id.encode()):
                pushes.keep(connection, mark)

    def _keep(self, mark: Mark, rest: timedelta | None) -> None:
        with self.engine.begin() as connection:
            pushes.keep(connection, mark, rest=rest)

    def _put_off(self, mark: Mark, error: Permanent) -> None:
        log.warning("a user cannot be pushed", user=self._name(mark.user_id), reason=str(error))
        delay = min(RETRY_BASE * 2 ** min(mark.attempts, 12), RETRY_CAP)
        mark.attempts += 1
        self._keep(mark, rest=delay)

    def _name(self, user_id: str) -> str:
        return fingerprint(user_id, self.fingerprint_key)

    def _say_refused(self, condition: str, error: Refused) -> None:
        missing = f"scope {error.scope} is missing" if error.scope else "the credentials are refused"
        log.error("auth0 refuses", reason=str(error), scope=error.scope)
        with self.engine.begin() as connection:
            notes.raise_condition(connection, condition, f"{missing}: {error}")


def _intend(connection: Connection, sending: _Sending) -> None:
    change = sending.plan.send.roles
    pushed.intend(
        connection,
        sending.mark.user_id,
        sending.correlation_id,
        gained=change.gained if change else (),
        lost=change.lost if change else (),
        allowed=sending.mark.removal_allowed,
    )


def _brake(connection: Connection, mark: Mark, plan: Plan) -> Plan:
    """Hold the loss of a role back where too many have lost one today (P19); what is harmless beside it goes."""
    if not plan.loses or mark.removal_allowed:
        return plan
    if notes.condition_is_on(connection, RESTORED):
        return plan.without_losses()
    if pushed.removals_left(connection, share=BRAKE_SHARE, least=BRAKE_LEAST) > 0:
        return plan
    notes.count(connection, {"removals_braked": 1})
    notes.raise_condition(
        connection,
        "removals_braked",
        "more users are to lose a role than a day allows: look with `understudy brake`, then let them be compared again or lose it",
    )
    return plan.without_losses()


def _close(connection: Connection, mark: Mark, plan: Plan) -> None:
    """End a turn after which nothing is to be sent: the mark goes, or waits for a change or a human."""
    mark.parked, mark.braked, mark.attempts = dict(plan.waiting), plan.held_back, 0
    if plan.waits:
        pushes.keep(connection, mark, waits=True)
    elif not pushes.done(connection, mark):
        pushes.keep(connection, mark)


def _updated_at(profile: Profile) -> str | None:
    found: Any = profile.get("updated_at")
    return found if isinstance(found, str) else None
