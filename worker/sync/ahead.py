"""Reads ahead in a thread, so that a file is fetched and unpacked while PostgreSQL works."""

import threading
from collections.abc import Generator, Iterator
from queue import Queue
from typing import Final, TypeVar

# Enough to even out; each holds as much as one batch, and memory stays flat.
_AHEAD: Final = 2
# In seconds: how long a reader may take to notice that nobody wants more. It never outlives the process.
_PATIENCE: Final = 1.0

T = TypeVar("T")


def ahead(items: Iterator[T]) -> Generator[T, None, None]:
    """Yield what `items` yields, and raise what it raises; a few are taken from it before they are asked for.

    `items` runs in a thread of its own: nothing else may use it, nor close it, until this is closed.
    """
    queue: Queue[tuple[bool, T | BaseException | None]] = Queue(_AHEAD)
    enough = threading.Event()

    def take() -> None:
        try:
            for item in items:
                queue.put((True, item))
                if enough.is_set():
                    return
            queue.put((False, None))
        except BaseException as error:  # noqa: BLE001 it is raised where the items are wanted
            queue.put((False, error))

    thread = threading.Thread(target=take, name="reading ahead", daemon=True)
    thread.start()
    try:
        while True:
            more, found = queue.get()
            if isinstance(found, BaseException):
                raise found
            if not more:
                return
            yield found  # type: ignore[misc] # an item
    finally:
        enough.set()
        while not queue.empty():
            queue.get_nowait()
        thread.join(_PATIENCE)
