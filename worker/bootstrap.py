"""Assembles a process: settings, PostgreSQL, Redis, the tenant, each opened on first use, after the fork."""

import socket
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import cached_property, lru_cache, partial
from typing import Any

from celery import Celery
from redis import Redis
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from worker.auth0.client import Tenant
from worker.auth0.event_feed import EventFeed
from worker.auth0.exports import Exports
from worker.auth0.log_pages import LogPages
from worker.auth0.pace import Budget
from worker.auth0.streams import Kind, Streams
from worker.auth0.windows import Windows
from worker.domain.feeds import event_connections, log_retention
from worker.domain.roles import rules
from worker.domain.users import Profile, Tolerances
from worker.errors import BrokerDown, DatabaseDown, Error
from worker.queue import Doorbell, Witness, connect_redis, make_celery
from worker.settings import Settings, settings
from worker.setup.run import EVENTS, LOGS, probe
from worker.store import notes, schema
from worker.store.session import make_engine
from worker.sync import catch_up, heal, listen
from worker.sync.backfill import Backfill, Progress
from worker.sync.catch_up import CatchUp
from worker.sync.count import Plays
from worker.sync.drain import Source
from worker.sync.durations import Durations
from worker.sync.everyone import Everyone
from worker.sync.forget import Forget
from worker.sync.heal import Heal
from worker.sync.learn import LogRecords
from worker.sync.listen import Listen
from worker.sync.patience import before_long
from worker.sync.plans import Planner
from worker.sync.probe import Probe
from worker.sync.pulled import PulledRecords
from worker.sync.push import Push
from worker.sync.reconcile import Reconcile
from worker.sync.refresh import Refresh
from worker.sync.snapshots import PULLED, EventStream
from worker.sync.turn import Turns
from worker.sync.verify import Verify

# A task uses one connection at a time, and one more only where it must commit beside an open transaction.
CONNECTIONS_PER_CHILD = 2
# In seconds; the budget's script takes well under a millisecond.
REDIS_PATIENCE = 2.0
# In seconds: how long a person at a terminal waits for one read.
READ_PATIENCE = 60.0

# The names under which `understudy status` shows who was seen.
BEAT = "beat"


def this_worker() -> str:
    """Return this machine's worker's name."""
    return f"worker@{socket.gethostname()}"


class Parts:
    """What the tasks and commands of one process share."""

    def __init__(self, chosen: Settings) -> None:
        self.settings = chosen

    @cached_property
    def engine(self) -> Engine:
        """PostgreSQL, once it is known to have the schema we need and to be a copy of our tenant.

        Raises DatabaseDown, SchemaBehind or WrongTenant.
        """
        engine = make_engine(self.settings, pool_size=CONNECTIONS_PER_CHILD)
        try:
            with engine.connect() as connection:
                schema.check(connection)
                schema.claim_tenant(connection, self.settings.auth0_domain)
                schema.keep_skew(connection, self.settings.log_date_skew)
        except OperationalError:
            engine.dispose()
            raise DatabaseDown("PostgreSQL cannot be reached at DATABASE_URL") from None
        except Error:
            engine.dispose()
            raise
        return engine

    def check(self, process: str) -> None:
        """Raise what is wrong with the settings or the database, else note that `process` is alive.

        Nothing is left open: the process may fork after.
        """
        self.settings.require("auth0_m2m_client_id", "auth0_m2m_client_secret")
        Budget(self.redis, self.settings)  # names an unknown group in AUTH0_LIMITS; connects to nothing
        with self.engine.begin() as connection:
            notes.seen(connection, process)
        self.engine.dispose()
        del self.engine

    def begin_anew(self) -> None:
        """Ask Auth0 afresh, whatever it refused before this process began, and end what no loop would ever end.

        Nothing is left open: the process may fork after.
        """
        with suppress(BrokerDown):  # then nothing is paused either
            self.tenant.forget_refusals()
        self.redis.connection_pool.disconnect()
        over = ["auth0_refused", "writing_refused"]  # the next refusal raises them again
        if not self.settings.watch_streams:  # and nobody else will ever end these
            over += heal.CONDITIONS
        with suppress(DatabaseDown, OperationalError):
            with self.engine.begin() as connection:
                for condition in over:
                    notes.end_condition(connection, condition)
            self.engine.dispose()
            del self.engine

    @cached_property
    def redis(self) -> Redis:
        """Redis, for the budget and the shared token."""
        return connect_redis(self.settings, timeout=REDIS_PATIENCE)

    @cached_property
    def celery(self) -> Celery:
        """What carries the rings."""
        return make_celery(self.settings)

    @cached_property
    def budget(self) -> Budget:
        """The request budget that all processes share."""
        return Budget(self.redis, self.settings)

    @cached_property
    def tenant(self) -> Tenant:
        """The Management API."""
        self.settings.require("auth0_m2m_client_id", "auth0_m2m_client_secret")
        return Tenant(self.settings, self.redis, self.budget)

    @cached_property
    def doorbell(self) -> Doorbell:
        """What wakes the loops."""
        return Doorbell(self.settings, self.celery)

    @cached_property
    def durations(self) -> Durations:
        """How long this process's loops take."""
        return Durations()

    @property
    def sources(self) -> tuple[Source[Any], ...]:
        """What drain finds in the inbox; what somebody waits for comes first."""
        plays = Plays(self.settings.plays_per_listener_per_day)
        pushed, pulled = EventStream(self.tolerances), EventStream(self.tolerances, PULLED, hurried=False)
        return (plays, pushed, LogRecords(self.settings.pulls_log), pulled, PulledRecords())

    @property
    def tolerances(self) -> Tolerances:
        """How far Auth0's clocks and its index may be off."""
        return Tolerances(self.settings.log_date_skew, self.settings.search_settle)

    def refresh(self) -> Refresh:
        """Return the refresh loop."""
        return Refresh(self.engine, self.tenant, self.budget, self.tolerances, self.settings.fingerprint_key)

    def backfill(self, watch: Callable[[Progress], None]) -> Backfill:
        """Return the loop that loads the whole tenant."""
        pulls: dict[str, timedelta] = {}
        if self.settings.pulls_log:
            pulls[catch_up.NAME] = self.settings.pull_overlap
        if self.settings.pull_events:
            pulls[listen.NAME] = listen.BACK
        return Backfill(self.engine, self.everyone, self.tolerances, pulls, watch)

    @property
    def everyone(self) -> Everyone:
        """Everybody in the tenant, for those who may wait."""
        return Everyone(Exports(self.tenant, self.settings), Windows(self.tenant), self.budget)

    def catch_up(self) -> CatchUp | None:
        """Return the loop that pulls the tenant's log, None where it is off."""
        if not self.settings.pulls_log:
            return None
        # A record's date says when it happened, and so does its place in the log; each may be off by the skew.
        overlap = self.settings.pull_overlap + 2 * self.settings.log_date_skew
        return CatchUp(self.engine, LogPages(self.tenant), self.budget, overlap)

    def listen(self) -> Listen | None:
        """Return the loop that pulls the tenant's events, None where it is off."""
        if not self.settings.pull_events:
            return None
        return Listen(self.engine, EventFeed(self.tenant, self.settings), self.budget)

    def probe(self) -> Probe | None:
        """Return the look for events that an event stream should have brought; None where they are pulled, or would cost the stream.

        Readers and streams share the plan's connections for events.
        """
        chosen = self.settings
        if chosen.pull_events or not (chosen.event_stream_tokens and chosen.silence_floor):
            return None
        if event_connections(chosen.auth0_plan) < 2:
            return None
        return Probe(self.engine, EventFeed(self.tenant, chosen), self.budget, chosen.silence_floor)

    def heal(self) -> Heal | None:
        """Return the loop that looks after the streams that lead to PUBLIC_URL, None where it is off."""
        chosen = self.settings
        if not chosen.watch_streams:
            return None
        chosen.require("public_url")
        endpoints: dict[Kind, str] = {}
        if chosen.log_stream_tokens:
            endpoints["log"] = chosen.public_url + LOGS
        if chosen.event_stream_tokens:
            endpoints["event"] = chosen.public_url + EVENTS
        streams = Streams(self.tenant)
        kept = None if chosen.pulls_log else log_retention(chosen.auth0_plan)
        return Heal(self.engine, streams, self.budget, endpoints, partial(probe, chosen), chosen.heal_streams, kept)

    def reconcile(self) -> Reconcile:
        """Return the loop that compares the whole tenant with the copy once a day."""
        exports, windows = Exports(self.tenant, self.settings), Windows(self.tenant)
        every, pulled = self.settings.reconcile_every, self.settings.pulls_log
        return Reconcile(self.engine, exports, windows, self.budget, self.tolerances, every, pulled)

    def verify(self, watch: Callable[[Progress], None], *, repair: bool, allow_deletes: int) -> Verify:
        """Return the comparison with the whole tenant."""
        return Verify(self.engine, self.everyone, self.tenant, self.budget, watch, repair, allow_deletes)

    def forget(self, say: Callable[[str], None]) -> Forget:
        """Return the erasure of a person."""
        return Forget(self.engine, self._read_before_long, self.sources, self.settings.fingerprint_key, say)

    def _read_before_long(self, user_id: str) -> Profile | None:
        return before_long(self.budget, "read_users", partial(self.tenant.read_user, user_id), READ_PATIENCE)

    @property
    def planner(self) -> Planner:
        """What is wanted of people's metadata."""
        return Planner(rules(self.settings.role_tiers), self.settings.default_display_name)

    def push(self) -> Push:
        """Return the push loop."""
        turns = Turns(self.engine, self.tenant, self.planner, self.settings.fingerprint_key)
        return Push(turns, self.budget, Witness(self.redis, self.settings.auth0_domain))


@lru_cache(maxsize=1)
def parts() -> Parts:
    """Return this process's parts, made at the first call."""
    return Parts(settings())


# One task's slice of a loop: then it rings again and lets the others have a turn.
SLICE = timedelta(seconds=5)
# The sweep finds what nobody told of, which is little: it gets this much of each minute, whatever the table's size.
SWEEP_SLICE = timedelta(seconds=1)
# A reconcile reads over what it has read before, so its slices are longer; it runs once a day.
RECONCILE_SLICE = timedelta(seconds=20)
