"""Looks at the local copy by SQL: what it holds, whether anything is left to do, when a login shows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import psycopg
from psycopg.rows import class_row

from local.simulated_tenant import SimulatedTenant

_COUNTS = """
    SELECT (SELECT count(*) FROM users WHERE deleted_at IS NULL) AS live,
           (SELECT count(*) FROM users WHERE deleted_at IS NOT NULL) AS deleted,
           (SELECT count(*) FROM news) AS marks,
           (SELECT count(*) FROM pushes WHERE due_at < 'infinity') AS pushes,
           (SELECT count(*) FROM inbox) AS deliveries,
           (SELECT count(*) FROM inbox WHERE state = 'pending') AS pending,
           (SELECT count(*) FROM parked) + (SELECT count(*) FROM inbox WHERE state = 'parked') AS parked
"""
_LOGIN_SEEN = """
    SELECT EXISTS (SELECT FROM news WHERE user_id = %(id)s AND login_seen_at IS NOT NULL)
        OR EXISTS (SELECT FROM users WHERE user_id = %(id)s AND login_seen_at IS NOT NULL)
"""


@dataclass(frozen=True)
class Counts:
    """How much there is of everything."""

    live: int
    deleted: int
    marks: int
    pushes: int
    deliveries: int
    pending: int
    parked: int


class CopyWatch:
    """Connections to the copy's database, one for each thread that looks."""

    def __init__(self, database_url: str, tenant: SimulatedTenant) -> None:
        self.database_url = database_url
        self._tenant = tenant
        self._local = threading.local()
        self._opened: list[psycopg.Connection] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in self._opened:
            connection.close()

    def _connection(self) -> psycopg.Connection:
        connection: psycopg.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = psycopg.connect(self.database_url, autocommit=True)
            self._opened.append(connection)
        return connection

    def counts(self) -> Counts:
        """Count everything."""
        with self._connection().cursor(row_factory=class_row(Counts)) as cursor:
            counts = cursor.execute(_COUNTS).fetchone()
        if counts is None:
            raise LookupError
        return counts

    def is_quiet(self) -> bool:
        """Say whether nothing is on its way to us or from us, pending or marked."""
        on_the_way = self._tenant.control("GET", "stats")["pending"]
        counts = self.counts()
        return not any(on_the_way.values()) and counts.pending == counts.marks == counts.pushes == 0

    def time_to_see_login(self, user_id: str, patience: float) -> float | None:
        """Wait until the first login of this user shows; return the seconds it took, None after `patience` seconds."""
        begun = time.monotonic()
        while (waited := time.monotonic() - begun) < patience:
            row = self._connection().execute(_LOGIN_SEEN, {"id": user_id}).fetchone()
            if row is not None and row[0]:
                return time.monotonic() - begun
            time.sleep(0.002 if waited < 1 else 0.02)
        return None

    @contextmanager
    def noting(self, note: Callable[[str], None]) -> Iterator[None]:
        """Call `note` with the counts in words, twice a second."""
        over = threading.Event()

        def look() -> None:
            while not over.wait(0.5):
                counts = self.counts()
                note(f"{counts.live:,} users, {counts.marks:,} to look at, {counts.pending:,} deliveries waiting")

        looking = threading.Thread(target=look, daemon=True)
        looking.start()
        try:
            yield
        finally:
            over.set()
            looking.join()
