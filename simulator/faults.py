"""Faults that a test sets: what goes wrong, where, how often."""

from __future__ import annotations

import random
import re
from dataclasses import asdict, dataclass, field
from typing import Any

WHERE = ("api", "token", "jwks", "stream", "event", "pull", "export")
KINDS = (
    "status",
    "delay",
    "drop",
    "hang",
    "html",
    "duplicate",
    "reorder",
    "mask_pii",
    "missing_user",
    "lose",
    "error",
    "fail",
    "expire",
    "truncate",
)


@dataclass
class Fault:
    """One thing that goes wrong. `match` narrows it to a method and a regular expression on the path."""

    where: str
    kind: str
    match: dict[str, str] = field(default_factory=dict)
    status: int = 500
    seconds: float | None = None
    probability: float = 1.0
    times: int | None = None
    message: str | None = None

    def __post_init__(self) -> None:
        if self.where not in WHERE:
            raise ValueError(f"where is one of {', '.join(WHERE)}")
        if self.kind not in KINDS:
            raise ValueError(f"kind is one of {', '.join(KINDS)}")
        self.path = re.compile(self.match.get("path", ""))

    def fits(self, where: str, method: str, path: str) -> bool:
        wanted = self.match.get("method", method).upper()
        if self.kind == "missing_user" and not (method == "GET" and re.fullmatch(r"/api/v2/users/[^/]+", path)):
            return False
        return self.where == where and self.times != 0 and wanted == method and self.path.search(path) is not None


class Faults:
    """The faults in force, in the order they were set."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._faults: list[Fault] = []

    def set(self, faults: list[dict[str, Any]]) -> None:
        """Replace all faults. ValueError or TypeError for one that makes no sense."""
        self._faults = [Fault(**fault) for fault in faults]

    def strike(
        self, where: str, method: str = "POST", path: str = "", kinds: frozenset[str] = frozenset(KINDS)
    ) -> list[Fault]:
        """Find the faults of these kinds that hit this call; each one's `times` is counted down."""
        struck = []
        for fault in self._faults:
            if fault.kind in kinds and fault.fits(where, method, path) and self._rng.random() < fault.probability:
                if fault.times is not None:
                    fault.times -= 1
                struck.append(fault)
        return struck

    def as_list(self) -> list[dict[str, Any]]:
        return [asdict(fault) for fault in self._faults]
