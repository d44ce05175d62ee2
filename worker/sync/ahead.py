"""Does things ahead in threads: a file is fetched and unpacked while PostgreSQL works, and PostgreSQL works on two batches at once."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Queue
from typing import Final, TypeVar

# Enough to even out; each holds as much as one batch, and memory stays flat.
_AHEAD: Final = 2
# In seconds: how long a reader may take to notice that nobody wants more. It never outlives the process.
_PATIENCE: Final = 1.0
# More than two would each need a connection of their own, and hardly be faster.
_AT_ONCE: Final = 2

T = TypeVar("T")
R = TypeVar("R")


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


def side_by_side(work: Callable[[T], R], items: Iterable[T]) -> Generator[tuple[T, R], None, None]:
    """Yield each item with what `work` makes of it, in order; meanwhile the next one is worked on in another thread.

    At most two are under way, one of them while the caller is at the result of the one before.
    """
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        under_way: deque[tuple[T, Future[R]]] = deque()
        for item in items:
            under_way.append((item, pool.submit(work, item)))
            if len(under_way) == _AT_ONCE:
                first, done = under_way.popleft()
                yield first, done.result()
        for first, done in under_way:
            yield first, done.result()
