"""What the terminal shows: processes' lines under coloured names, and the demo's phases."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

_COLOURS = ("cyan", "green", "magenta", "yellow", "blue")


class ProcessLines:
    """Prints lines under the name of the process that said them, each name in a colour of its own."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._colours: dict[str, str] = {}
        self._printing = threading.Lock()

    def __call__(self, name: str, line: str) -> None:
        with self._printing:
            colour = self._colours.setdefault(name, _COLOURS[len(self._colours) % len(_COLOURS)])
            said = Text.assemble((f"{name:>10} │ ", colour), Text.from_ansi(line))
            self._console.print(said, soft_wrap=True, highlight=False)


class Phases:
    """Shows one phase after another: moving on a terminal, a plain line at the end of each elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._now = ""
        self._progress: Progress | None = None

    def note(self, text: str) -> None:
        """Say in a few words how the phase is getting on."""
        self._now = text
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], now=text)

    @contextmanager
    def phase(self, title: str) -> Iterator[None]:
        """Run one phase; a line with what it ended with and how long it took remains."""
        self._now = ""
        begun = monotonic()
        if self._console.is_terminal:
            columns = (
                SpinnerColumn(),
                TextColumn("{task.description}"),
                TextColumn("[dim]{task.fields[now]}"),
                TimeElapsedColumn(),
            )
            with Progress(*columns, console=self._console, transient=True) as progress:
                progress.add_task(title, total=None, now="")
                self._progress = progress
                try:
                    yield
                finally:
                    self._progress = None
        else:
            yield
        line = Text.assemble(
            ("✓ ", "green"), f"{title:<58}", (f"{monotonic() - begun:5.1f} s  ", "dim"), (self._now, "dim")
        )
        self._console.print(line, soft_wrap=True, highlight=False)
