"""What `understudy doctor` looks at: each check says that something is fine, or what to do."""

from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import Connection, text

from worker.auth0.application import Application, look
from worker.auth0.pace import GLOBAL, Budget, limits_of
from worker.commands.findings import Finding, fine, note, wrong
from worker.commands.stream_checks import scopes_to_look, streams_of
from worker.domain.feeds import event_connections
from worker.errors import Error, SchemaBehind, TenantDown
from worker.queue import connect_redis
from worker.settings import Settings
from worker.setup.run import probe
from worker.store import gauges, schema
from worker.store.session import make_engine, reaching_postgresql

# In seconds. Beat asks for a sign of life every fifteen; Auth0's tokens and dates bear a few seconds of difference.
TOO_QUIET: Final = 60
CLOCKS_APART: Final = 5

_HERE = ("", "localhost", "127.0.0.1", "::1")


def examine() -> Iterator[Finding]:
    """Yield a finding for each check; what depends on something that is wrong is left out."""
    try:
        settings = Settings.from_environment()
        Budget(connect_redis(settings), settings)  # names an unknown group in AUTH0_LIMITS; connects to nothing
    except Error as error:
        yield wrong("settings", says=str(error))
        return
    yield from _settings(settings)
    of_the_copy = []
    for finding in _careful("database", _postgresql(settings)):
        of_the_copy.append(finding)
        yield finding
    copy_is_well = any(one.check == "tenant" and one.verdict == "fine" for one in of_the_copy)
    yield from _careful("Redis", _redis(settings))
    found: list[Application] = []
    yield from _careful("Auth0", _tenant(settings, found))
    yield from _careful("webhooks", _webhooks(settings))
    if found and settings.public_url:
        yield from _careful("streams", streams_of(settings, found[0], copy_is_well=copy_is_well))


def _careful(title: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    """Yield the findings; the error that ends them is one."""
    try:
        yield from findings
    except TenantDown as error:
        yield wrong(
            title, says=f"{error}: is AUTH0_DOMAIN right, the network open, the certificate one that is trusted?"
        )
    except Error as error:
        yield wrong(title, says=str(error))


def _settings(settings: Settings) -> Iterator[Finding]:
    lacking = settings.lacking("auth0_m2m_client_id", "auth0_m2m_client_secret")
    if len(settings.lacking("log_stream_tokens", "event_stream_tokens")) == 2:
        lacking.append("LOG_STREAM_TOKENS")
    if lacking:
        yield wrong("settings", says=f"not set: {', '.join(lacking)}")
    else:
        yield fine("settings", says="all that is needed is set")


# PostgreSQL


def _postgresql(settings: Settings) -> Iterator[Finding]:
    engine = make_engine(settings, pool_size=1)
    try:
        with reaching_postgresql(), engine.connect() as connection:
            version = connection.execute(text("SHOW server_version")).scalar()
            yield fine("database", says=f"PostgreSQL {version} answers")
            yield _encryption(connection, engine.url.host or "")
            yield from _schema(connection, settings)
    finally:
        engine.dispose()


def _encryption(connection: Connection, host: str) -> Finding:
    encrypted = connection.execute(text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")).scalar()
    if encrypted:
        return fine("TLS to PostgreSQL", says="encrypted")
    if host in _HERE or host.startswith("/"):
        return fine("TLS to PostgreSQL", says="not encrypted, on this machine")
    return note(
        "TLS to PostgreSQL", says="not encrypted: set PGSSLMODE=require, unless the network between is yours alone"
    )


def _schema(connection: Connection, settings: Settings) -> Iterator[Finding]:
    try:
        schema.check(connection)
    except SchemaBehind as error:
        yield wrong("schema", says=str(error))
        return
    found, needed = schema.revision(connection), schema.needed()
    if found == needed:
        yield fine("schema", says=f"at revision {found}, as this release needs")
    else:
        yield note(
            "schema",
            says=f"at revision {found}, which a newer release made (this one needs {needed}): fine while a release is under way, "
            "else deploy the newer one here too",
        )
    kept = connection.execute(text("SELECT domain FROM tenant")).scalar()
    if kept in (None, settings.auth0_domain):
        yield fine("tenant", says=f"a copy of {settings.auth0_domain}")
    else:
        yield wrong("tenant", says=str(schema.wrong_tenant(kept, settings.auth0_domain)))
    yield from _alive(connection)


def _alive(connection: Connection) -> Iterator[Finding]:
    seen = gauges.read(connection).quiet
    quiet = {process: seen.get(process) for process in ("worker", "beat")}
    # A worker notes both, when beat asks it to.
    unless = ", unless it runs: each is seen only while the other runs" if all(map(_too_quiet, quiet.values())) else ""
    for process, seconds in quiet.items():
        if seconds is None:
            yield wrong(process, says=f"has never been seen: start it (`{process}` in the Procfile){unless}")
        elif _too_quiet(seconds):
            yield wrong(
                process, says=f"was last seen {seconds:.0f} s ago: start it (`{process}` in the Procfile){unless}"
            )
        else:
            yield fine(process, says=f"seen {seconds:.0f} s ago")


def _too_quiet(seconds: float | None) -> bool:
    return seconds is None or seconds > TOO_QUIET


# Redis


def _redis(settings: Settings) -> Iterator[Finding]:
    client = connect_redis(settings, timeout=5.0)
    try:
        yield from _redis_policy(client)
    except RedisError as error:
        yield wrong(
            "Redis", says=f"cannot be reached at REDIS_URL ({type(error).__name__}): is it running, is the URL right?"
        )
        return
    finally:
        client.close()
    yield _redis_tls(settings)


def _redis_policy(client: Redis) -> Iterator[Finding]:
    yield fine("Redis", says=f"Redis {client.info('server')['redis_version']} answers")
    policy = str(client.info("memory").get("maxmemory_policy", "unknown"))
    if policy == "noeviction":
        yield fine("Redis's eviction", says="noeviction")
    else:
        yield wrong(
            "Redis's eviction",
            says=f"{policy}: set maxmemory-policy to noeviction, or it drops doorbells and the budget when full",
        )


def _redis_tls(settings: Settings) -> Finding:
    url = urlsplit(settings.redis_url.get_secret_value())
    if url.scheme == "rediss" and settings.redis_tls_verify:
        return fine("TLS to Redis", says="encrypted, and its certificate verified")
    if url.scheme == "rediss":
        return note(
            "TLS to Redis", says="encrypted, its certificate not verified: set REDIS_TLS_VERIFY=true where it can be"
        )
    if (url.hostname or "") in _HERE:
        return fine("TLS to Redis", says="not encrypted, on this machine")
    return note("TLS to Redis", says="not encrypted: use a rediss:// URL, unless the network between is yours alone")


# The tenant


def scopes_needed(settings: Settings) -> dict[str, str]:
    """Return what the application must be granted, and for what."""
    needed = {"read:users": "to read profiles"}
    if settings.role_tiers:
        needed["update:users_app_metadata"] = "to write roles and plans"
    if settings.default_display_name or settings.auth0_audience:
        needed["update:users"] = "to write display names"
    if settings.pulls_log:
        needed["read:logs"] = "for PULL_LOGS"
    if settings.pull_events:
        needed["read:events"] = "for PULL_EVENTS"
    return needed | _scopes_of_streams(settings)


def _scopes_of_streams(settings: Settings) -> dict[str, str]:
    what = ["log_streams"] if settings.log_stream_tokens else []
    what += ["event_streams", "event_deliveries"] if settings.event_stream_tokens else []
    watching = {f"read:{one}": "for WATCH_STREAMS" for one in what if settings.watch_streams}
    return watching | {f"update:{one}": "for HEAL_STREAMS" for one in what if settings.heal_streams}


# Granted, they are no surplus: a plan or a name may be set by hand, an event stream looked behind.
_MAY_BE_GRANTED = frozenset({"update:users_app_metadata", "update:users"})


def _tenant(settings: Settings, looked: list[Application]) -> Iterator[Finding]:
    """Look at the application; what was found goes into `looked`."""
    if settings.lacking("auth0_m2m_client_id", "auth0_m2m_client_secret"):
        return  # said already
    if settings.auth0_ca_file:
        yield note("TLS to Auth0", says="certificates of AUTH0_CA_FILE are believed too: for a simulated tenant alone")
    found = look(settings)
    looked.append(found)
    if not settings.auth0_ca_file:
        yield fine("TLS to Auth0", says="verified")
    yield fine("token", says="Auth0 gives us one")
    yield _scopes(settings, found.scopes)
    yield _clocks(found.ahead)
    yield _limits(settings, found)
    yield from _connections(settings)


def _scopes(settings: Settings, granted: frozenset[str]) -> Finding:
    needed = scopes_needed(settings)
    missing = [f"{scope} ({why})" for scope, why in needed.items() if scope not in granted]
    optional = _MAY_BE_GRANTED | ({"read:events"} if settings.event_stream_tokens else set())
    looking = sorted(granted & scopes_to_look(settings) - needed.keys())
    surplus = sorted(granted - needed.keys() - optional - set(looking))
    take_away = f"take away what is not needed: {', '.join(surplus)}"
    if missing:
        return wrong("scopes", says=f"grant {', '.join(missing)}" + (f"; {take_away}" if surplus else ""))
    if surplus:
        return note("scopes", says=take_away)
    for_doctor = f"; for `understudy doctor` alone: {', '.join(looking)}" if looking else ""
    return fine("scopes", says=", ".join(sorted(granted - set(looking))) + for_doctor)


def _clocks(ahead: float) -> Finding:
    if abs(ahead) <= CLOCKS_APART:
        return fine("clocks", says=f"ours and Auth0's agree within {CLOCKS_APART} s")
    direction = "behind" if ahead > 0 else "ahead of"
    return wrong(
        "clocks", says=f"ours is {abs(ahead):.0f} s {direction} Auth0's: let this machine's clock be set by NTP"
    )


def _limits(settings: Settings, found: Application) -> Finding:
    limits = limits_of(settings)
    burst, _ = limits.get("read_users") or limits.get("other") or limits[GLOBAL]
    source = "AUTH0_LIMITS" if settings.auth0_limits else f"AUTH0_PLAN={settings.auth0_plan}"
    if found.burst is None:
        return note("limits", says=f"Auth0 does not say what it allows; {source} stands")
    if found.burst < burst:
        return wrong(
            "limits",
            says=f"Auth0 allows bursts of {found.burst}, {source} stands for {burst:g}: set AUTH0_PLAN to the plan you have, "
            "or AUTH0_LIMITS to what Auth0 allows",
        )
    if found.burst > burst:
        return note(
            "limits",
            says=f"Auth0 allows bursts of {found.burst}, {source} stands for {burst:g}: more would be allowed"
            + ("" if settings.auth0_limits else ", set AUTH0_PLAN to the plan you have"),
        )
    return fine(
        "limits", says=f"bursts of {found.burst}, as {source} says; we use {settings.auth0_budget_share:.0%} of it"
    )


def _connections(settings: Settings) -> Iterator[Finding]:
    """Only where something is wrong: an event stream and whoever pulls events share what the plan allows."""
    if settings.pull_events and settings.event_stream_tokens and event_connections(settings.auth0_plan) == 1:
        yield wrong(
            "event connections",
            says=f"the {settings.auth0_plan} plan allows one, an event stream and PULL_EVENTS take two: "
            "set PULL_EVENTS=false, or delete the stream and EVENT_STREAM_TOKENS",
        )


def _webhooks(settings: Settings) -> Iterator[Finding]:
    if not settings.public_url:
        yield note(
            "webhooks",
            says="not tried, nor the streams that lead to them: set PUBLIC_URL to where Auth0 finds the web process",
        )
        return
    probe(settings)
    yield fine("webhooks", says=f"take deliveries at {settings.public_url}")
