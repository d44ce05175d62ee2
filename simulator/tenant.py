"""One simulated tenant: its state, put together from its parts."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from simulator.actions import Actions
from simulator.applications import Applications
from simulator.clock import Clock
from simulator.connections import Connections
from simulator.directory import Directory
from simulator.event_streams import EventStreams
from simulator.events import Events
from simulator.faults import Faults
from simulator.jobs import Jobs
from simulator.journal import Journal
from simulator.log_streams import LogStreams
from simulator.logins import Logins
from simulator.logs import LogBook, LogRecord
from simulator.oauth import DEFAULT_SCOPES, Authority
from simulator.rate_limits import Grant, RateLimits
from simulator.search_index import SearchIndex
from simulator.signing_keys import SigningKeys
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
        self.chance = random.Random(f"chance {seed}")
        self.stats = Stats()
        self.search = SearchLimits()
        self.index = SearchIndex(clock, index_lag)
        self.events = Events(clock, random.Random(f"events {seed}"), name)
        self.users = Users(self._on_change)
        self.connections = Connections()
        self.directory = Directory(self.users, self.connections, clock, random.Random(f"ids {seed}"))
        self.faults = Faults(random.Random(f"faults {seed}"))
        self.limits = RateLimits(plan, clock)
        self.streams = LogStreams(clock, random.Random(f"streams {seed}"), self.faults, self.stats)
        self.jobs = Jobs(clock, random.Random(f"jobs {seed}"))
        self.event_streams = EventStreams(clock, random.Random(f"event streams {seed}"), self.faults, name)
        self.events.on_event.append(self.event_streams.offer)
        self.logs = LogBook(
            clock,
            random.Random(f"logs {seed}"),
            name,
            skew=log_skew,
            retention=log_retention,
            on_record=self._on_record,
        )
        self.journal = Journal(self.logs, clock, random.Random(f"journal {seed}"), f"{name}.example.com")
        self.keys = SigningKeys()
        self.logins = Logins(clock)
        self.actions = Actions(clock, random.Random(f"actions {seed}"))
        self.applications = Applications(random.Random(f"clients {seed}"))
        self.authority = Authority(clock, self.applications, self.keys)
        self.default_client = self.applications.new_client(DEFAULT_SCOPES, "Default machine client")
        self._limit_logged: dict[bool, float] = {}

    def note_grant(self, grant: Grant) -> None:
        """Count a 429. The tenant log mentions a limit that is reached, or used to 80 %, once a minute each."""
        if not grant.granted:
            self.stats.rate_limited += 1
        elif grant.remaining > grant.limit * 0.2:
            return
        reached = not grant.granted
        if self.clock() - self._limit_logged.get(reached, 0.0) >= _SECONDS_BETWEEN_LIMIT_LOGS:
            self._limit_logged[reached] = self.clock()
            self.journal.api_limit(reached=reached)

    def _on_change(self, old: User | None, new: User | None) -> None:
        changed = new or old
        if changed is not None:
            self.index.note(changed.user_id, new)
        self.events.note(old, new)

    def _on_record(self, record: LogRecord) -> None:
        self.stats.logs_written += 1
        self.streams.offer(record)
