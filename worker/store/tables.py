"""All tables in one place: what the migrations are compared with."""

from worker.store import music, upkeep
from worker.store.models import metadata

__all__ = ["metadata", "music", "upkeep"]
