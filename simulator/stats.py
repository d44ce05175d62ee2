"""Counters of what the tenant was asked and what it did."""

from collections import Counter
from typing import Any


class Stats:
    """Counts since the start or the last reset."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.logs_written = 0
        self.token_fetches = 0
        self.jwks_fetches = 0
        self.rate_limited = 0
        self.api_calls: Counter[str] = Counter()
        self.api_statuses: Counter[str] = Counter()
        self.deliveries: Counter[str] = Counter()

    def as_dict(self) -> dict[str, Any]:
        return {
            "logs_written": self.logs_written,
            "token_fetches": self.token_fetches,
            "jwks_fetches": self.jwks_fetches,
            "rate_limited": self.rate_limited,
            "api_calls": dict(self.api_calls),
            "api_calls_total": self.api_calls.total(),
            "api_statuses": dict(self.api_statuses),
            "deliveries": {name: self.deliveries[name] for name in ("attempted", "accepted", "failed", "records")},
        }
