"""Shows a person at a terminal how far a run over the tenant is: count, rate, time; a line every few seconds where there is no terminal."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress as Bar, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

# Between lines where nobody watches a bar, in seconds.
_EVERY = 10.0


class Watched(Protocol):
    """What a run says of itself."""

    users: int
    percentage: float | None
    total: int | None


@contextmanager
def watching(title: str) -> Iterator[Callable[[Watched], None]]:
    """Lend a function that shows progress on standard error."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _in_lines(title)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} users, {task.fields[rate]}/s"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console) as bar:
        task = bar.add_task(title, total=None, rate="0")
        began: list[tuple[float, int]] = []

        def show(progress: Watched) -> None:
            if progress.percentage is not None:
                bar.update(task, description=f"Auth0 prepares the export: {progress.percentage:.0f} %")
                return
            now = time.monotonic()
            began[:] = began or [(now, progress.users)]
            since, first = began[0]
            rate = (progress.users - first) / (now - since) if now > since else 0.0
            bar.update(task, description=title, completed=progress.users, total=progress.total, rate=f"{rate:,.0f}")

        yield show


def _in_lines(title: str) -> Callable[[Watched], None]:
    said = time.monotonic()
    began: list[tuple[float, int]] = []

    def show(progress: Watched) -> None:
        nonlocal said
        now = time.monotonic()
        began[:] = began or [(now, progress.users)]
        if now - said >= _EVERY:
            said = now
            since, first = began[0]
            print(in_words(title, progress, now - since, progress.users - first), file=sys.stderr)  # noqa: T201 a person reads it

    return show


def in_words(title: str, progress: Watched, seconds: float, done: int) -> str:
    """Say how far a run is that has read `done` users in so many seconds: with its rate, and the time left where that is known."""
    if progress.percentage is not None:
        return f"Auth0 prepares the export: {progress.percentage:.0f} %"
    rate = done / seconds if seconds > 0 else 0.0
    said = f"{title}: {progress.users:,} users, {rate:,.0f}/s"
    if progress.total is None or not rate:
        return said
    left = max(0, progress.total - progress.users) / rate
    return f"{said}, {left:.0f} s left of about {progress.total:,} users"
