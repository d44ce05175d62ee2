"""One user's turn at the tenant: read strongly, compare, write down what will be sent, PATCH, settle (P16 to P18)."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from worker.auth0.client import Rejected, Tenant
from worker.domain.pushes import PROFILE_CAP, echo_name, not_shown, size_with
from worker.domain.users import Profile, on_strong
from worker.errors import BadRecord, Permanent, Refused, Throttled, WrongSetting
from worker.logs import fingerprint, get_logger
from worker.store import notes, pushed, pushes, users, wishes
from worker.store.people import Person, people
from worker.store.pushes import Mark
from worker.store.users import Claim, UserNews
from worker.sync import answers
from worker.sync.brake import hold_back
from worker.sync.plans import Plan, Planner

# A PATCH may rest on a read whose answer is at most this old, in seconds.
FRESH: Final = 2.0
# A user whose own read fails is tried again later and later.
RETRY_BASE, RETRY_CAP = timedelta(seconds=5), timedelta(hours=1)

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Sending:
    """A PATCH about to be sent: written down, its lease renewed. `more`: other parts are to follow it.

    `size` is what the profile will have, in bytes.
    """

    mark: Mark
    person: Person
    plan: Plan
    more: bool
    size: int
    correlation_id: UUID


@dataclass(frozen=True, slots=True)
class Turns:
    """Takes one marked user's turn after the other. `now` counts seconds, from anywhere."""

    engine: Engine
    tenant: Tenant
    planner: Planner
    fingerprint_key: bytes
    now: Callable[[], float] = time.monotonic

    @property
    def lease(self) -> timedelta:
        """Longer than a request may take: a lease is renewed before each."""
        return timedelta(seconds=self.tenant.longest_call + FRESH + 5)

    def take(self, mark: Mark, totals: dict[str, int]) -> bool:
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
        if profile is None or not stood:
            # Gone, its mark with it, or stopped by the brake; or overtaken by another answer.
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
            if not pushes.hold(connection, mark, self.lease):
                return None
            return people(connection, [mark.user_id]).get(mark.user_id)

    def _apply(self, person: Person, profile: Profile | None) -> bool:
        """Apply a strong answer (P9); return whether it stood. BadRecord for one that PostgreSQL cannot hold."""
        claim = Claim(person.user_id, person.read, attempts=0)
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
            if not pushes.hold(connection, mark, self.lease):
                return None
            person = people(connection, [mark.user_id]).get(mark.user_id)
            if person is None or person.read.version != begun.read.version + 1:
                pushes.keep(connection, mark)
                return None
            plan = self.planner.plan(mark, person, profile, _updated_at(profile))
            plan = hold_back(connection, mark, self.planner.bounded(mark, person, plan))
            wishes.fulfil(connection, mark.user_id, plan.send.shown)
            if not plan.send.values:
                close(connection, mark, plan)
                return None
            parts = list(plan.send.values)
            if mark.attempts and len(parts) > 1:  # together they were rejected: each is tried alone (P18)
                plan = replace(plan, send=plan.send.only(parts[:1]))
            more, size = len(parts) > len(plan.send.values), size_with(profile, plan.send.body())
            sending = _Sending(mark, person, plan, more, size, uuid4())
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
            say_refused(self.engine, "writing_refused", error)
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
            for condition in ("writing_refused", "auth0_refused"):
                notes.end_condition(connection, condition)
            mark.removal_allowed = mark.removal_allowed and not sending.plan.loses
            if sending.more or not stood:
                mark.parked = dict(plan.waiting)
                pushes.keep(connection, mark)
            else:
                close(connection, mark, plan)

    def _rejected(self, sending: _Sending, error: Rejected) -> None:
        """Park what Auth0 rejects for this user (P18); several parts are tried alone first."""
        mark, plan = sending.mark, sending.plan
        parts = list(plan.send.values)
        log.warning("a push is rejected", user=self._name(mark.user_id), parts=parts, reason=str(error))
        mark.attempts += 1
        if len(parts) == 1:
            plan = plan.also_waiting(plan.parked({parts[0]: _reason(sending, error)}))
        with self.engine.begin() as connection:
            pushed.withdraw(connection, sending.correlation_id)
            if len(parts) > 1 or sending.more:
                mark.parked = dict(plan.waiting)
                pushes.keep(connection, mark)
            else:
                close(connection, mark, plan)

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


def _reason(sending: _Sending, error: Rejected) -> str:
    if sending.size <= PROFILE_CAP:
        return str(error)
    return f"{error}; the profile would have {sending.size:,} bytes, and Auth0's cap is {PROFILE_CAP:,}"


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


def close(connection: Connection, mark: Mark, plan: Plan) -> None:
    """End a turn after which nothing is to be sent: the mark goes, or waits for a change or a human."""
    mark.parked, mark.braked, mark.attempts = dict(plan.waiting), plan.held_back, 0
    if plan.waits:
        pushes.keep(connection, mark, waits=True)
    elif not pushes.done(connection, mark):
        pushes.keep(connection, mark)


def say_refused(engine: Engine, condition: str, error: Refused) -> None:
    """Note that Auth0 refuses us, with the name of the scope where that is what is missing."""
    missing = f"scope {error.scope} is missing" if error.scope else "the credentials are refused"
    log.error("auth0 refuses", reason=str(error), scope=error.scope)
    with engine.begin() as connection:
        notes.raise_condition(connection, condition, f"{missing}: {error}")


def _updated_at(profile: Profile) -> str | None:
    found: Any = profile.get("updated_at")
    return found if isinstance(found, str) else None
