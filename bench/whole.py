"""Runs over a whole tenant, timed: `python -m bench.whole export|backfill|verify|reconcile ANSWER`, with the product's own settings.

ANSWER (JSON): what the run reports, and `seconds`: from the moment the finished export is opened, so that the wait for
Auth0's job is left out, until everything is committed.
"""

import json
import sys
import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

from worker.auth0.exports import Exports, Job
from worker.bootstrap import Parts
from worker.logs import configure
from worker.settings import settings
from worker.store import notes, runs
from worker.sync.patience import complete_job
from worker.sync.reconcile import WANTED

_opened: list[float] = []


class _Watched(Exports):
    def lines(self, job: Job) -> Generator[bytes, None, None]:
        _opened.append(time.perf_counter())
        return super().lines(job)


def main() -> None:
    """Run it."""
    parts = Parts(settings())
    configure(parts.settings, sys.stderr)
    report = {"export": _export, "backfill": _backfill, "verify": _verify, "reconcile": _reconcile}[sys.argv[1]](parts)
    seconds = time.perf_counter() - _opened[0] if _opened else None
    Path(sys.argv[2]).write_text(json.dumps({**report, "seconds": seconds}))


def _exports(parts: Parts) -> _Watched:
    return _Watched(parts.tenant, parts.settings)


def _export(parts: Parts) -> dict[str, Any]:
    """Have an export made; nothing is read."""
    job, _ = complete_job(_exports(parts), parts.budget, {}, lambda _: None, lambda _: None)
    return {"job": job.id}


def _backfill(parts: Parts) -> dict[str, Any]:
    loop = parts.backfill(lambda _: None)
    loop.everyone = replace(loop.everyone, exports=_exports(parts))
    return loop.run().as_dict()


def _verify(parts: Parts) -> dict[str, Any]:
    loop = parts.verify(lambda _: None, repair=False, allow_deletes=0)
    loop.everyone = replace(loop.everyone, exports=_exports(parts))
    return loop.run().report()


def _reconcile(parts: Parts) -> dict[str, Any]:
    """Run one that is wanted to its end, as often as it asks to be rung."""
    with parts.engine.begin() as connection:
        notes.raise_condition(connection, WANTED, "to be measured")
    loop = parts.reconcile()
    loop.exports = _exports(parts)
    while (again := loop.run(go_on=lambda: True)) is not None:
        time.sleep(min(again, 0.2))
    with parts.engine.connect() as connection:
        found = runs.last(connection, "reconcile")
    assert found is not None
    return {"state": found[0], **found[3]}


if __name__ == "__main__":
    main()
