"""Reconcile: the whole tenant once a day, in slices; what is newer there is taken, what is doubtful is asked for."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final

from sqlalchemy import Connection, Engine, text

from worker.auth0.exports import Exports, FileLost, JobGone, NoExport
from worker.auth0.pace import Budget
from worker.auth0.windows import Windows
from worker.domain.users import Tolerances
from worker.logs import get_logger
from worker.store import columns, comparisons, forgotten, notes, runs, users
from worker.store.runs import Run
from worker.store.session import without_waiting
from worker.store.users import UserNews
from worker.sync.backfill import load, park
from worker.sync.everyone import TRIES, Batch, Position, by_search, exported, incomplete, next_page, searches
from worker.sync.lines import read, without_alike

WANTED: Final = "reconcile_wanted"
INCOMPLETE: Final = "reconcile_incomplete"
# Until Auth0 is asked again how far the export is, in seconds.
_LOOK_AGAIN: Final = 15.0
_MARKED_AT_ONCE: Final = 1_000
# Between the beginnings of two that are wanted.
_APART: Final = timedelta(minutes=10)

# What was too large to keep (P24) since the last reconcile that came to its end. A wish that is there stays as it is: made anew
# at each slice it would outlive the run that answers it.
_WANT_THE_OVERSIZE: Final = text("""
INSERT INTO conditions (name, detail)
SELECT :name, 'a delivery was too large to keep, and the log is not pulled'
WHERE EXISTS (
  SELECT FROM inbox WHERE state = 'parked' AND body IS NULL AND received_at > coalesce(
    (SELECT max(started_at) FROM runs WHERE kind = 'reconcile' AND (state = 'complete' OR (report ->> 'unread')::int > 0)),
    '-infinity'))
ON CONFLICT (name) DO NOTHING
""")

log = get_logger(__name__)


@dataclass(slots=True)
class Reconcile:
    """The loop, over what it needs. `run` never sleeps: it says when to ring again."""

    engine: Engine
    exports: Exports
    windows: Windows
    budget: Budget
    tolerances: Tolerances
    every: timedelta
    """How often, at the least; a wanted one comes at once. Zero: never by itself."""
    log_is_pulled: bool = True
    """Whether the pull brings what was too large to be delivered; a reconcile does where it does not."""

    def run(self, *, go_on: Callable[[], bool]) -> float | None:
        """Do a slice of a reconcile, if one is due or under way; return after how many seconds to ring again, None for not at all.

        Only what was read to its end, with nobody left out and everybody in doubt marked, is called complete.
        """
        if not self.log_is_pulled:
            with self.engine.begin() as connection:  # of its own: a run ends the wishes that are older than itself
                connection.execute(_WANT_THE_OVERSIZE, {"name": WANTED})
        with self.engine.begin() as connection:
            if not due(connection, self.every):
                return None
            run = runs.begin(connection, "reconcile")
            if run is not None and run.report.get("users") and comparisons.was_lost(connection, run.id):
                run.position.clear()  # PostgreSQL crashed: who was seen is to be seen again
                run.report.clear()
                runs.keep(connection, run.id, {}, {})
        if run is None:
            return None
        try:
            return self._slice(run, go_on)
        except JobGone as error:
            with self.engine.begin() as connection:
                comparisons.forget(connection, run.id)
                runs.end(connection, run.id, "failed", {**run.report, "reason": str(error)})
            raise
        finally:
            with self.engine.begin() as connection:
                runs.release(connection, run.id)

    def _slice(self, run: Run, go_on: Callable[[], bool]) -> float | None:
        again = self._search(run, go_on) if searches(run.position) else self._export(run, go_on)
        if again is None:
            self._doubt_the_rest(run)
        return again

    def _export(self, run: Run, go_on: Callable[[], bool]) -> float | None:
        """Go on with an export; return when to ring again, None at its end."""
        grant = self.budget.take("other", "mass")
        if not grant.granted:
            return max(grant.wait, 1.0)
        job_id: str | None = run.position.get("job")
        try:
            job = self.exports.look(job_id) if job_id else self.exports.begin()
        except NoExport as refused:
            self._keep(run, by_search(refused))
            return 0
        position: Position = {"job": job.id, "lines": run.position.get("lines", 0)}
        tries = run.position.get("tries", 0)
        self._keep(run, {**position, "tries": tries})
        if not job.done:
            return _LOOK_AGAIN
        try:
            with closing(exported(self.exports, job, position)) as batches:
                return self._take(run, batches, go_on)
        except FileLost as error:
            return self._without_file(run, error)

    def _without_file(self, run: Run, error: FileLost) -> float:
        """Try again later, or search where it is in vain: the API told where the file lies, so the tenant is not down."""
        tries = run.position.get("tries", 0) + 1
        if tries == TRIES:
            self._keep(run, by_search(error))
            return 0
        self._keep(run, {**run.position, "tries": tries})
        log.warning("the export's file broke off, tried again", reason=str(error))
        return _LOOK_AGAIN

    def _search(self, run: Run, go_on: Callable[[], bool]) -> float | None:
        """Go on with searches; return when to ring again, None where nothing is left to be searched."""
        while True:
            grant = self.budget.take("read_users", "mass")
            if not grant.granted:
                return max(grant.wait, 1.0)
            batch = next_page(self.windows, run.position)
            if batch is None:
                return None
            if self._take(run, iter([batch]), go_on) is not None:
                return 0

    def _take(self, run: Run, batches: Iterator[Batch], go_on: Callable[[], bool]) -> float | None:
        """Compare batches and write what is newer; None at their end, 0 where the slice is over."""
        report = run.report
        report.update({name: report.get(name, 0) for name in ("users", "written", "bad", "unread", "columns_mended")})
        for batch in batches:
            others = without_alike(self.engine, run.id, batch.lines, batch.covers)
            told = read(others)
            if batch.first:
                report.update(users=0, bad=0, unread=0)
            written = load(self.engine, told, batch.covers, self.tolerances, run.started_at)
            report["users"] += len(batch.lines) - len(others) + len(told)
            report["written"] += written
            report["bad"] += len(told.bad)
            report["unread"] += batch.unread
            run.position.clear()
            run.position.update(batch.position)
            with self.engine.begin() as connection:
                without_waiting(connection)
                out = forgotten.among(connection, told.ids())  # whom no table may hold (P14), nor do they need a note
                comparisons.note(connection, run.id, [one for one in told.ids() if one not in out])
                report["columns_mended"] += len(columns.astray(connection, told.ids(), mend=True))
                park(connection, run.id, batch.position, told.bad)
                runs.keep(connection, run.id, run.position, report)
            if not go_on():
                return 0
        return None

    def _keep(self, run: Run, position: Position) -> None:
        run.position.clear()
        run.position.update(position)
        with self.engine.begin() as connection:
            runs.keep(connection, run.id, position)

    def _doubt_the_rest(self, run: Run) -> None:
        """Mark for a strong read who is live here and was not in the export: absence alone deletes nobody (P12)."""
        with self.engine.begin() as connection:
            comparisons.suspect_extra(connection, run.id, though_marked=True)
        extra, after, left = 0, "", True
        while left:
            with self.engine.begin() as connection:
                suspects = comparisons.suspects(connection, run.id, after, _MARKED_AT_ONCE)
                users.mark(connection, [UserNews(user_id, strong=True) for user_id, _ in suspects])
            left = bool(suspects)
            extra += len(suspects)  # whoever was killed over them had suspected them before
            after = suspects[-1][0] if suspects else after
        report = {**run.report, "extra": extra}
        with self.engine.begin() as connection:
            comparisons.forget(connection, run.id)
            runs.end(connection, run.id, "failed" if report["unread"] else "complete", report)
            end_wish(connection, run)
            if report["unread"]:
                notes.raise_condition(connection, INCOMPLETE, f"the daily comparison is {incomplete(report['unread'])}")
            else:
                notes.end_condition(connection, INCOMPLETE)
        log.info("reconciled", **report)


def due(connection: Connection, every: timedelta) -> bool:
    """Tell whether a run is under way, wanted, or a while ago. What failed is tried again after ten minutes if wanted, else after an hour.

    Whatever keeps asking has one in ten minutes: a wish made during a run is heard soon, and a storm of them costs a few an hour.
    One that could not read everybody has come to its end: the next would not read them either.
    """
    found = runs.last(connection, "reconcile")
    if found is not None and found[0] == "running":
        return True
    ago = partial(_was_ago, connection, "reconcile")
    broke_off = found is not None and found[0] == "failed" and not found[3].get("unread")
    if notes.condition_is_on(connection, WANTED) and (found is None or ago(_APART)):
        return True
    if broke_off and not ago(timedelta(hours=1)):
        return False
    return every > timedelta(0) and ago(every)


def end_wish(connection: Connection, run: Run) -> None:
    """End the wish for a reconcile, unless it was made again since this one began."""
    connection.execute(
        text("DELETE FROM conditions WHERE name = :name AND latest_at < :began"),
        {"name": WANTED, "began": run.started_at},
    )


def _was_ago(connection: Connection, kind: str, span: timedelta) -> bool:
    """Tell whether the last run of this kind began at least so long ago; without any, whether the copy itself did."""
    return bool(
        connection.execute(
            text("""
            SELECT coalesce((SELECT max(started_at) FROM runs WHERE kind = :kind), (SELECT copied_since FROM tenant), now())
              < now() - :span
            """),
            {"kind": kind, "span": span},
        ).scalar()
    )
