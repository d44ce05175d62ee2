"""Forget: one person is erased from every table, and stays so whatever was under way, comes late or comes again (P14).

The order makes it right. The hashes are committed first: from then on no transaction that begins writes anything of the
person, and web processes answer them 403. Everything that began before is waited for. Then Auth0 says that there is no such
person, and what rests on that is erased only while nothing has moved since. What others had read of the person meanwhile they
may still have written, so all of it is done again until there is nothing left to erase. Killed anywhere, it is run again.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Engine

from worker.domain.mentions import Mentions
from worker.domain.news import Unreadable, user_id as checked_id
from worker.domain.users import Profile
from worker.errors import BadValue, Permanent, Transient
from worker.logs import fingerprint, get_logger
from worker.store import erasure, forgotten, inbox, parked, users
from worker.store.erasure import Standing
from worker.store.users import UserNews
from worker.sync.cutting import cut_out, cut_stored
from worker.sync.drain import Source, drain

# In seconds: between looks at what is waited for, and for how long. Leases last a minute, requests seconds.
_LOOK: Final = 0.1
PATIENCE: Final = 180.0
# A person of whom something new is found so often is being written by somebody who should not.
_ROUNDS: Final = 10
_AT_ONCE: Final = 50

log = get_logger(__name__)


class StillThere(Permanent):
    """The person is in Auth0."""


class Unfinished(Transient):
    """What has to end first did not end in time."""


@dataclass(slots=True)
class Forget:
    """The erasure of one person, over what it needs. It may sleep: a person waits for it.

    `read` reads a user strongly. `say` is told in a sentence what is waited for.
    """

    engine: Engine
    read: Callable[[str], Profile | None]
    sources: Sequence[Source[Any]]
    fingerprint_key: bytes
    say: Callable[[str], None] = lambda _: None
    sleep: Callable[[float], None] = time.sleep
    patience: float = PATIENCE
    removed: Counter[str] = field(default_factory=Counter)
    bodies_cut: bool = False

    def would_remove(self, user_id: str) -> tuple[Counter[str], bool]:
        """Count what would go, changing nothing; and tell whether Auth0 has the person."""
        ids = self._person(user_id)
        there = any(self.read(one) is not None for one in ids)
        with self.engine.connect() as connection:
            gone = erasure.erase_music(connection, ids)
            erasure.lock(connection, ids)
            gone += erasure.erase_rows(connection, ids)
            connection.rollback()
        return +gone + self._cut(ids, dry=True), there

    def run(self, user_id: str, *, keep_out: bool = False) -> Counter[str]:
        """Erase the person whom an id stands for, all their ids (P13); return how many rows of each kind went.

        Raises StillThere where Auth0 has them and they are not to be kept out, Unfinished where it has to be run again.
        """
        ids = self._person(user_id)
        if not keep_out:
            self._refuse_who_is_there(ids)
        keep_out, since = self._remember(ids, keep_out=keep_out)
        for _ in range(_ROUNDS):
            self._wait_for_what_began(ids)
            self._drain(since)
            if linked := {*self._person(user_id)} - {*ids}:  # meanwhile, or it is known only now
                ids = sorted({*ids, *linked}, key=str.encode)
                self.bodies_cut = False
                keep_out, since = self._remember(ids, keep_out=keep_out)
                continue
            gone = self._erase(ids, keep_out=keep_out)
            if gone is not None:
                self.removed += gone
                if not gone.total():
                    log.info("forgotten", user=fingerprint(user_id, self.fingerprint_key), ids=len(ids), **self.removed)
                    return self.removed
        raise Unfinished(
            "something new of this person is found again and again: stop who writes it, and run this again"
        )

    def _remember(self, ids: Sequence[str], *, keep_out: bool) -> tuple[bool, datetime]:
        """Commit the hashes; return whether the person is kept out, and since when they are forgotten."""
        with self.engine.begin() as connection:
            keep_out = forgotten.remember(connection, ids, keep_out=keep_out)
        with self.engine.begin() as connection:
            return keep_out, forgotten.stamp(connection, ids)

    def _person(self, user_id: str) -> list[str]:
        try:
            known = checked_id(user_id)
        except Unreadable as error:
            raise BadValue(str(error)) from None
        if known is None:
            raise BadValue("this is no user's id, such as 'auth0|507f1f77bcf86cd799439011': quote it, because of its |")
        with self.engine.connect() as connection:
            return erasure.person(connection, known)

    def _refuse_who_is_there(self, ids: Sequence[str]) -> None:
        """Refuse where Auth0 has one of these ids (a strong read): it lifts their hashes, all of them, and has them looked at.

        Not those of somebody who was faster: a read that began before them knows nothing of it.
        """
        with self.engine.connect() as connection:
            began = forgotten.clock(connection)
        there = [one for one in ids if self.read(one) is not None]
        if not there:
            return
        with self.engine.begin() as connection:
            kept_out = forgotten.kept_out(connection, ids)
            users.mark(connection, [UserNews(one, strong=True) for one in there])
            forgotten.lift(connection, dict.fromkeys(ids, began))
        if not kept_out:
            raise StillThere("Auth0 has this person: delete them there first, or keep them out of here with --keep-out")

    # What began before

    def _wait_for_what_began(self, ids: Collection[str]) -> None:
        """Wait until every transaction and every lease that there is now has ended."""
        self._wait("transactions that began before", erasure.open_transactions)
        self._wait("leases that were taken before", lambda connection: erasure.open_leases(connection, ids))

    def _wait(self, what: str, look: Callable[[Connection], set[str]]) -> None:
        waited, left = 0.0, self._look(look)
        while left:
            if waited >= self.patience:
                raise Unfinished(f"{len(left)} {what} have not ended within {self.patience:.0f} s: run this again")
            if waited == 0:
                self.say(f"waiting for {len(left)} {what} to end")
            self.sleep(_LOOK)
            waited += _LOOK
            left &= self._look(look)

    def _look(self, look: Callable[[Connection], set[str]]) -> set[str]:
        with self.engine.connect() as connection:
            return look(connection)

    def _drain(self, since: datetime) -> None:
        """Drain what arrived before, here and now: what is drained now is cut, and is news."""
        waited, left = 0.0, self._pending(since)
        while left:
            if waited >= self.patience:
                raise Unfinished(f"{left} deliveries that arrived before are not drained yet: run this again")
            self.say(f"draining {left} deliveries that arrived before")
            for source in self.sources:
                drain(self.engine, source, go_on=lambda: self._pending(since) > 0)
            left = self._pending(since)
            if left:  # somebody else is at them
                self.sleep(1.0)
                waited += 1.0

    def _pending(self, since: datetime) -> int:
        with self.engine.connect() as connection:
            return erasure.pending(connection, since)

    # What goes

    def _erase(self, ids: Sequence[str], *, keep_out: bool) -> Counter[str] | None:
        """Do a round; return what went, None where something moved meanwhile. Raises StillThere."""
        with self.engine.connect() as connection:
            standings = erasure.standings(connection, ids)
        if not keep_out:
            self._refuse_who_is_there(ids)
        gone = self._cut(ids)
        with self.engine.begin() as connection:
            _hold(connection, ids)
            gone += erasure.erase_music(connection, ids)
        with self.engine.begin() as connection:
            now = erasure.lock(connection, ids)
            _hold(connection, ids)
            if not (keep_out or _unmoved(standings, now)):
                self.removed += gone
                return None
            return gone + erasure.erase_rows(connection, ids)

    def _cut(self, ids: Sequence[str], *, dry: bool = False) -> Counter[str]:
        """Cut the person out of deliveries, record by record, and delete their parked records; return how many.

        What waits to be drained is cut as it is drained, and counted here only by a dry run. Addresses are looked for too, in
        what is done with: in what is parked they may be somebody else's, of whom it is news.
        """
        with self.engine.connect() as connection:
            person, anywhere = Mentions(ids), Mentions(ids, erasure.addresses(connection, ids))
        gone = self._cut_parked(person, dry=dry)
        after: int | None = (
            None if self.bodies_cut else 0
        )  # what is done after the first time was cut as it was drained
        while after is not None:
            with self.engine.connect() as connection:
                bodies = inbox.bodies(connection, after, rows=_AT_ONCE)
            after = bodies[-1].id if bodies else None
            for body in bodies:
                if dry or body.state != "pending":
                    gone["records"] += self._cut_one(body, anywhere if body.state == "done" else person, dry=dry)
        self.bodies_cut = not dry
        return +gone

    def _cut_one(self, body: inbox.Body, person: Mentions, *, dry: bool) -> int:
        found = cut_out(body, person)
        if not found or dry:
            return found
        with self.engine.begin() as connection:
            held = inbox.lock_body(connection, body.id)
            return cut_stored(connection, held, person) if held and held.state != "pending" else 0

    def _cut_parked(self, person: Mentions, *, dry: bool) -> Counter[str]:
        gone: Counter[str] = Counter()
        after: int | None = 0
        while after is not None:
            with self.engine.begin() as connection:
                records = parked.records(connection, after, rows=_AT_ONCE)
                after = records[-1][0] if records else None
                theirs = [record_id for record_id, record in records if person.are_in(record)]
                if not dry:
                    parked.drop_records(connection, theirs)
            gone["parked"] += len(theirs)
        return gone


def _hold(connection: Connection, ids: Sequence[str]) -> None:
    """Lock the hashes; raise StillThere where a strong read has lifted one meanwhile."""
    if not forgotten.hold(connection, ids):
        raise StillThere("Auth0 has this person again since a moment ago, so they are known here again")


def _unmoved(before: Mapping[str, Standing], now: Mapping[str, Standing]) -> bool:
    """Tell whether nothing was learned of these ids between a read and now."""
    return all(before[one] == now[one] for one in now)
