"""Backfill: the whole tenant by an export, a batch of lines at a time; what is newer here stays, and who is unknown gets a row."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, TypeVar

import msgspec
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from worker.auth0.exports import COVERS, Exports
from worker.auth0.pace import Budget
from worker.domain.news import Unreadable, user_id as checked_id
from worker.domain.snapshots import on_export
from worker.domain.users import Profile, Tolerances, Verdict, secondary_ids
from worker.errors import Permanent, TenantDown
from worker.logs import get_logger
from worker.store import notes, runs, users
from worker.store.users import Held
from worker.sync.answers import refuses_a_value
from worker.sync.patience import complete_job
from worker.sync.snapshots import improve

# Large enough that one statement carries many, small enough that memory stays flat and a kill costs little.
BATCH: Final = 1_000
# How often a file is opened anew where it breaks off, before the run is left for later.
_OPENINGS: Final = 5

log = get_logger(__name__)
T = TypeVar("T")


class AtIt(Permanent):
    """Another process is at it."""


@dataclass(slots=True)
class Progress:
    """What a run has done so far, for whoever watches."""

    users: int = 0
    written: int = 0
    bad: int = 0
    percentage: float | None = None
    """How far Auth0 is with the export, None once it is read."""
    total: int | None = None
    """How many users there are, where that is known: those of the last run."""

    def as_dict(self) -> dict[str, int]:
        """As the run's report keeps it."""
        return {"users": self.users, "written": self.written, "bad": self.bad}


@dataclass(slots=True)
class Backfill:
    """The loop, over what it needs. It may sleep: a person waits for it."""

    engine: Engine
    exports: Exports
    budget: Budget
    tolerances: Tolerances
    watch: Callable[[Progress], None] = lambda _: None
    progress: Progress = field(default_factory=Progress)

    def run(self) -> Progress:
        """Load the tenant; goes on where an earlier run was killed. Raises AtIt while another one runs.

        Only a file read to its end is called complete; anything else leaves the run to be resumed.
        """
        with self.engine.begin() as connection:
            run = runs.begin(connection, "backfill")
        if run is None:
            raise AtIt("another backfill is under way; this one would only repeat it")
        self.progress = Progress(**run.report)
        position = dict(run.position)
        try:
            for opening in range(_OPENINGS):
                try:
                    self._read(run.id, position)
                    break
                except TenantDown as error:
                    if opening == _OPENINGS - 1:
                        raise
                    log.warning("the export broke off, opened again", reason=str(error))
        except BaseException:
            with self.engine.begin() as connection:
                runs.release(connection, run.id)
            raise
        with self.engine.begin() as connection:
            runs.end(connection, run.id, "complete", self.progress.as_dict())
        log.info("backfilled", **self.progress.as_dict())
        return self.progress

    def _read(self, run_id: int, position: dict[str, Any]) -> None:
        def note() -> None:
            with self.engine.begin() as connection:
                runs.keep(connection, run_id, position)

        job = complete_job(self.exports, self.budget, position, note, self._preparing)
        self.progress.percentage = None
        with closing(self.exports.lines(job)) as lines:
            skipped = sum(1 for _ in islice(lines, position["lines"]))
            if skipped < position["lines"]:
                raise TenantDown("the export holds fewer lines than before")
            for batch in batches(lines, BATCH):
                position["lines"] += len(batch)
                self._load(run_id, batch, position)
                self.watch(self.progress)

    def _preparing(self, percentage: float) -> None:
        self.progress.percentage = percentage
        self.watch(self.progress)

    def _load(self, run_id: int, lines: Sequence[bytes], position: dict[str, Any]) -> None:
        told, bad = profiles(lines)
        written = load(self.engine, told, self.tolerances)
        self.progress.users += len(told)
        self.progress.written += written.changed
        self.progress.bad += len(bad) + len(written.refused)
        with self.engine.begin() as connection:
            notes.park_records(connection, "export", [(run_id, position["lines"], why, raw) for why, raw in bad])
            runs.keep(connection, run_id, position, self.progress.as_dict())


@dataclass(slots=True)
class Loaded:
    """How many rows were written, and whose profiles PostgreSQL cannot hold."""

    changed: int = 0
    refused: list[str] = field(default_factory=list)


def load(engine: Engine, told: Mapping[str, Profile], tolerances: Tolerances) -> Loaded:
    """Write a batch of an export: unknown ids at once, the others by the rules. Done twice it is done once."""
    try:
        return Loaded(_write(engine, told, tolerances))
    except (DBAPIError, UnicodeError) as error:
        if not refuses_a_value(error):
            raise
    if len(told) == 1:
        return Loaded(0, list(told))
    ids, whole = list(told), Loaded()
    for half in (ids[: len(ids) // 2], ids[len(ids) // 2 :]):
        part = load(engine, {user_id: told[user_id] for user_id in half}, tolerances)
        whole.changed += part.changed
        whole.refused += part.refused
    return whole


def _write(engine: Engine, told: Mapping[str, Profile], tolerances: Tolerances) -> int:
    with engine.begin() as connection:
        new = users.insert_new(connection, told)
        # Of whom a new row names as linked, those that we have are asked for (P7); an export names too many others.
        linked = frozenset[str]().union(*(secondary_ids(told[user_id]) for user_id in new))
    if linked:
        with engine.begin() as connection:
            users.mark_known(connection, linked)
    known = {user_id: said for user_id, said in told.items() if user_id not in new}
    if not known:
        return len(new)

    def rule(held: Held, said: Profile) -> tuple[Verdict, Profile]:
        return on_export(held.row, held.mark, said, COVERS, tolerances)

    return len(new) + improve(engine, known, rule, _nothing_more)


def _nothing_more(_connection: Connection) -> None:
    """End the batch: what it stands for is noted after it, and repeating it is harmless."""


_PROFILE = msgspec.json.Decoder(dict[str, Any])


def profiles(lines: Sequence[bytes]) -> tuple[dict[str, Profile], list[tuple[str, bytes]]]:
    """Decode lines; return the profiles by id, and what is none as (reason, line)."""
    told: dict[str, Profile] = {}
    bad: list[tuple[str, bytes]] = []
    for line in lines:
        try:
            said = _PROFILE.decode(line)
            subject = checked_id(said.get("user_id"))
        except Unreadable as error:
            bad.append((str(error), line))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            bad.append(("a line of the export is no JSON object", line))
        else:
            if subject is None:
                bad.append(("a line of the export without a user's id", line))
            else:
                told[subject] = said
    return told, bad


def batches(items: Iterator[T], size: int) -> Iterator[list[T]]:
    """Yield lists of `size` items, the last one shorter."""
    while batch := list(islice(items, size)):
        yield batch
