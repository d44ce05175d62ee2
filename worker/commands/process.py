"""Lends a command what its process is made of."""

from collections.abc import Iterator
from contextlib import contextmanager

from worker.bootstrap import Parts
from worker.settings import settings
from worker.store.session import reaching_postgresql


@contextmanager
def lent_parts() -> Iterator[Parts]:
    """Lend this process's parts; PostgreSQL's absence becomes a sentence."""
    parts = Parts(settings())
    with reaching_postgresql():
        yield parts
