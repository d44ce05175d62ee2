"""Reconcile: the whole tenant once a day, by an export and in slices; what is newer there is taken, what is doubtful is asked for."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import Any, Final

from sqlalchemy import Connection, Engine, text

from worker.auth0.exports import Exports, Job, JobFailed, JobGone
from worker.auth0.pace import Budget
from worker.domain.users import Tolerances
from worker.errors import TenantDown
from worker.logs import get_logger
from worker.store import comparisons, notes, runs, users
from worker.store.runs import Run
from worker.store.users import UserNews
from worker.sync.backfill import BATCH, batches, load, profiles

WANTED: Final = "reconcile_wanted"
# Until Auth0 is asked again how far the export is, in seconds.
_LOOK_AGAIN: Final = 15.0
_MARKED_AT_ONCE: Final = 1_000

log = get_logger(__name__)


@dataclass(slots=True)
class Reconcile:
    """The loop, over what it needs. `run` never sleeps: it says when to ring again."""

    engine: Engine
    exports: Exports
    budget: Budget
    tolerances: Tolerances
    every: timedelta
    """How often, at the least; a wanted one comes at once. Zero: never by itself."""

    def run(self, *, go_on: Callable[[], bool]) -> float | None:
        """Do a slice of a reconcile, if one is due or under way; return after how many seconds to ring again, None for not at all.

        Only a file read to its end, and everybody in doubt marked, is called complete.
        """
        with self.engine.begin() as connection:
            if not due(connection, self.every):
                return None
            run = runs.begin(connection, "reconcile")
        if run is None:
            return None
        try:
            return self._slice(run, go_on)
        except (JobGone, JobFailed) as error:
            with self.engine.begin() as connection:
                comparisons.forget(connection, run.id)
                runs.end(connection, run.id, "failed", {**run.report, "reason": str(error)})
            raise
        finally:
            with self.engine.begin() as connection:
                runs.release(connection, run.id)

    def _slice(self, run: Run, go_on: Callable[[], bool]) -> float | None:
        grant = self.budget.take("other", "mass")
        if not grant.granted:
            return max(grant.wait, 1.0)
        job_id: str | None = run.position.get("job")
        job = self.exports.look(job_id) if job_id else self.exports.begin()
        position: dict[str, Any] = {"job": job.id, "lines": run.position.get("lines", 0)}
        with self.engine.begin() as connection:
            runs.keep(connection, run.id, position)
        if not job.done:
            return _LOOK_AGAIN
        if not self._read(run, job, position, go_on):
            return 0
        self._doubt_the_rest(run)
        return None

    def _read(self, run: Run, job: Job, position: dict[str, Any], go_on: Callable[[], bool]) -> bool:
        """Go on reading the file; tell whether its end was reached."""
        report = {"users": 0, "written": 0, "bad": 0, **run.report}
        with closing(self.exports.lines(job)) as lines:
            if sum(1 for _ in islice(lines, position["lines"])) < position["lines"]:
                raise TenantDown("the export holds fewer lines than before")
            for batch in batches(lines, BATCH):
                told, bad = profiles(batch)
                loaded = load(self.engine, told, self.tolerances)
                position["lines"] += len(batch)
                report["users"] += len(told)
                report["written"] += loaded.changed
                report["bad"] += len(bad) + len(loaded.refused)
                with self.engine.begin() as connection:
                    comparisons.note(connection, run.id, dict.fromkeys(told))
                    notes.park_records(
                        connection, "export", [(run.id, position["lines"], why, raw) for why, raw in bad]
                    )
                    runs.keep(connection, run.id, position, report)
                if not go_on():
                    return False
        run.report.update(report)
        return True

    def _doubt_the_rest(self, run: Run) -> None:
        """Mark for a strong read who is live here and was not in the export: absence alone deletes nobody (P12)."""
        with self.engine.begin() as connection:
            extra = comparisons.suspect_extra(connection, run.id, run.started_at)
        after, left = "", True
        while left:
            with self.engine.begin() as connection:
                suspects = comparisons.suspects(connection, run.id, after, _MARKED_AT_ONCE)
                users.mark(connection, [UserNews(user_id, strong=True) for user_id, _ in suspects])
            left = bool(suspects)
            after = suspects[-1][0] if suspects else after
        report = {**run.report, "extra": extra}
        with self.engine.begin() as connection:
            comparisons.forget(connection, run.id)
            runs.end(connection, run.id, "complete", report)
            end_wish(connection, run)
        log.info("reconciled", **report)


def due(connection: Connection, every: timedelta) -> bool:
    """Tell whether a run is under way, wanted, or a while ago. What failed is tried again after an hour."""
    found = runs.last(connection, "reconcile")
    if found is not None and found[0] == "running":
        return True
    ago = partial(_was_ago, connection, "reconcile")
    if found is not None and found[0] == "failed" and not ago(timedelta(hours=1)):
        return False
    wanted = connection.execute(text("SELECT 1 FROM conditions WHERE name = :name"), {"name": WANTED}).first()
    return wanted is not None or (every > timedelta(0) and ago(every))


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
