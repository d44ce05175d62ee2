"""The web process's door to what the music app keeps: asynchronous, bounded, and quick to say that PostgreSQL is away."""

from worker.library.callers import Caller, Callers, Standing
from worker.library.database import Database
from worker.library.me import Me, Mirror

__all__ = ["Caller", "Callers", "Database", "Me", "Mirror", "Standing"]
