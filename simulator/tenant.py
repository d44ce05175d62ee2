"""One simulated tenant: its state, put together from its parts."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from simulator.clock import Clock
from simulator.directory import Directory
from simulator.faults import Faults
from simulator.journal import Journal
from simulator.log_streams import LogStreams
from simulator.logs import LogBook, LogRecord
from simulator.oauth import DEFAULT_SCOPES, Authority
from simulator.rate_limits import RateLimits
from simulator.search_index import SearchIndex
from simulator.stats import Stats
from simulator.users import User, Users

_SECONDS_BETWEEN_LIMIT_LOGS = 60


@dataclass
class SearchLimits:
    """What a user search may ask for."""

    per_page_max: int = 100
    q_max: int = 6000
    """Characters of `q` beyond which the answer is 414; Auth0 does not document its own number."""
    timeout_probability: float = 0.0


class Tenant:
    """Everything the tenant knows. Two with one seed, asked the same in the same order, do the same."""

    def __init__(
        self, name: str = "simulated", *, seed: int = 1, plan: str = "enterprise", index_lag: float = 0.5, log_skew: float = 5.0,
        log_retention: int = 100_000, clock: Clock = time.time,
    ) -> None:  # fmt: skip
        self.name = name
        self.clock = clock
        self.rng = random.Random(f"people {seed}")
        self.stats = Stats()
        self.search = SearchLimits()
        self.index = SearchIndex(clock, index_lag)
        self.users = Users(self.index.note)
        self.directory = Directory(self.users, clock, random.Random(f"ids {seed}"))
        self.faults = Faults(random.Random(f"faults {seed}"))
        self.limits = RateLimits(plan, clock)
        self.streams = LogStreams(clock, random.Random(f"streams {seed}"), self.faults, self.stats)
        self.logs = LogBook(
            clock,
            random.Random(f"logs {seed}"),
            name,
            skew=log_skew,
            retention=log_retention,
            on_record=self._on_record,
        )
        self.journal = Journal(self.logs, clock, random.Random(f"journal {seed}"), f"{name}.example.com")
        self.authority = Authority(clock, random.Random(f"clients {seed}"))
        self.default_client = self.authority.new_client(DEFAULT_SCOPES, "Default machine client")
        self._limit_logged = 0.0

    def load(self, users: list[User]) -> None:
        """Add users that were there before the story began: no logs, in the index at once."""
        for user in users:
            self.users.put(user)
        self.index.catch_up()

    def note_rate_limited(self) -> None:
        """Count a 429; the tenant log mentions them once a minute."""
        self.stats.rate_limited += 1
        if self.clock() - self._limit_logged >= _SECONDS_BETWEEN_LIMIT_LOGS:
            self._limit_logged = self.clock()
            self.journal.api_limit(reached=True)

    def _on_record(self, record: LogRecord) -> None:
        self.stats.logs_written += 1
        self.streams.offer(record)
