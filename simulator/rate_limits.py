"""Auth0's rate limits: token buckets, one global or one per group of endpoints, by plan."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from simulator.clock import Clock

GROUPS = ("global", "read_users", "write_users", "delete_users", "read_logs", "connections", "other")

_SELF_SERVICE = {
    "read_users": (40, 500 / 60),
    "write_users": (20, 200 / 60),
    "delete_users": (20, 200 / 60),
    "read_logs": (10, 100 / 60),
    "connections": (5, 50 / 60),
    "other": (10, 150 / 60),
}
PLANS: dict[str, dict[str, tuple[int, float]]] = {
    "free": {"global": (2, 2)},
    "essentials": _SELF_SERVICE,
    "professional": _SELF_SERVICE,
    "enterprise": {"global": (50, 16)},
    "enterprise-nonprod": {"global": (10, 2)},
    "private-cloud": {"global": (50, 50)},
    "none": {},
}
"""Burst, and tokens per second, by plan and group. Source: Auth0's Rate Limit Configurations, per plan."""

_NO_LIMIT = 1_000_000


@dataclass(frozen=True)
class Grant:
    """Whether a call may pass, and the numbers its answer's headers carry (`reset` in UNIX seconds)."""

    granted: bool
    limit: int
    remaining: int
    reset: int

    def headers(self) -> list[tuple[bytes, bytes]]:
        return [
            (b"x-ratelimit-limit", str(self.limit).encode()),
            (b"x-ratelimit-remaining", str(self.remaining).encode()),
            (b"x-ratelimit-reset", str(self.reset).encode()),
        ]


class TokenBucket:
    """`burst` tokens at most, `rate` new ones a second."""

    def __init__(self, burst: float, rate: float, clock: Clock) -> None:
        self.burst = burst
        self.rate = rate
        self._clock = clock
        self._tokens = float(burst)
        self._seen = clock()

    def take(self, tokens: int = 1) -> Grant:
        """Take a token; with `tokens=0` only look."""
        now = self._clock()
        self._tokens = min(self.burst, self._tokens + max(0.0, now - self._seen) * self.rate)
        self._seen = now
        granted = self._tokens >= tokens
        if granted:
            self._tokens -= tokens
        missing = max(0.0, math.floor(self._tokens) + 1 - self._tokens)
        reset = math.ceil(now + missing / self.rate) if self.rate else math.ceil(now + 60)
        return Grant(granted, int(self.burst), int(self._tokens), reset)


class RateLimits:
    """The buckets of one tenant."""

    def __init__(self, plan: str, clock: Clock) -> None:
        self._clock = clock
        self.plan = plan
        self._buckets: dict[str, TokenBucket] = {}
        self.use_plan(plan)

    def use_plan(self, plan: str) -> None:
        """KeyError for a plan Auth0 does not have."""
        self.use_groups(PLANS[plan])
        self.plan = plan

    def use_groups(self, groups: Mapping[str, tuple[float, float]]) -> None:
        """Limits of one's own: `{group: (burst, per second)}`."""
        self.plan = "custom"
        self._buckets = {name: TokenBucket(burst, rate, self._clock) for name, (burst, rate) in groups.items()}

    def take(self, group: str, tokens: int = 1) -> Grant:
        """One call of the group; the global bucket is asked first, as Auth0 does. `tokens=0` only looks."""
        grant: Grant | None = None
        for name in ("global", group):
            bucket = self._buckets.get(name)
            if bucket is not None:
                grant = bucket.take(tokens)
                if not grant.granted:
                    return grant
        return grant or Grant(granted=True, limit=_NO_LIMIT, remaining=_NO_LIMIT, reset=math.ceil(self._clock()))

    def as_dict(self) -> dict[str, Any]:
        return {"plan": self.plan, "groups": {name: [b.burst, b.rate] for name, b in self._buckets.items()}}


def group_of(method: str, path: str) -> str:
    """Name the endpoint group that Auth0 counts a call in."""
    if path.startswith("/api/v2/users"):  # users-by-email too
        return {"GET": "read_users", "DELETE": "delete_users"}.get(method, "write_users")
    if path.startswith("/api/v2/logs"):
        return "read_logs"
    return "connections" if path.startswith("/api/v2/connections") else "other"
