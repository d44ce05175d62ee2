"""What others may look at: whether the copy is ready, and how it is."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast, get_args

import psycopg
from rich.console import Console
from rich.table import Table
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from worker.auth0.pace import GLOBAL, Budget, Group
from worker.domain.feeds import falls_behind, log_retention
from worker.errors import BrokerDown, DatabaseDown, SchemaBehind
from worker.settings import Settings
from worker.store import feeds, rhythm, runs, schema
from worker.store.feeds import Standing
from worker.store.rhythm import Silence
from worker.store.runs import Standing as Runs
from worker.store.session import make_engine, reaching_postgresql

# In seconds. Beyond these something does not run: drain takes well under a second, beat rings every 5 and 15 seconds.
PENDING_TOO_OLD = 60
STALE_TOO_OLD = 900
PROCESS_TOO_QUIET = 60
# Reads of one user that failed for itself alone: by now some five minutes have passed.
FAILED_TOO_OFTEN = 6
# Comparisons that are due and do not come to their end.
MISSED_COMPARISONS = 3
# The worker looks for events within a minute or two of when their silence has become unusual.
_PROBE_LATE = 300

_STREAMS = {"logs": "log stream", "events": "event stream"}
_PULLS = {"logs": "PULL_LOGS", "events": "PULL_EVENTS"}

_INBOX = text("""
SELECT count(*) FILTER (WHERE state = 'pending'),
       coalesce(extract(epoch FROM now() - min(received_at) FILTER (WHERE state = 'pending')), 0)::float8,
       count(*) FILTER (WHERE state = 'parked' AND body IS NOT NULL), count(*) FILTER (WHERE state = 'parked' AND body IS NULL)
FROM inbox WHERE state <> 'done'
""")
_NEWS = text("""
SELECT count(*), coalesce(extract(epoch FROM now() - min(first_at) FILTER (WHERE braked_at IS NULL AND attempts < :often)), 0)::float8,
       count(*) FILTER (WHERE strong), count(*) FILTER (WHERE braked_at IS NOT NULL),
       count(*) FILTER (WHERE attempts >= :often)
FROM news
""")
_PUSHES = text("""
SELECT count(*) FILTER (WHERE NOT last AND due_at < 'infinity'), count(*) FILTER (WHERE last AND due_at < 'infinity'),
       coalesce(extract(epoch FROM now() - min(marked_at) FILTER (WHERE NOT last AND due_at < 'infinity')), 0)::float8,
       count(*) FILTER (WHERE parked <> '{}'), count(*) FILTER (WHERE braked_at IS NOT NULL)
FROM pushes
""")
_USERS = text(
    "SELECT count(*) FILTER (WHERE deleted_at IS NULL), count(*) FILTER (WHERE deleted_at IS NOT NULL) FROM users"
)


# By the newest run of each kind that came to its end.
_NOT_READ = text("""
SELECT DISTINCT ON (kind) kind, coalesce((report ->> 'bad')::int, 0) FROM runs WHERE state <> 'running' ORDER BY kind, id DESC
""")


@dataclass(slots=True)
class Status:
    """How the copy is; times in seconds. `problems` need a human, each is one sentence that says what to do."""

    tenant: str
    schema: str
    users: Mapping[str, int]
    inbox: Mapping[str, float]
    news: Mapping[str, float]
    pushes: Mapping[str, float]
    last_delivery_at: datetime | None
    counters: Mapping[str, Mapping[str, Any]]
    conditions: Mapping[str, Mapping[str, Any]]
    processes: Mapping[str, float]
    budget: Mapping[str, Mapping[str, Any]] | None
    problems: list[str] = field(default_factory=list)
    runs: Mapping[str, Runs] = field(default_factory=dict)
    not_read: Mapping[str, int] = field(default_factory=dict)
    silence: Mapping[str, Silence] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON's types."""
        return {name: _plain(getattr(self, name)) for name in self.__slots__}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Silence | Runs):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value


def status(settings: Settings, *, budget: Budget) -> Status:
    """Look at everything an operator asks first; raises DatabaseDown, SchemaBehind or WrongTenant."""
    engine = make_engine(settings, pool_size=1)
    try:
        with reaching_postgresql(), engine.connect() as connection:
            schema.check(connection)
            schema.claim_tenant(connection, settings.auth0_domain)
            report = _read(connection, settings)
            report.problems += _feed_problems(feeds.standings(connection), settings)
            report.runs = runs.standings(connection)
            report.not_read = dict(connection.execute(_NOT_READ).all())
            report.problems += _run_problems(report, runs.compared_ago(connection), settings.reconcile_every)
            if settings.silence_floor:
                report.silence = _silences(connection, settings)
                report.problems += _silence_problems(report.silence, settings)
    finally:
        engine.dispose()
    try:
        report.budget = _spent(budget)
    except BrokerDown:
        report.problems.append("Redis cannot be reached at REDIS_URL: nothing is read from Auth0 until it is back")
    report.problems[:0] = list(_problems(report))
    return report


def _spent(budget: Budget) -> dict[str, dict[str, Any]]:
    """Return each bucket as it stands: tokens left, its terms, its pause, and what was spent since Redis was last wiped."""
    report: dict[str, dict[str, Any]] = {}
    for bucket, counts in budget.counts().items():
        if bucket in get_args(Group) or bucket == GLOBAL:
            look = budget.look("other" if bucket == GLOBAL else cast("Group", bucket))
            report[bucket] = {
                "tokens": round(look.level, 1),
                "burst": look.capacity,
                "per_second": round(look.rate, 2),
                "paused_s": round(look.paused, 1),
                "reason": look.reason,
                **counts,
            }
        else:
            report[bucket] = dict(counts)
    return report


def _read(connection: Connection, settings: Settings) -> Status:
    pending, pending_age, parked_deliveries, oversize = connection.execute(_INBOX).one()
    parked = connection.execute(text("SELECT count(*) FROM parked")).scalar_one()
    open_, stale_age, strong, braked, failing = connection.execute(_NEWS, {"often": FAILED_TOO_OFTEN}).one()
    wanted, names, wanted_age, pushes_parked, pushes_braked = connection.execute(_PUSHES).one()
    live, tombstones = connection.execute(_USERS).one()
    last = rhythm.last(connection, "logs", "events")
    return Status(
        tenant=settings.auth0_domain,
        schema=str(schema.revision(connection)),
        users={"live": live, "tombstones": tombstones},
        inbox={
            "pending": pending,
            "oldest_pending_s": round(pending_age, 1),
            "parked_deliveries": parked_deliveries,
            "oversize": oversize,
            "parked_records": parked,
        },
        news={
            "stale": open_,
            "oldest_stale_s": round(stale_age, 1),
            "strong": strong,
            "braked": braked,
            "failing": failing,
        },
        pushes={
            "wanted": wanted,
            "oldest_wanted_s": round(wanted_age, 1),
            "default_names": names,
            "parked": pushes_parked,
            "braked": pushes_braked,
        },
        last_delivery_at=last,
        counters={
            row.name: {"value": row.value, "latest_at": row.latest_at}
            for row in connection.execute(text("SELECT name, value, latest_at FROM counters ORDER BY name"))
        },
        conditions={
            row.name: {"since": row.since, "detail": row.detail}
            for row in connection.execute(text("SELECT name, since, detail FROM conditions ORDER BY since"))
        },
        processes={
            row.name: round(row.quiet, 1)
            for row in connection.execute(
                text("SELECT name, extract(epoch FROM now() - seen_at)::float8 AS quiet FROM processes ORDER BY name")
            )
        },
        budget=None,
    )


def _problems(report: Status) -> list[str]:
    found = [str(condition["detail"]) for name, condition in report.conditions.items() if name != "reconcile_wanted"]
    if report.inbox["oldest_pending_s"] > PENDING_TOO_OLD:
        found.append(f"a delivery has waited for {report.inbox['oldest_pending_s']:.0f} s: is a worker running?")
    if report.news["oldest_stale_s"] > STALE_TOO_OLD:
        found.append(
            f"a user has been stale for {report.news['oldest_stale_s']:.0f} s: look at the budget and the worker's log"
        )
    if report.news["failing"]:
        found.append(
            f"{report.news['failing']:.0f} users cannot be copied, however often it is tried: the worker's log says why, under their fingerprints"
        )
    found += _push_problems(report)
    if report.inbox["parked_deliveries"] or report.inbox["parked_records"]:
        found.append("something was parked because it could not be understood: look with `understudy parked list`")
    if report.inbox["oversize"]:
        found.append(
            f"{report.inbox['oversize']} deliveries were over MAX_DELIVERY_BYTES and were not kept: what they said comes with the next pull of "
            "the log, or by a reconcile where it is not pulled; raise the limit, then drop the markers with `understudy parked drop`"
        )
    for feed, setting in (("logs", "LOG_STREAM_TOKENS"), ("events", "EVENT_STREAM_TOKENS")):
        unauthorized = report.counters.get(f"unauthorized_{feed}")
        if unauthorized and (datetime.now(UTC) - unauthorized["latest_at"]).total_seconds() < STALE_TOO_OLD:
            found.append(
                f"deliveries came with a wrong token: if they are Auth0's, its events are being lost; compare {setting}"
            )
    workers = [quiet for name, quiet in report.processes.items() if name.startswith("worker@")]
    if not workers or min(workers) > PROCESS_TOO_QUIET:
        found.append("no worker has been seen for a minute: start one (`worker` in the Procfile)")
    if report.processes.get("beat", PROCESS_TOO_QUIET + 1) > PROCESS_TOO_QUIET:
        found.append("beat has not been seen for a minute: start it (`beat` in the Procfile)")
    return found


def _feed_problems(standings: Sequence[Standing], settings: Settings) -> list[str]:
    found = []
    for one in standings:
        if one.name == "events" and settings.pull_events and one.trouble:
            found.append(f"the tenant's events cannot be pulled: {one.trouble}")
        if one.name != "logs" or not settings.pulls_log:
            continue
        kept = log_retention(settings.auth0_plan)
        if falls_behind(one.age, kept):
            found.append(
                f"the tenant's log was last read to its end {one.age / 3600:.0f} h ago, and Auth0 keeps it for {kept.days} d: "
                "see why the pull is slow, or look at the worker's log"
            )
        if one.trouble:
            found.append(f"the tenant's log cannot be pulled: {one.trouble}")
    return found


def _run_problems(report: Status, compared_ago: float, every: timedelta) -> list[str]:
    backfill = report.runs["backfill"]
    loaded = backfill.complete_at or report.runs["reconcile"].complete_at
    if backfill.began_at and not backfill.held:
        return ["a backfill was stopped before its end: run `understudy backfill`, which goes on where it was"]
    if not (loaded or backfill.began_at or report.users["live"]):
        return ["this copy holds nobody, and the tenant was never loaded: run `understudy backfill`"]
    late = max(MISSED_COMPARISONS * every.total_seconds(), 3600)
    if every and compared_ago > late:
        return [
            (
                f"the tenant was last compared with the copy {compared_ago / 3600:.0f} h ago, though RECONCILE_EVERY is "
                f"{every.total_seconds() / 3600:.0f} h: see why in the worker's log, and run `understudy verify --repair`"
            )
        ]
    return []


def _silences(connection: Connection, settings: Settings) -> dict[str, Silence]:
    """Return how silent each webhook is that a stream should fill."""
    found = {feed: rhythm.silence(connection, feed, settings.silence_floor) for feed in settings.streams}
    return {feed: silence for feed, silence in found.items() if silence is not None}


def _silence_problems(silences: Mapping[str, Silence], settings: Settings) -> list[str]:
    """Tell broken from quiet: a pull that found something knows, or somebody who looks at the stream itself."""
    found = []
    for feed, silence in silences.items():
        since = f"for {silence.lasts / 60:.0f} min" if silence.ever else "ever"
        if not silence.is_unusual:
            continue
        if silence.is_broken:
            found.append(
                f"nothing has come by the {_STREAMS[feed]} {since}, though the tenant has news: "
                "look at the stream's health in Auth0, at PUBLIC_URL and at the web process"
            )
        elif not _is_told(feed, silence, settings):
            found.append(
                f"nothing has come by the {_STREAMS[feed]} {since}, and nothing can tell whether the tenant was quiet: "
                f"set {_PULLS[feed]} or WATCH_STREAMS"
            )
    return found


def _is_told(feed: str, silence: Silence, settings: Settings) -> bool:
    if settings.watch_streams:
        return True
    if feed == "logs":
        return settings.pulls_log
    if settings.pull_events or silence.lasts < silence.usual + _PROBE_LATE:
        return True
    return silence.looked is not None and silence.looked < 2 * settings.silence_floor.total_seconds() + _PROBE_LATE


def _push_problems(report: Status) -> list[str]:
    found = []
    if report.pushes["oldest_wanted_s"] > STALE_TOO_OLD:
        found.append(
            f"a push has waited for {report.pushes['oldest_wanted_s']:.0f} s: look at the budget and the worker's log"
        )
    if report.pushes["parked"]:
        found.append(
            f"{report.pushes['parked']:.0f} pushes are parked, since Auth0 does not take them: the table pushes says why"
        )
    return found


def show(report: Status, console: Console) -> None:
    """Print it on one screen."""
    table = Table.grid(padding=(0, 2))
    table.add_row("copy of", report.tenant)
    table.add_row("schema", report.schema)
    table.add_row("users", f"{report.users['live']:,} live, {report.users['tombstones']:,} tombstones")
    table.add_row("inbox", f"{report.inbox['pending']:,} pending, the oldest for {report.inbox['oldest_pending_s']} s")
    table.add_row(
        "parked", f"{report.inbox['parked_deliveries']:,} deliveries, {report.inbox['parked_records']:,} records"
    )
    table.add_row(
        "stale",
        f"{report.news['stale']:,} users, the oldest for {report.news['oldest_stale_s']} s; {report.news['braked']:,} braked",
    )
    table.add_row(
        "pushes",
        f"{report.pushes['wanted']:,} wanted, the oldest for {report.pushes['oldest_wanted_s']} s; "
        f"{report.pushes['default_names']:,} default names, {report.pushes['parked']:,} parked, {report.pushes['braked']:,} braked",
    )
    table.add_row(
        "last delivery", report.last_delivery_at.isoformat(timespec="seconds") if report.last_delivery_at else "never"
    )
    for feed, silence in report.silence.items():
        if silence.is_unusual:
            word = "broken: the tenant has news" if silence.missed_something else "quiet, for longer than usual"
            table.add_row(_STREAMS[feed], f"{word}; nothing for {silence.lasts / 60:.0f} min")
    for name in ("unauthorized_logs", "unauthorized_events", "oversize"):
        counter = report.counters.get(name)
        table.add_row(
            name.replace("_", " "),
            f"{counter['value']:,}, last {counter['latest_at']:%Y-%m-%d %H:%M:%S}" if counter else "0",
        )
    for name, level in (report.budget or {}).items():
        table.add_row(f"budget {name}", ", ".join(f"{key} {value}" for key, value in level.items() if value != ""))
    for name, quiet in report.processes.items():
        table.add_row(name, f"seen {quiet} s ago")
    for kind, run in report.runs.items():
        table.add_row(f"last {kind}", _run(run) + _missing(report.not_read.get(kind, 0)))
    wanted = report.conditions.get("reconcile_wanted")
    if wanted:
        table.add_row("reconcile wanted", str(wanted["detail"]))
    console.print(table)
    for problem in report.problems:
        console.print(f"[bold red]![/] {problem}")
    if not report.problems:
        console.print("[green]nothing needs a human[/]")


def _run(run: Runs) -> str:
    last = f"complete {run.complete_at:%Y-%m-%d %H:%M:%S}" if run.complete_at else "none complete"
    return f"{last}; one began {run.began_at:%Y-%m-%d %H:%M:%S}, {run.users:,} users" if run.began_at else last


def _missing(number: int) -> str:
    return f"; {number:,} users could not be read: see `understudy parked list`" if number else ""


def check_tenant(settings: Settings) -> None:
    """Claim the database for the settings' tenant; raise WrongTenant if it is a copy of another, DatabaseDown if it cannot be asked."""
    engine = make_engine(settings, pool_size=1)
    try:
        with engine.connect() as connection:
            schema.claim_tenant(connection, settings.auth0_domain)
    except DBAPIError:
        raise DatabaseDown("PostgreSQL cannot be reached, or has no tables yet") from None
    finally:
        engine.dispose()


async def admit(connection: psycopg.AsyncConnection[Any], domain: str) -> None:
    """Raise SchemaBehind or WrongTenant unless this is a database that deliveries of `domain` may be written to."""
    try:
        row = await (await connection.execute("SELECT domain FROM tenant")).fetchone()
    except psycopg.errors.UndefinedTable:
        raise SchemaBehind("the database is empty: run `understudy db upgrade`") from None
    if row is not None and row[0] != domain:
        raise schema.wrong_tenant(row[0], domain)


async def ready(settings: Settings) -> None:
    """Raise DatabaseDown, SchemaBehind or WrongTenant unless a delivery could be stored now; asks on a connection of its own."""
    url = settings.database_url.get_secret_value().replace("postgresql+psycopg:", "postgresql:", 1)
    needed = schema.needed()
    try:
        async with (
            asyncio.timeout(2),
            await psycopg.AsyncConnection.connect(
                url, autocommit=True, application_name="understudy-readyz"
            ) as connection,
        ):
            await admit(connection, settings.auth0_domain)
            row = await (await connection.execute("SELECT version_num FROM alembic_version")).fetchone()
    except (psycopg.Error, OSError, TimeoutError):
        raise DatabaseDown("PostgreSQL cannot be reached") from None
    if row is None or row[0] < needed:
        raise SchemaBehind(
            f"the database is at revision {row[0] if row else 'none'}, this release needs {needed}: run `understudy db upgrade`"
        )
