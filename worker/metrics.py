"""What Prometheus scrapes: PostgreSQL's counters and tables and Redis's budget, formatted by prometheus_client.

Processes share no disk and a scrape meets any web process: nothing is counted in memory, so all of them say the same.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import cast, get_args

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from worker.auth0.pace import GLOBAL, Budget, Group
from worker.domain import histograms
from worker.domain.feeds import log_retention
from worker.errors import BrokerDown
from worker.queue import connect_redis
from worker.settings import Settings
from worker.store import gauges, rhythm, schema
from worker.store.gauges import Gauges
from worker.store.session import make_engine, reaching_postgresql

# The loops that beat rings, as `worker.tasks` names them; what PostgreSQL has counted of others is shown too.
_LOOP = "loop:"
_LOOP_FAILED = "loop_failed:"
_FRESHNESS = "freshness:"
# A scrape is given up by its sender after ten seconds.
_PATIENCE = timedelta(seconds=5)
_REDIS_PATIENCE = 2.0

Buckets = Mapping[str, Mapping[str, float]]


def exposition(settings: Settings) -> bytes:
    """Return everything in Prometheus's text format 0.0.4; raises DatabaseDown, SchemaBehind or WrongTenant.

    Without Redis there is no budget in it, and `understudy_redis_up` is 0.
    """
    engine = make_engine(settings, pool_size=1, statement_timeout=_PATIENCE)
    try:
        with reaching_postgresql(), engine.connect() as connection:
            schema.check(connection)
            schema.claim_tenant(connection, settings.auth0_domain)
            found = gauges.read(connection)
            floor = settings.silence_floor
            broken: dict[str, bool] = {
                name: rhythm.is_broken(connection, name, floor) for name in settings.streams if floor
            }
    finally:
        engine.dispose()
    pulled = {"logs": settings.pulls_log, "events": settings.pull_events}
    feeds = {name: feed for name, feed in found.feeds.items() if pulled.get(name)}
    found = replace(found, feeds=feeds, broken=broken)
    registry = CollectorRegistry()
    kept = log_retention(settings.auth0_plan)
    registry.register(_Found(found, _budget(settings), kept, settings.reconcile_every))
    return generate_latest(registry)


def families(
    found: Gauges, budget: Buckets | None, log_kept: timedelta, reconcile_every: timedelta
) -> Iterator[Metric]:
    """Yield every metric, those without a value yet too: dashboards and alerts name them.

    `log_kept`: for how long Auth0 does. `reconcile_every`: zero for never by itself.
    """
    yield from _of_deliveries(found)
    yield from _of_users(found)
    yield from _of_feeds(found)
    yield _gauge(
        "log_retention_seconds", "For how long Auth0 keeps the log under AUTH0_PLAN.", log_kept.total_seconds()
    )
    every = reconcile_every.total_seconds()
    yield _gauge("reconcile_every_seconds", "RECONCILE_EVERY; 0 for never by itself.", every)
    yield from _of_processes(found)
    yield from _of_the_budget(budget)


class _Found(Collector):
    def __init__(self, found: Gauges, budget: Buckets | None, log_kept: timedelta, reconcile_every: timedelta) -> None:
        self._found, self._budget, self._log_kept, self._every = found, budget, log_kept, reconcile_every

    def collect(self) -> Iterator[Metric]:
        return families(self._found, self._budget, self._log_kept, self._every)


def _of_deliveries(found: Gauges) -> Iterator[Metric]:
    counters = found.counters
    freshness = HistogramMetricFamily(
        "understudy_freshness_seconds",
        "From an event, by Auth0's clock, until what it says is committed here. The difference between the clocks is in it; "
        "below zero counts as zero.",
        labels=["source"],
    )
    for source in _named(counters, _FRESHNESS) or ["logs"]:
        buckets, total = histograms.read(counters, f"{_FRESHNESS}{source}", histograms.FRESHNESS)
        freshness.add_metric([source], buckets, total)
    yield freshness
    yield _gauge("pending_deliveries", "Deliveries that are not drained yet.", found.pending)
    yield _gauge("oldest_pending_seconds", "How long the oldest of them has waited; 0 for none.", found.oldest_pending)
    last = found.last_delivery.timestamp() if found.last_delivery else 0.0
    yield _gauge("last_delivery_timestamp_seconds", "When a stream last delivered something; 0 for never.", last)
    yield _counter(
        "deliveries",
        "Deliveries by what became of them. Those that were accepted: all of these, and the pending ones.",
        "result",
        {
            "drained": counters.get("deliveries_drained", 0),
            "parked": counters.get("deliveries_parked", 0),
            "oversize": counters.get("oversize", 0),
        },
    )
    yield _counter(
        "unauthorized_deliveries",
        "Deliveries with a wrong token, answered 401.",
        "source",
        {source: counters.get(f"unauthorized_{source}", 0) for source in ("logs", "events")},
    )
    yield _counter(
        "plays",
        "Plays by what became of them.",
        "result",
        {result: counters.get(f"plays_{result}", 0) for result in ("counted", "dropped")},
    )
    yield CounterMetricFamily(
        "understudy_log_records", "Log records that were drained.", value=counters.get("log_records", 0)
    )
    yield _counter(
        "pulled_log_records",
        "Log records that were pulled, most of them more than once: known already, or missed by the log stream.",
        "result",
        {
            "known": counters.get("log_records_pulled", 0) - counters.get("log_records_missed", 0),
            "missed": counters.get("log_records_missed", 0),
        },
    )
    yield CounterMetricFamily(
        "understudy_pulled_events", "Events that were pulled.", value=counters.get("events_pulled", 0)
    )
    yield _counter(
        "healed_streams",
        "How often a stream was started again, or its failed deliveries were asked for once more.",
        "how",
        {"started": counters.get("streams_started", 0), "redelivered": counters.get("redeliveries_asked_for", 0)},
    )
    unknown = sum(value for name, value in counters.items() if name.startswith("log_code_unknown:"))
    yield CounterMetricFamily(
        "understudy_unknown_log_codes", "Records whose type this release does not know.", value=unknown
    )
    yield _gauges(
        "parked",
        "What was set aside and waits for a human.",
        "kind",
        {"delivery": found.parked_deliveries, "record": found.parked_records, "push": found.parked_pushes},
    )


def _of_users(found: Gauges) -> Iterator[Metric]:
    yield _gauge("stale_users", "Users of whom there is news that their row may not show yet.", found.stale)
    yield _gauge("oldest_stale_seconds", "How long the oldest such news has waited; 0 for none.", found.oldest_stale)
    yield _gauge("wished_pushes", "Users whose metadata in Auth0 must be changed.", found.wished)
    yield _gauge("oldest_wished_seconds", "How long the oldest of them has waited; 0 for none.", found.oldest_wished)
    yield _gauges(
        "braked",
        "Users stopped by the brake until a human answers.",
        "kind",
        {"deletion": found.deletions_braked, "role": found.removals_braked},
    )
    yield CounterMetricFamily(
        "understudy_pushes", "Changes that Auth0 took from us.", value=found.counters.get("pushes", 0)
    )
    yield _gauges(
        "condition", "1 for each thing noted for a human or a loop.", "name", dict.fromkeys(found.conditions, 1)
    )


def _of_feeds(found: Gauges) -> Iterator[Metric]:
    yield _gauges(
        "stream_broken",
        "1 where a stream has delivered nothing for longer than usual, though the tenant has news. SILENCE_FLOOR=0: not told.",
        "source",
        {name: float(is_so) for name, is_so in found.broken.items()},
    )
    yield _gauges(
        "feed_age_seconds",
        "How far behind a pulled feed is: all that happened before has been read.",
        "feed",
        {name: age for name, (age, _) in found.feeds.items()},
    )
    yield _gauges(
        "feed_trouble",
        "1 where the last pull of a feed failed.",
        "feed",
        {name: float(trouble) for name, (_, trouble) in found.feeds.items()},
    )
    yield _gauges(
        "run_completed_timestamp_seconds", "When a run over the whole tenant was last complete.", "kind", found.runs
    )
    yield _gauge(
        "compared_seconds",
        "How long ago the last comparison with the tenant began that came to its end; without any, how old the copy is.",
        found.compared_ago,
    )


def _of_processes(found: Gauges) -> Iterator[Metric]:
    seen = {"worker": float("inf"), "beat": float("inf")} | dict(found.quiet)
    yield _gauges(
        "quiet_seconds", "How long ago any such process was last seen alive; +Inf for never.", "process", seen
    )
    duration = HistogramMetricFamily("understudy_loop_seconds", "How long one run of a loop took.", labels=["loop"])
    for loop in _named(found.counters, _LOOP):
        buckets, total = histograms.read(found.counters, f"{_LOOP}{loop}", histograms.LOOP)
        duration.add_metric([loop], buckets, total)
    yield duration
    failures = CounterMetricFamily(
        "understudy_loop_failures", "Runs of a loop that ended by an error.", labels=["loop"]
    )
    for loop in sorted({*_named(found.counters, _LOOP), *_named(found.counters, _LOOP_FAILED)}):
        failures.add_metric([loop], found.counters.get(f"{_LOOP_FAILED}{loop}", 0))
    yield failures


def _of_the_budget(budget: Buckets | None) -> Iterator[Metric]:
    yield _gauge(
        "redis_up", "Whether Redis answers. Without it there are no numbers of the budget.", budget is not None
    )
    spent = CounterMetricFamily(
        "understudy_budget_spent", "Requests to Auth0 by class, since Redis was last empty.", labels=["group", "class"]
    )
    refused = CounterMetricFamily(
        "understudy_auth0_refusals",
        'Answers that paused a group: "throttled" is a 429, "outage" a 5xx or none.',
        labels=["group", "kind"],
    )
    tokens = GaugeMetricFamily("understudy_budget_tokens", "Requests that may be sent at once.", labels=["group"])
    paused = GaugeMetricFamily("understudy_budget_paused_seconds", "For how long a group is paused.", labels=["group"])
    for group, numbers in (budget or {}).items():
        for name, number in numbers.items():
            what, _, which = name.partition(":")
            if what == "spent":
                spent.add_metric([group, which], number)
            elif what == "heard":
                refused.add_metric([group, which], number)
        if "tokens" in numbers:
            tokens.add_metric([group], numbers["tokens"])
            paused.add_metric([group], numbers["paused"])
    yield from (spent, refused, tokens, paused)


def _budget(settings: Settings) -> Buckets | None:
    redis = connect_redis(settings, timeout=_REDIS_PATIENCE)
    try:
        budget = Budget(redis, settings)
        found: dict[str, dict[str, float]] = {}
        for bucket, counts in budget.counts().items():
            found[bucket] = dict(counts)
            if bucket in get_args(Group) or bucket == GLOBAL:
                look = budget.look("other" if bucket == GLOBAL else cast("Group", bucket))
                found[bucket] |= {"tokens": look.level, "paused": look.paused}
    except BrokerDown:
        return None
    finally:
        redis.close()
    return found


def _named(counters: Mapping[str, int], prefix: str) -> list[str]:
    """Return whose histograms there are under `prefix`."""
    return sorted({name.split(":")[1] for name in counters if name.startswith(prefix)})


def _gauge(name: str, help_: str, value: float) -> Metric:
    return GaugeMetricFamily(f"understudy_{name}", help_, value=value)


def _gauges(name: str, help_: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"understudy_{name}", help_, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _counter(name: str, help_: str, label: str, values: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(f"understudy_{name}", help_, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
