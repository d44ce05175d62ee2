"""The web process's door to what the music app keeps: asynchronous, bounded, and quick to say that PostgreSQL is away."""

from worker.music.callers import Caller, Callers, Standing
from worker.music.database import Database, WasForgotten
from worker.music.me import Me, Mirror

__all__ = ["Caller", "Callers", "Database", "Me", "Mirror", "Standing", "WasForgotten"]
