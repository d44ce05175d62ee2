"""Backfill: the whole tenant, a batch at a time; what is newer here stays, and who is unknown gets a row."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from worker.domain.snapshots import on_export
from worker.domain.users import Profile, Tolerances, Verdict, secondary_ids
from worker.errors import Permanent
from worker.logs import get_logger
from worker.store import feeds, forgotten, notes, plain, runs, users
from worker.store.runs import Run
from worker.store.session import without_waiting
from worker.store.users import Held
from worker.sync.ahead import side_by_side
from worker.sync.answers import refuses_a_value
from worker.sync.cutting import without_forgotten
from worker.sync.everyone import Batch, Everyone, Position
from worker.sync.lines import Told, read
from worker.sync.snapshots import improve

log = get_logger(__name__)


class AtIt(Permanent):
    """Another process is at it, or was until its lease ends."""

    def __init__(self, kind: str) -> None:
        super().__init__(
            f"another {kind} is under way, or was killed less than a minute ago: `understudy status` shows how far it is, "
            "try again in a minute"
        )


@dataclass(slots=True)
class Progress:
    """What a run has done so far, for whoever watches."""

    users: int = 0
    written: int = 0
    bad: int = 0
    unread: int = 0
    """How many there are whom no search can show."""
    percentage: float | None = None
    """How far Auth0 is with the export, None once it is read."""
    total: int | None = None
    """About how many users there are, None where nobody knows."""

    def as_dict(self) -> dict[str, int]:
        """As the run's report keeps it."""
        return {"users": self.users, "written": self.written, "bad": self.bad, "unread": self.unread}


@dataclass(slots=True)
class Backfill:
    """The loop, over what it needs. It may sleep: a person waits for it."""

    engine: Engine
    everyone: Everyone
    tolerances: Tolerances
    pulls: Mapping[str, timedelta] = field(default_factory=dict)
    """The feeds that are pulled, and how far before now each begins that never did."""
    watch: Callable[[Progress], None] = lambda _: None
    progress: Progress = field(default_factory=Progress)

    def run(self) -> Progress:
        """Load the tenant; goes on where an earlier run was killed. Raises AtIt while another one runs.

        Only what was read to its end, with nobody left out, is called complete; what breaks off is left to be resumed.
        """
        with self.engine.begin() as connection:
            # Where the pulls begin is settled before anything is read, so that nothing falls between the two (P23).
            for name, back in self.pulls.items():
                feeds.keep_place(connection, name, back=back)
            run = runs.begin(connection, "backfill")
        if run is None:
            raise AtIt("backfill")
        self.progress = Progress(**run.report, total=self.everyone.total())
        try:
            self._read(run)
        except BaseException:
            with self.engine.begin() as connection:
                runs.release(connection, run.id)
            raise
        with self.engine.begin() as connection:
            state = "failed" if self.progress.unread else "complete"
            runs.end(connection, run.id, state, self.progress.as_dict())
        log.info("backfilled", **self.progress.as_dict())
        return self.progress

    def _read(self, run: Run) -> None:
        def note(position: Position) -> None:
            with self.engine.begin() as connection:
                runs.keep(connection, run.id, position)

        def load_one(batch: Batch) -> tuple[Told, int]:
            told = read(batch.lines)
            return told, load(self.engine, told, batch.covers, self.tolerances, run.started_at)

        with (
            closing(self.everyone.batches(run.position, note, self._preparing)) as batches,
            closing(side_by_side(load_one, batches)) as loaded,
        ):
            for batch, (told, written) in loaded:
                self._note(run.id, batch, told, written)
                self.watch(self.progress)

    def _preparing(self, percentage: float) -> None:
        self.progress.percentage = percentage
        self.watch(self.progress)

    def _note(self, run_id: int, batch: Batch, told: Told, written: int) -> None:
        self.progress.percentage = None
        if batch.first:
            self.progress.users = self.progress.bad = self.progress.unread = 0
        self.progress.users += len(told)
        self.progress.written += written
        self.progress.bad += len(told.bad)
        self.progress.unread += batch.unread
        with self.engine.begin() as connection:
            without_waiting(connection)
            park(connection, run_id, batch.position, told.bad)
            runs.keep(connection, run_id, batch.position, self.progress.as_dict())


def park(connection: Connection, run_id: int, position: Position, bad: Sequence[tuple[str, bytes]]) -> None:
    """Park the lines of a batch that are no profiles (reason, line), each beside the number of its export's lines up to then."""
    where = position.get("lines", 0)
    lines = without_forgotten(connection, [(run_id, (where, why, raw)) for why, raw in bad])
    notes.park_records(connection, "export", [(run, *line) for run, line in lines])


def load(engine: Engine, told: Told, covers: frozenset[str] | None, tolerances: Tolerances, began_at: datetime) -> int:
    """Write a batch of users: unknown ids at once, those who differ by the rules; return how many rows. Done twice it is done once.

    `covers`: the attributes that their source declares, None for whole profiles (P2). `began_at`: before it was read from the
    tenant, by our clock. Whose profile PostgreSQL cannot hold becomes bad.
    """
    try:
        fresh, unlike = _insert(engine, told.plain, covers)
    except (DBAPIError, UnicodeError) as error:
        if not refuses_a_value(error):
            raise
        fresh, unlike = 0, set(told.plain)  # one of them is odd all the same
    return fresh + _load_odd(engine, told, told.profiles(unlike), covers, tolerances, began_at)


def _insert(engine: Engine, texts: Mapping[str, str], covers: frozenset[str] | None) -> tuple[int, set[str]]:
    """Insert those who have no row; return how many, and who is to be looked at by the rules.

    Whom a new row names as linked is marked with it, if we have them (P7): an export names too many others, and where it is
    read again after a crash the row is not new any more.
    """
    fresh = 0
    with engine.begin() as connection:
        without_waiting(connection)
        known = plain.known(connection, texts) | forgotten.among(connection, texts).keys()
        new = {user_id: line for user_id, line in texts.items() if user_id not in known}
        if new:
            fresh, linked = plain.insert_new(connection, new)
            users.mark_known(connection, linked)
        if fresh < len(new):  # somebody else was faster
            known = set(texts)
        unlike = plain.unlike(connection, {one: texts[one] for one in known}, covers) if known else set[str]()
    return fresh, unlike


def _load_odd(
    engine: Engine,
    told: Told,
    profiles: Mapping[str, Profile],
    covers: frozenset[str] | None,
    tolerances: Tolerances,
    began_at: datetime,
) -> int:
    """Write profiles, each by the rules; return how many rows changed. Those that PostgreSQL cannot hold become bad."""
    if not profiles:
        return 0
    try:
        return _write(engine, profiles, covers, tolerances, began_at)
    except (DBAPIError, UnicodeError) as error:
        if not refuses_a_value(error):
            raise
    ids = list(profiles)
    if len(ids) == 1:
        told.refuse(ids[0], "PostgreSQL cannot hold a value of it")
        return 0
    halves = ids[: len(ids) // 2], ids[len(ids) // 2 :]
    return sum(
        _load_odd(engine, told, {one: profiles[one] for one in half}, covers, tolerances, began_at) for half in halves
    )


def _write(
    engine: Engine,
    told: Mapping[str, Profile],
    covers: frozenset[str] | None,
    tolerances: Tolerances,
    began_at: datetime,
) -> int:
    with engine.begin() as connection:
        out = forgotten.among(connection, told)  # never written from an export: a strong read decides (P14)
        new = users.insert_new(connection, {user_id: said for user_id, said in told.items() if user_id not in out})
        users.mark_known(connection, frozenset[str]().union(*(secondary_ids(told[user_id]) for user_id in new)))
    known = {user_id: said for user_id, said in told.items() if user_id not in new}
    if not known:
        return len(new)

    def rule(held: Held, said: Profile) -> tuple[Verdict, Profile]:
        return on_export(held.row, held.mark, said, covers, tolerances, began_at)

    return len(new) + improve(engine, known, rule, _nothing_more)


def _nothing_more(_connection: Connection) -> None:
    """End the batch: what it stands for is noted after it, and repeating it is harmless."""
