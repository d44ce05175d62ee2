"""Verify: the tenant against the copy, field by field over what an export covers; a difference is drift only if a strong read says so."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from sqlalchemy import Engine

from worker.auth0.client import Tenant
from worker.auth0.pace import Budget
from worker.domain.snapshots import differing
from worker.domain.users import Profile, canonical, on_strong, profile_time
from worker.errors import BadRecord
from worker.logs import get_logger
from worker.store import columns, comparisons, forgotten, runs, users
from worker.store.comparisons import Kept
from worker.store.runs import Run
from worker.store.session import without_waiting
from worker.store.users import Claim, UserNews
from worker.sync import answers
from worker.sync.ahead import side_by_side
from worker.sync.backfill import AtIt, Progress
from worker.sync.everyone import Batch, Everyone, Position, incomplete
from worker.sync.lines import Told, read, without_alike
from worker.sync.patience import Allowance

KINDS: Final = ("missing", "extra", "stale", "different")
# So many ids of each kind are shown.
EXAMPLES: Final = 5
_LEASE: Final = timedelta(seconds=60)
# So many are looked at together.
_AT_ONCE: Final = 64
# So many wait to be read, or to be judged, while the rest is compared: some 10 KB each, at worst. Who is beyond that is noted, and
# read later. Whoever is to be mended is claimed meanwhile, so those are fewer.
_OPEN: Final = 256
# More would not be faster than the largest plan allows. The budget decides how many there may be.
_SIDE_BY_SIDE: Final = 4
_KEEP_EVERY: Final = 15.0  # seconds

log = get_logger(__name__)


@dataclass(slots=True)
class Drift:
    """What a comparison found. `examples` by kind: (user id, attributes that differ)."""

    users: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    examples: dict[str, list[tuple[str, list[str]]]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    read: int = 0
    """Strong reads that it took."""
    mended: int = 0
    braked: int = 0
    """Deletions that wait for a human (P19)."""
    bad: int = 0
    """Lines that are no profiles, and users whose profile cannot be read."""
    unread: int = 0
    """Users whom no search can show."""

    @property
    def total(self) -> int:
        """How many users drift."""
        return sum(self.counts.values())

    @property
    def is_whole(self) -> bool:
        """Whether everybody was compared."""
        return not (self.bad or self.unread)

    def add(self, kind: str, user_id: str, names: list[str]) -> None:
        """Count one user."""
        self.counts[kind] += 1
        if len(self.examples[kind]) < EXAMPLES:
            self.examples[kind].append((user_id, names))

    def report(self) -> dict[str, Any]:
        """As the run keeps it: no ids."""
        left = {"braked": self.braked, "bad": self.bad, "unread": self.unread}
        return {"users": self.users, **self.counts, "read": self.read, "mended": self.mended, **left}


_Answers = dict[str, Profile | BadRecord | None]


class _StrongReads:
    """Reads users strongly, some side by side, in a thread of its own."""

    def __init__(self, tenant: Tenant, budget: Budget) -> None:
        self._tenant = tenant
        self._many = tenant.many()
        self._allowance = Allowance(budget, "read_users", _SIDE_BY_SIDE)
        self._room = asyncio.Semaphore(_SIDE_BY_SIDE)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="strong reads", daemon=True)
        self._thread.start()

    def begin(self, ids: Sequence[str]) -> Future[_Answers]:
        """Begin to read them; return the answers to come."""
        return asyncio.run_coroutine_threadsafe(self._read_all(ids), self._loop)

    async def _read_all(self, ids: Sequence[str]) -> _Answers:
        return dict(zip(ids, await asyncio.gather(*map(self._read, ids)), strict=True))

    async def _read(self, user_id: str) -> Profile | BadRecord | None:
        async with self._room:
            try:
                return await self._allowance.call(partial(self._tenant.read_user_among, self._many, user_id))
            except BadRecord as error:
                return error

    def close(self) -> None:
        """Let go of what has not been answered yet."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        under_way = asyncio.all_tasks() - {asyncio.current_task()}
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        self._allowance.close()
        await self._many.close()


@dataclass(frozen=True, slots=True)
class _Group:
    """Suspects who are being read: (user id, what is suspected), with `repair` the claims of their marks."""

    suspects: Sequence[tuple[str, str]]
    claims: Mapping[str, Claim]
    answers: Future[_Answers]


@dataclass(slots=True)
class Verify:
    """The comparison, over what it needs. It may sleep: a person waits for it."""

    engine: Engine
    everyone: Everyone
    tenant: Tenant
    budget: Budget
    watch: Callable[[Progress], None] = lambda _: None
    repair: bool = False
    allow_deletes: int = 0
    """How many of the deletions it finds may pass the brake (P19)."""
    drift: Drift = field(default_factory=Drift)
    returned: list[str] = field(default_factory=list)
    """Of whom the export tells though they were forgotten: no table may hold them (P14)."""
    _being_read: deque[_Group] = field(default_factory=deque)
    _open: int = 0
    """How many are being read."""
    _kept: float = 0.0
    """When the run's lease was last lengthened (monotonic)."""

    def run(self) -> Drift:
        """Compare, confirm every suspect by a strong read, mend with `repair`. Raises AtIt while another one runs."""
        with self.engine.begin() as connection:
            run = runs.begin(connection, "verify", resume=False)
        if run is None:
            raise AtIt("verify")
        state = "failed"
        try:
            with closing(_StrongReads(self.tenant, self.budget)) as reads:
                self._compare(run, reads)
                self._confirm(run, reads)
            state = "complete" if self.drift.is_whole else "failed"
        finally:
            with self.engine.begin() as connection:
                comparisons.forget(connection, run.id)
                runs.end(connection, run.id, state, self.drift.report())
        log.info("verified", **self.drift.report())
        return self.drift

    def _compare(self, run: Run, reads: _StrongReads) -> None:
        """Compare everybody; suspects are read meanwhile."""
        progress = Progress(total=self.everyone.total())

        def preparing(percentage: float) -> None:
            progress.percentage = percentage
            self.watch(progress)

        def note(position: Position) -> None:
            with self.engine.begin() as connection:
                runs.keep(connection, run.id, position)

        # Of whom the lines are to be looked at, not one batch's at a time.
        waiting: list[bytes] = []
        covers: frozenset[str] | None = None

        def others_of(batch: Batch) -> Sequence[bytes]:
            return without_alike(self.engine, run.id, batch.lines, batch.covers)

        with (
            closing(self.everyone.batches({}, note, preparing)) as batches,
            closing(side_by_side(others_of, batches)) as compared,
        ):
            for batch, others in compared:
                progress.percentage = None
                if len(waiting) >= _AT_ONCE or batch.first or batch.covers != covers:
                    self._look(run, reads, read(waiting), covers)
                    waiting.clear()
                if batch.first:
                    self.drift.users = 0
                waiting += others
                covers = batch.covers
                self.drift.unread += batch.unread
                self.drift.users += len(batch.lines) - len(others)
                self._judge_the_read(run)
                progress.users = self.drift.users
                self.watch(progress)
        self._look(run, reads, read(waiting), covers)
        with self.engine.begin() as connection:
            comparisons.suspect_extra(connection, run.id, though_marked=False)

    def _look(self, run: Run, reads: _StrongReads, told: Told, covers: frozenset[str] | None) -> None:
        """Look at those who are not simply as we hold them: note who they are and the suspects, and begin to read some of these."""
        if not told:
            self.drift.bad += len(told.bad)
            return
        with self.engine.begin() as connection:
            without_waiting(connection)
            out = forgotten.among(connection, told.ids())
            told.leave_out(out)
            self.returned += [user_id for user_id in out if not out[user_id].keep_out]
            ids = told.ids()
            comparisons.note(connection, run.id, ids)
            suspected = compare(told.profiles(ids), comparisons.kept(connection, ids), covers, run.started_at)
            at_once = list(suspected)[: max(0, (_AT_ONCE if self.repair else _OPEN) - self._open)]
            first = comparisons.suspect(connection, run.id, suspected, at_once)  # told of twice: judged once
            astray = columns.astray(connection, [one for one in ids if one not in suspected], mend=self.repair)
        self.drift.users += len(told)
        self.drift.bad += len(told.bad)  # now: those whose profile cannot be decoded are among them
        for user_id, names in astray:
            self.drift.add("different", user_id, names)
            self.drift.mended += self.repair
        self._read(reads, [(one, suspected[one]) for one in at_once if one in first])

    def _confirm(self, run: Run, reads: _StrongReads) -> None:
        """Read every other suspect."""
        after = ""
        while True:
            with self.engine.begin() as connection:
                without_waiting(connection)
                runs.keep(connection, run.id)
                suspects = comparisons.suspects(connection, run.id, after, _AT_ONCE)
            self._judge_the_read(run, all_of_them=True)
            if not suspects:
                break
            after = suspects[-1][0]
            self._read(reads, suspects)
        self._read(reads, [(user_id, "missing") for user_id in self.returned])
        self._judge_the_read(run, all_of_them=True)

    def _read(self, reads: _StrongReads, suspects: Sequence[tuple[str, str]]) -> None:
        """Begin to read suspects strongly, some side by side; with `repair`, marked before (P3)."""
        if suspects:
            claims = self._claim(suspects) if self.repair else {}
            self._being_read.append(_Group(suspects, claims, reads.begin([user_id for user_id, _ in suspects])))
            self._open += len(suspects)

    def _claim(self, suspects: Sequence[tuple[str, str]]) -> dict[str, Claim]:
        """Mark those who are to be mended."""
        with self.engine.begin() as connection:
            users.mark(connection, [UserNews(user_id, strong=True) for user_id, _ in suspects])
            claims = {one: users.claim_one(connection, one, lease=_LEASE) for one, _ in suspects}
        return {user_id: claim for user_id, claim in claims.items() if claim is not None}

    def _judge_the_read(self, run: Run, *, all_of_them: bool = False) -> None:
        """Judge the groups that have been read; or all, waiting for them. The run's lease is lengthened meanwhile."""
        while self._being_read and (all_of_them or self._being_read[0].answers.done()):
            group = self._being_read[0]
            while not wait([group.answers], _KEEP_EVERY).done:
                self._stay(run)
            self._judge(group, group.answers.result())
            self._being_read.popleft()
            self._open -= len(group.suspects)
        self._stay(run)

    def _stay(self, run: Run) -> None:
        """Lengthen the run's lease, now and then."""
        if time.monotonic() - self._kept > _KEEP_EVERY:
            self._kept = time.monotonic()
            with self.engine.begin() as connection:
                runs.keep(connection, run.id)

    def _judge(self, group: _Group, answered: _Answers) -> None:
        """Count as drift what differs from a strong answer, in a row that nothing else is about to mend."""
        said = {user_id: answer for user_id, answer in answered.items() if not isinstance(answer, BadRecord)}
        claims = group.claims
        self.drift.read += len(said)
        self.drift.bad += len(answered) - len(said)
        with self.engine.connect() as connection:
            rows = comparisons.kept(connection, list(said))
        for user_id, kind in group.suspects:
            if user_id not in said:
                continue
            here, answer = rows.get(user_id), said[user_id]
            if (here is None or not here.marked or self.repair) and (names := drifting(here, answer)) is not None:
                self.drift.add(kind, user_id, names)
            if user_id in claims:
                if answer is None and kind == "extra" and self.allow_deletes:
                    self.allow_deletes -= 1
                    with self.engine.begin() as connection:
                        users.announce_deletion(connection, user_id)
                applied = answers.apply(self.engine, [(claims[user_id], answer)], on_strong, settle=None)
                self.drift.mended += applied.written
                self.drift.braked += applied.braked


def compare(
    told: Mapping[str, Profile], here: Mapping[str, Kept], covers: frozenset[str] | None, began_at: datetime
) -> dict[str, str]:
    """Return what is suspected of whom; of nobody for whom a mark says that somebody will look.

    `began_at`: before all of it was read from the tenant, by our clock.
    """
    suspicions = {user_id: _suspicion(said, here.get(user_id), covers, began_at) for user_id, said in told.items()}
    return {user_id: kind for user_id, kind in suspicions.items() if kind is not None}


def _suspicion(said: Profile, held: Kept | None, covers: frozenset[str] | None, began_at: datetime) -> str | None:
    if held is None or (held.profile is None and not held.marked):
        return "missing"
    if held.marked or held.profile is None:
        return None
    ours, theirs = profile_time(held.profile.get("updated_at")), profile_time(said.get("updated_at"))
    if ours is not None and theirs is not None and ours != theirs:
        # Newer here is as it should be where we learned it since; what we had before, the tenant should show.
        known_before = held.synced_at is None or held.synced_at < began_at
        return "stale" if theirs > ours else "different" if known_before else None
    return "different" if differing(held.profile, said, covers) else None


def drifting(held: Kept | None, answer: Profile | None) -> list[str] | None:
    """Return the attributes in which the copy differs from a strong answer, [] where one of the two has no such user; None: equal."""
    lives_here = held is not None and not held.deleted
    if held is None or held.profile is None or answer is None:
        return None if not lives_here and answer is None else []
    here, there = canonical(held.profile), canonical(answer)
    return sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name)) or None


def shown(drift: Drift, hide: Callable[[str], str]) -> Sequence[str]:
    """Return what a person reads, users by their names in log lines."""
    lines = [f"{drift.users} users compared, {drift.read} read again"]
    for kind in KINDS:
        if drift.counts[kind]:
            some = ", ".join(
                hide(one) + (f" ({' '.join(names)})" if names else "") for one, names in drift.examples[kind]
            )
            lines.append(f"{drift.counts[kind]} {kind}: {some}")
    if drift.mended:
        lines.append(f"{drift.mended} mended")
    if drift.braked:
        lines.append(f"{drift.braked} deletions wait for an answer: see `understudy brake`")
    if drift.bad:
        lines.append(
            f"incomplete: {drift.bad} profiles could not be read; the daily comparison and `understudy backfill` park them: "
            "see why with `understudy parked list`"
        )
    if drift.unread:
        lines.append(incomplete(drift.unread))
    return lines


def as_json(drift: Drift, hide: Callable[[str], str]) -> dict[str, Any]:
    """Return the same for a program."""
    examples = {
        kind: [{"user": hide(one), "attributes": names} for one, names in some] for kind, some in drift.examples.items()
    }
    return {**drift.report(), "complete": drift.is_whole, "examples": examples}
