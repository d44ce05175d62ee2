"""What `understudy doctor` asks of the tenant's streams to us: whether they run, and whether what Auth0 sends by them arrives."""

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Final

from sqlalchemy import Connection, Engine, text

from worker.auth0.application import Application, failed, send_test_event, streams
from worker.auth0.streams import MOST, Kind, Stream
from worker.commands.findings import Finding, fine, note, wrong
from worker.settings import Settings
from worker.setup.run import EVENTS, LOGS
from worker.store.session import make_engine, reaching_postgresql

# In seconds: Auth0 sends within a few, drain counts within a second.
PATIENCE: Final = 20.0
_LOOK_AGAIN: Final = 0.3

# The check of whether what Auth0 sends arrives here.
_TRIALS: Final[dict[Kind, str]] = {"log": "log delivery", "event": "test event"}

_COUNTED: Final = text("SELECT coalesce(max(value), 0) FROM counters WHERE name = :name")
_LOGS: Final = text("SELECT EXISTS (SELECT FROM inbox WHERE source = 'logs' AND received_at > now() - :ago)")


def scopes_to_look(settings: Settings) -> frozenset[str]:
    """Return the scopes that it takes to look at everything here."""
    logs = {"read:log_streams"} if settings.log_stream_tokens else set()
    of_events = {"read:event_streams", "read:event_deliveries", "update:event_streams"}
    return frozenset(logs | (of_events if settings.event_stream_tokens else set()))


def streams_of(settings: Settings, application: Application, *, copy_is_well: bool) -> Iterator[Finding]:
    """Yield how each kind of stream is for which we have a token; raises TenantDown, DatabaseDown.

    Whether something arrives here is left out unless `copy_is_well`: it is read in the database.
    """
    engine = make_engine(settings, pool_size=1) if copy_is_well else None
    try:
        if settings.log_stream_tokens:
            yield from _stream(settings, application, "log", engine)
        if settings.event_stream_tokens:
            yield from _stream(settings, application, "event", engine)
    finally:
        if engine is not None:
            engine.dispose()


def _stream(settings: Settings, application: Application, kind: Kind, engine: Engine | None) -> Iterator[Finding]:
    scope, check = f"read:{kind}_streams", f"{kind} stream"
    if scope not in application.scopes:
        yield note(check, says=f"not looked at, which takes the scope {scope}: see its health in Auth0's dashboard")
        return
    endpoint = settings.public_url + (LOGS if kind == "log" else EVENTS)
    ours = [one for one in streams(settings, application, kind) if one.endpoint == endpoint]
    if not ours:
        yield wrong(check, says=f"none leads to {endpoint}: run `understudy setup`")
        return
    stopped = next((one for one in ours if not one.runs), None)
    if stopped is not None:
        yield wrong(
            check, says=f"Auth0 has {stopped.status} it: see why in its health, then start it, or set HEAL_STREAMS"
        )
        return
    yield fine(check, says=f"{ours[0].status}, and leads to us")
    if kind == "event":
        yield from _failures(settings, application, ours)
    if engine is None:
        yield note(_TRIALS[kind], says="not waited for: what is wrong with the database comes first")
    elif kind == "event":
        yield _test_event(settings, application, ours[0], engine)
    else:
        yield _log_delivery(application, engine)


def _failures(settings: Settings, application: Application, ours: list[Stream]) -> Iterator[Finding]:
    if "read:event_deliveries" not in application.scopes:
        return
    many = sum(failed(settings, application, one) for one in ours)
    if many:
        yield wrong(
            "failed events",
            says=f"{many}{' or more' if many >= MOST else ''}: redeliver them in Auth0's dashboard, or set HEAL_STREAMS",
        )
    else:
        yield fine("failed events", says="none")


def _test_event(settings: Settings, application: Application, stream: Stream, engine: Engine) -> Finding:
    if "update:event_streams" not in application.scopes:
        return note(
            "test event", says="not sent, which takes the scope update:event_streams: send one in Auth0's dashboard"
        )
    before, refused = _counted(engine, "events_test"), _counted(engine, "unauthorized_events")
    if not send_test_event(settings, application, stream):
        return note("test event", says="Auth0 did not send one: send it in Auth0's dashboard")
    seconds = _waited_until(engine, lambda connection: _count(connection, "events_test") > before)
    if seconds is not None:
        return fine("test event", says=f"sent by Auth0, drained here after {seconds:.1f} s")
    if _counted(engine, "unauthorized_events") > refused:
        return wrong("test event", says=_wrong_token("EVENT_STREAM_TOKENS"))
    return wrong(
        "test event",
        says=f"Auth0 sent one and it was not drained within {PATIENCE:.0f} s: is PUBLIC_URL open to Auth0's addresses, "
        "does a worker run?",
    )


def _log_delivery(application: Application, engine: Engine) -> Finding:
    """Auth0 logs that we asked for a token, and that record comes by the log stream as every other does."""
    refused = _counted(engine, "unauthorized_logs")

    def arrived(connection: Connection) -> bool:
        ago = timedelta(seconds=time.monotonic() - application.asked_at)
        return bool(connection.execute(_LOGS, {"ago": ago}).scalar_one())

    if _waited_until(engine, arrived) is not None:
        return fine("log delivery", says="one came from Auth0 just now")
    if _counted(engine, "unauthorized_logs") > refused:
        return wrong("log delivery", says=_wrong_token("LOG_STREAM_TOKENS"))
    return note(
        "log delivery",
        says=f"none within {PATIENCE:.0f} s, though Auth0 logs that we asked for a token: is PUBLIC_URL open to Auth0's "
        "addresses? Auth0 may be slow: try again",
    )


def _wrong_token(setting: str) -> str:
    return (
        f"what came was refused, since its token is none of {setting}: give the stream the first of them "
        "(`understudy setup --send-tokens`)"
    )


def _counted(engine: Engine, name: str) -> int:
    with reaching_postgresql(), engine.connect() as connection:
        return _count(connection, name)


def _count(connection: Connection, name: str) -> int:
    return int(connection.execute(_COUNTED, {"name": name}).scalar_one())


def _waited_until(engine: Engine, true: Callable[[Connection], bool]) -> float | None:
    """Look until it is true; return the seconds that took, None where PATIENCE is over before."""
    began = time.monotonic()
    with reaching_postgresql(), engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while (waited := time.monotonic() - began) < PATIENCE:
            if true(connection):
                return waited
            time.sleep(_LOOK_AGAIN)
    return None
