"""A copy that pulls what a simulated tenant tells: builders for the tests of every pulled feed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import timedelta
from typing import Any

import msgspec
from redis import Redis
from sqlalchemy import Engine, text

from tests.simulator.running import Simulator
from worker.auth0.client import Tenant
from worker.auth0.log_pages import LogPages
from worker.auth0.pace import Budget
from worker.domain.users import Tolerances
from worker.settings import Settings
from worker.store import feeds
from worker.sync.catch_up import CatchUp
from worker.sync.drain import take_turns
from worker.sync.learn import LogRecords
from worker.sync.pulled import PulledRecords
from worker.sync.refresh import Refresh
from worker.sync.snapshots import PULLED, EventStream

TOLERANCES = Tolerances(timedelta(seconds=5), timedelta(seconds=60))
OVERLAP = timedelta(minutes=10)


class Copy:
    """The parts of a worker that pulls, over one database and one tenant."""

    def __init__(self, engine: Engine, auth0: Simulator, settings: Settings, redis: Redis, tenant: Tenant) -> None:
        self.engine, self.auth0, self.settings = engine, auth0, settings
        self.redis, self.tenant, self.budget = redis, tenant, Budget(redis, settings)

    def pull_logs(self, overlap: timedelta = OVERLAP, *, pages: int = 1000) -> float | None:
        """Pull the log, at most so many pages."""
        left = iter(range(pages))
        loop = CatchUp(self.engine, LogPages(self.tenant), self.budget, overlap)
        while again := loop.run(go_on=lambda: next(left, None) is not None):
            time.sleep(again)
        return again

    def drain(self) -> None:
        """Drain everything that is pending."""
        events = EventStream(TOLERANCES), EventStream(TOLERANCES, PULLED, hurried=False)
        sources = (*events, LogRecords(noting=True), PulledRecords())
        take_turns(self.engine, sources, go_on=lambda: True, ring=lambda _: None)

    def refresh(self) -> None:
        """Read everybody who has news."""
        loop = Refresh(self.engine, self.tenant, self.budget, TOLERANCES, b"key")
        while (again := loop.run(go_on=lambda: True)) is not None:
            time.sleep(again)

    def is_delivered(self, records: list[dict[str, Any]], source: str = "logs") -> None:
        """Store what a webhook would have stored."""
        with self.engine.begin() as connection:
            feeds.put(connection, source, [msgspec.json.encode(records)])

    def ask(self, sql: str, **values: Any) -> list[Any]:
        """Return the rows of a query."""
        with self.engine.begin() as connection:
            return list(connection.execute(text(sql), values))

    def tell(self, sql: str, **values: Any) -> None:
        """Execute a statement."""
        with self.engine.begin() as connection:
            connection.execute(text(sql), values)

    @property
    def marks(self) -> int:
        """How often anybody was marked, ever."""
        last, called = self.ask("SELECT last_value, is_called FROM news_number")[0]
        return int(last) if called else 0

    def count(self, name: str) -> int:
        """A counter's value."""
        return int(sum(row.value for row in self.ask("SELECT value FROM counters WHERE name = :name", name=name)))

    def conditions(self) -> dict[str, str]:
        """What needs a human, or a loop."""
        return {row.name: row.detail for row in self.ask("SELECT name, detail FROM conditions")}


@contextmanager
def copy_of(auth0: Simulator, engine: Engine, redis_url: str, **chosen: Any) -> Iterator[Copy]:
    """Open a copy of that tenant."""
    settings = Settings.model_validate(
        {
            "database_url": "postgresql://nobody@127.0.0.1/none",
            "redis_url": redis_url,
            "auth0_domain": auth0.ready["domain"],
            "auth0_ca_file": auth0.ready["ca_file"],
            "auth0_m2m_client_id": auth0.ready["client_id"],
            "auth0_m2m_client_secret": auth0.ready["client_secret"],
            "auth0_limits": {"global": (5000.0, 5000.0)},
            "auth0_budget_share": 1,
            **chosen,
        }
    )
    with ExitStack() as opened:
        redis = opened.enter_context(Redis.from_url(redis_url))
        tenant = opened.enter_context(closing(Tenant(settings, redis, Budget(redis, settings))))
        yield Copy(engine, auth0, settings, redis, tenant)
