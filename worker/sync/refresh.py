"""Refresh: the tenant says what is true. Leases marks, reads their users strongly or by the page, applies the answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from worker.auth0.client import Tenant
from worker.auth0.pace import Budget, Priority
from worker.auth0.search import PER_PAGE
from worker.domain.users import Profile, Tolerances, on_search, on_strong
from worker.errors import BadRecord, Error, Permanent, Refused, TenantDown, Throttled, Transient, WrongSetting
from worker.logs import fingerprint, get_logger
from worker.store import notes, users
from worker.store.users import Claim
from worker.sync import answers

GROUP: Final = "read_users"
# A killed reader's users wait so long; a holder that comes back later still finds the row's version moved (P9).
LEASE = timedelta(seconds=60)
# At most so many strong reads under one lease: each takes a round trip, and the lease must outlast them all.
STRONG_AT_ONCE = 20
# Under pressure a page waits this long to fill before it is sent with fewer ids.
PAGE_LINGER = 2.0
# A user whose own read fails (a 400 for this id) is tried again later and later.
RETRY_BASE, RETRY_CAP = timedelta(seconds=5), timedelta(hours=1)

log = get_logger(__name__)


@dataclass(slots=True)
class Refresh:
    """The loop, over what it needs. `run` never sleeps: it says when to ring again."""

    engine: Engine
    tenant: Tenant
    budget: Budget
    tolerances: Tolerances
    fingerprint_key: bytes
    suspected: int = 0
    """How many users may need a push by what was read so far: a reason to ring for it."""

    def run(self, *, go_on: Callable[[], bool]) -> float | None:
        """Read until nothing is due, the budget is spent, or `go_on` says stop.

        Returns after how many seconds to ring again, 0 for at once, None where nothing waits that a bell would help.
        """
        totals = {"strong": 0, "pages": 0, "written": 0, "cleared": 0, "braked": 0}
        again: float | None = 0
        answered = False
        try:
            while go_on():
                again = self._round(totals, go_on)
                answered = answered or bool(totals["strong"] or totals["pages"])
                if again is None or again > 0:
                    break
        except Refused as error:
            self._say_refused(error)
            again = None
        except Throttled as error:
            again = error.retry_after
        except TenantDown as error:
            log.warning("tenant is down", reason=str(error))
            again = None
        if answered:
            self._end_refused()
            log.info("refreshed", **totals)
        return again

    def _round(self, totals: dict[str, int], go_on: Callable[[], bool]) -> float | None:
        """Do one claim's worth of work; return seconds to wait before the next, None where nothing is open."""
        look = self.budget.look(GROUP)
        if look.paused > 0:
            return look.paused
        with self.engine.connect() as connection:
            backlog = users.backlog(connection, most=max(PER_PAGE, int(look.level)) + 1)
        if not backlog.open:
            return None
        if backlog.open <= look.level:
            return self._read_strongly("any", min(int(look.level), STRONG_AT_ONCE), totals, go_on)
        full = backlog.weak_due >= PER_PAGE or backlog.weak_age >= PAGE_LINGER
        if backlog.weak_due and full and not (backlog.strong_due and totals["pages"] > totals["strong"]):
            return self._read_page(totals)
        if backlog.strong_due:
            return self._read_strongly("strong", 1, totals, go_on)
        return PAGE_LINGER if backlog.weak_due else None

    def _read_strongly(self, kind: str, rows: int, totals: dict[str, int], go_on: Callable[[], bool]) -> float | None:
        claims = self._claim(kind, rows)
        for position, claim in enumerate(claims):
            rest = claims[position:]
            if position and not go_on():  # a slow tenant must not make a slice outlast its leases
                self._give_back(rest)
                return 0
            wait = self._spend("now", rest)
            if wait is not None:
                return wait
            try:
                answer = self.tenant.read_user(claim.user_id)
            except (Transient, Refused, WrongSetting):
                self._give_back(rest)
                raise
            except Permanent as error:
                self._put_off(claim, error)
                continue
            totals["strong"] += 1
            self._apply([(claim, answer)], on_strong, None, totals)
        return 0 if claims else None

    def _read_page(self, totals: dict[str, int]) -> float | None:
        claims = self._claim("weak", PER_PAGE)
        fitting = self.tenant.take_that_fit([claim.user_id for claim in claims])
        self._give_back(claims[fitting:])
        claims = claims[:fitting]
        if not claims:
            return None
        wait = self._spend("settle", claims)
        if wait is not None:
            return wait
        try:
            page = self.tenant.search_users([claim.user_id for claim in claims])
        except Error:
            self._give_back(claims)
            raise
        totals["pages"] += 1
        found = {hit["user_id"]: hit for hit in page.hits}
        self._give_back([claim for claim in claims if claim.user_id not in page.covered])
        self._apply(
            [(claim, found.get(claim.user_id)) for claim in claims if claim.user_id in page.covered],
            partial(on_search, tolerances=self.tolerances),
            self.tolerances.search_settle,
            totals,
        )
        return 0

    def _claim(self, kind: str, rows: int) -> list[Claim]:
        with self.engine.begin() as connection:
            return users.claim(connection, kind, rows=rows, lease=LEASE)

    def _spend(self, priority: Priority, claims: Sequence[Claim]) -> float | None:
        """Take a token for one call, or give the claims back and return the seconds until there may be one."""
        try:
            grant = self.budget.take(GROUP, priority)
        except Transient:
            self._give_back(claims)
            raise
        if grant.granted:
            return None
        self._give_back(claims)
        return max(grant.wait, 0.01)

    def _give_back(self, claims: Sequence[Claim]) -> None:
        if claims:
            with self.engine.begin() as connection:
                users.release(connection, [claim.user_id for claim in claims])

    def _put_off(self, claim: Claim, error: Permanent) -> None:
        delay = min(RETRY_BASE * 2 ** min(claim.attempts, 12), RETRY_CAP)
        log.warning("a user cannot be read", user=fingerprint(claim.user_id, self.fingerprint_key), reason=str(error))
        with self.engine.begin() as connection:
            users.release(connection, [claim.user_id], delay=delay, attempts=claim.attempts + 1)

    def _apply(
        self,
        said: Sequence[tuple[Claim, Profile | None]],
        rule: answers.Rule,
        settle: timedelta | None,
        totals: dict[str, int],
    ) -> None:
        try:
            applied = answers.apply(self.engine, said, rule, settle=settle)
        except (DBAPIError, UnicodeError) as error:
            if not answers.refuses_a_value(error):
                raise
            if len(said) == 1:
                self._put_off(said[0][0], BadRecord("PostgreSQL cannot hold a value of this profile"))
            else:
                for one in said:
                    self._apply([one], rule, settle, totals)
            return
        totals["written"] += applied.written
        totals["cleared"] += applied.cleared
        totals["braked"] += applied.braked
        self.suspected += applied.suspected

    def _say_refused(self, error: Refused) -> None:
        missing = f"scope {error.scope} is missing" if error.scope else "the credentials are refused"
        log.error("auth0 refuses", reason=str(error), scope=error.scope)
        with self.engine.begin() as connection:
            notes.raise_condition(connection, "auth0_refused", f"{missing}: {error}")

    def _end_refused(self) -> None:
        with self.engine.begin() as connection:
            if notes.end_condition(connection, "auth0_refused"):
                log.info("auth0 accepts again")
