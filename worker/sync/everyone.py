"""Everybody in the tenant, a batch at a time: the lines of an export, or, where none is to be had, the pages of searches."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, Final, TypeVar

from worker.auth0.exports import COVERS, Exports, FileLost, Job, NoExport
from worker.auth0.pace import Budget
from worker.auth0.windows import Page, Windows
from worker.domain.windows import CAP, Place, step
from worker.errors import Error, TenantDown
from worker.logs import get_logger
from worker.sync.ahead import ahead
from worker.sync.patience import complete_job, when_allowed

# Large enough that one statement carries many, small enough that memory stays flat and a kill costs little.
BATCH: Final = 1_000
# How often it is tried where the tenant fails at the same place, before the run is left for later, or goes on without a file.
TRIES: Final = 5

Position = dict[str, Any]
"""How far a run is, as it is kept: `job` and `lines` of an export, or the `windows` still to be searched and `seen` of the first."""

log = get_logger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Batch:
    """Some users, and the position behind them.

    `covers`: the attributes that their source declares, None for whole profiles (P2). `unread`: how many there are that no
    search can show. `first`: nobody stands before it, so what was counted before is counted once more.
    """

    lines: Sequence[bytes] = field(repr=False)
    position: Position
    covers: frozenset[str] | None
    unread: int = 0
    first: bool = False


@dataclass(frozen=True, slots=True)
class Everyone:
    """The users of a tenant, over what it takes to read them."""

    exports: Exports
    windows: Windows
    budget: Budget

    def total(self) -> int | None:
        """Return about how many there are, None where that cannot be told now."""
        try:
            return when_allowed(self.budget, "read_users", self.windows.total)
        except Error:
            return None

    def batches(
        self, position: Position, note: Callable[[Position], None], preparing: Callable[[float], None]
    ) -> Generator[Batch, None, None]:
        """Yield everybody behind `position`; sleeps for the budget and for the export. Where it breaks off, it is tried again.

        Where the file of an export is lost for good, everybody is searched, from the first one on.
        `note` keeps a position that stands for no rows, `preparing` hears how far Auth0 is with the export.
        """
        tries = 0

        def keep(reached: Position) -> None:
            nonlocal position
            position = reached
            note(reached)

        while True:
            try:
                with closing(self._batches(position, keep, preparing)) as batches:
                    for batch in batches:
                        yield batch
                        position, tries = batch.position, 0
                    return
            except TenantDown as error:
                tries += 1
                if tries < TRIES:
                    log.warning("reading the tenant broke off, tried again", reason=str(error))
                elif isinstance(error, FileLost):  # the API has told where it lies each time: the tenant is not down
                    keep(by_search(error))
                    tries = 0
                else:
                    raise

    def _batches(
        self, position: Position, note: Callable[[Position], None], preparing: Callable[[float], None]
    ) -> Generator[Batch, None, None]:
        job = None
        if not searches(position):
            try:
                job, position = complete_job(self.exports, self.budget, position, note, preparing)
            except NoExport as refused:
                position = by_search(refused)
                note(position)
        yield from self.searched(position) if job is None else exported(self.exports, job, position)

    def searched(self, position: Position) -> Generator[Batch, None, None]:
        """Yield a search's page at a time, each as soon as the budget allows it."""
        while (place := _place(position)).windows:
            page = when_allowed(self.budget, "read_users", partial(self.windows.page, place))
            if page is not None:
                batch = behind(page, place)
                yield batch
                position = batch.position


def exported(exports: Exports, job: Job, position: Position) -> Generator[Batch, None, None]:
    """Yield the lines of a complete job behind `position`; raises FileLost where the file cannot be read to its end."""
    done: int = position["lines"]
    lines = exports.lines(job)  # not closed here: the thread that reads ahead may be at it, and lets go of it
    if sum(1 for _ in islice(lines, done)) < done:
        raise FileLost("the export holds fewer lines than before")
    with closing(ahead(in_batches(lines, BATCH))) as batches:
        for batch in batches:
            done += len(batch)
            yield Batch(batch, {**position, "lines": done}, COVERS, first=done == len(batch))


def by_search(refused: NoExport | FileLost) -> Position:
    """Return where to begin without an export, and say so."""
    log.warning("no export is to be had, the tenant is searched by windows of created_at", reason=str(refused))
    return _kept(Place())


def searches(position: Position) -> bool:
    """Tell whether a run goes by searches."""
    return "windows" in position


def next_page(windows: Windows, position: Position) -> Batch | None:
    """Search once more; None at the end. Callers take from the budget before."""
    place = _place(position)
    if not place.windows:
        return None
    page = windows.page(place)
    return behind(page, place) if page is not None else Batch([], position, None)


def behind(page: Page, place: Place) -> Batch:
    """Return what counts of a page, and where to go on."""
    then = step(place, page.shown)
    return Batch(page.users[: then.taken], _kept(then.place), None, then.unread, first=place == Place())


def _place(position: Mapping[str, Any]) -> Place:
    return Place(tuple((low, high) for low, high in position["windows"]), position["seen"])


def _kept(place: Place) -> Position:
    return {"windows": [list(window) for window in place.windows], "seen": place.seen}


def incomplete(unread: int) -> str:
    """Say that so many could not be read, and why."""
    return (
        f"incomplete: {unread} users cannot be read, since more than {CAP} were created in their millisecond and a search shows "
        "no more; they come with their next login, or with an export where Auth0 allows one"
    )


def not_read(bad: int) -> str:
    """Say that so many users could not be understood, and where they are."""
    return f"incomplete: {bad} users could not be read and were parked: see why with `understudy parked list`"


def in_batches(items: Iterator[T], size: int) -> Iterator[list[T]]:
    """Yield lists of `size` items, the last one shorter."""
    while batch := list(islice(items, size)):
        yield batch
