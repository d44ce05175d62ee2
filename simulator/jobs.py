"""Jobs: exports and imports under way or done, the links to their files, and when both are gone."""

from __future__ import annotations

import asyncio
import random
import string
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simulator.clock import Clock, iso
from simulator.errors import ApiError


@dataclass
class JobPace:
    """How jobs go. Links and files live as long as Auth0's (Bulk User Exports), the rest is a guess."""

    export_seconds: float = 1.0
    """The least time an export takes; it reads the users all the while."""
    import_seconds: float = 1.0
    link_seconds: float = 60.0
    keep_seconds: float = 86_400.0
    gzip: bool = True


@dataclass
class Job:
    """One job: what was asked, how far it is, and its file."""

    id: str
    type: str
    asked: dict[str, Any]
    """What of the request the answers repeat."""
    created: float
    status: str = "pending"
    done: int = 0
    total: int = 0
    status_details: str | None = None
    summary: dict[str, int] | None = None
    errors: list[dict[str, Any]] = field(default_factory=list)
    file: Path | None = None

    def as_dict(self, seconds_left: float = 0.0) -> dict[str, Any]:
        """As the Management API answers it, but for the link."""
        told = {"type": self.type, "status": self.status, **self.asked, "created_at": iso(self.created), "id": self.id}
        if self.status == "pending" and self.done:
            percentage = min(99, 100 * self.done // max(1, self.total))
            told |= {"percentage_done": percentage, "time_left_seconds": max(0, round(seconds_left))}
        if self.status == "completed" and self.type == "users_export":
            told["percentage_done"] = 100
        extra = {"status_details": self.status_details, "summary": self.summary}
        return {**told, **{name: value for name, value in extra.items() if value is not None}}


class Jobs:
    """The jobs of one tenant."""

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        self.pace = JobPace()
        self.folder: Path | None = None
        """Where files are written; set before the first export."""
        self._clock = clock
        self._rng = rng
        self._jobs: dict[str, Job] = {}
        self._links: dict[str, tuple[str, float]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __iter__(self) -> Iterator[Job]:
        return iter(list(self._jobs.values()))

    def new(self, kind: str, asked: dict[str, Any]) -> Job:
        job = Job(f"job_{self._text(16)}", kind, asked, self._clock())
        self._jobs[job.id] = job
        return job

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Carry out a job's work beside everything else. Needs a running event loop."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def get(self, job_id: str) -> Job:
        """ApiError 404 when there is none, or it is too long ago."""
        self._let_go()
        if job_id not in self._jobs:
            raise ApiError(404, "The job does not exist", "inexistent_job")
        return self._jobs[job_id]

    def active(self, kind: str) -> int:
        return sum(job.type == kind and job.status == "pending" for job in self._jobs.values())

    def seconds_left(self, job: Job) -> float:
        passed = self._clock() - job.created
        return passed * (job.total - job.done) / max(1, job.done)

    def file_for(self, job: Job, suffix: str) -> Path:
        if self.folder is None:
            raise ApiError(500, "There is no folder for exports")
        job.file = self.folder / f"{job.id}{suffix}"
        return job.file

    def new_link(self, job: Job) -> str:
        """Answer a key to the job's file, good for `link_seconds`."""
        key = self._text(40)
        self._links[key] = (job.id, self._clock() + self.pace.link_seconds)
        return key

    def file_behind(self, key: str) -> Path | None:
        """Answer the file a key opens; None when it never did, or does no more."""
        self._let_go()
        job_id, _ = self._links.get(key, ("", 0.0))
        job = self._jobs.get(job_id)
        return job.file if job is not None else None

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for job in self:
            self._remove(job)

    def _let_go(self) -> None:
        """Forget jobs, files and links that are too old."""
        now = self._clock()
        for job in self:
            if now - job.created > self.pace.keep_seconds and job.status != "pending":
                self._remove(job)
        self._links = {key: link for key, link in self._links.items() if link[1] >= now}

    def _remove(self, job: Job) -> None:
        del self._jobs[job.id]
        if job.file is not None:
            job.file.unlink(missing_ok=True)

    def _text(self, length: int) -> str:
        return "".join(self._rng.choices(string.ascii_letters + string.digits, k=length))
