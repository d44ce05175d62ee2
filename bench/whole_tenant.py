"""How fast and in what memory a whole tenant is loaded and compared, and whether a comparison that finds nothing writes."""

import gzip
import json
import sysconfig
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from bench.figures import Results, alternate, rates, ratio
from bench.memory import tree_pss
from bench.stage import TOKEN, Stage
from local.product import environment
from local.simulated_tenant import SimulatedTenant

_USERS = 50_000
_ROUNDS = 3
_MANY, _FEW = 1_000_000, 10_000
_DRIFTING = _USERS // 100  # half of them missing here, half of them older here
_PATIENCE = 600.0
# Every request is counted by the budget, none waits for it.
_UNLIMITED = {"AUTH0_LIMITS": "global=1000000:1000000/s", "AUTH0_BUDGET_SHARE": "1"}
_UNDERSTUDY = Path(sysconfig.get_path("scripts")) / "understudy"
_COUNTED = "users, news, wishes, pushes, songs, playlists, plays, play_days, user_data, sessions"


def whole_tenant(stage: Stage, results: Results) -> None:
    """Measure `backfill_vs_copy`, `verify_vs_backfill` and `reconcile_idle_writes` with an export of 50,000 users."""
    with _tenant(stage, _USERS) as tenant, stage.database({"AUTH0_DOMAIN": tenant.domain}) as url:
        environ = _environ(stage, tenant, url)
        with psycopg.connect(url, autocommit=True) as connection:

            def copy() -> float:
                _empty(connection)
                return _USERS / float(stage.ask("copy", "bench.copy", str(export), environ=environ))

            def backfill() -> float:
                _empty(connection)
                return _timed(stage, "backfill", environ, users=_USERS, written=_USERS)

            def backfill_and_verify() -> float:
                rate = backfill()
                _spoil(connection)
                half = _DRIFTING // 2
                drift = {"read": _DRIFTING, "missing": half, "stale": half}
                comparisons.append(_timed(stage, "verify", environ, users=_USERS, **drift))
                return rate

            comparisons: list[float] = []
            backfill()  # nobody counts this one
            export = stage.folder / f"{_answer(stage, 'export', environ)['job']}.json.gz"
            numbers = alternate(_ROUNDS, copy=copy, backfill=backfill_and_verify)
            results.figures["backfill_vs_copy"] = ratio(numbers["backfill"], numbers["copy"])
            results.figures["verify_vs_backfill"] = ratio(comparisons, numbers["backfill"])
            for name, measured in {**numbers, "verify, 1 % drift": comparisons}.items():
                results.note(f"a whole tenant, {name}", f"{rates(measured)} users")
            results.figures["reconcile_idle_writes"] = _idle_writes(stage, connection, environ)


def _idle_writes(stage: Stage, connection: psycopg.Connection, environ: Mapping[str, str]) -> float:
    """Return how many rows of users and of the app's tables a reconcile writes over a copy that equals the tenant."""
    _empty(connection)
    _timed(stage, "backfill", environ, written=_USERS)
    before = _rows_written(connection)
    _timed(stage, "reconcile", environ, state="complete", users=_USERS)
    return float(_rows_written(connection) - before)


def _rows_written(connection: psycopg.Connection) -> int:
    """Return how many rows these tables have had written, ever; what a process has written counts once it has ended."""
    row = connection.execute(
        "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del)::bigint FROM pg_stat_user_tables WHERE relname = ANY(%s)",
        [_COUNTED.split(", ")],
    ).fetchone()
    assert row is not None
    return int(row[0])


def whole_tenant_memory(stage: Stage, results: Results) -> None:
    """Measure `backfill_memory_1m_vs_10k`: `understudy backfill` itself, of an export with so many lines."""
    with _tenant(stage, _FEW) as tenant, stage.database({"AUTH0_DOMAIN": tenant.domain}) as url:
        environ = _environ(stage, tenant, url)
        with psycopg.connect(url, autocommit=True) as connection:
            numbers = alternate(
                1,
                few=lambda: _peak(stage, connection, environ, 1),
                many=lambda: _peak(stage, connection, environ, _MANY // _FEW),
            )
    results.figures["backfill_memory_1m_vs_10k"] = ratio(numbers["many"], numbers["few"])
    for name, peaks in numbers.items():
        results.note(f"a backfill's peak memory, {name}", ", ".join(f"{peak / 2**20:.0f} MB" for peak in peaks))


def _peak(stage: Stage, connection: psycopg.Connection, environ: Mapping[str, str], times: int) -> float:
    """Return the most that a backfill held; its export is the tenant's, `times` over, each time under other ids."""
    _empty(connection)
    job = _answer(stage, "export", environ)["job"]
    _multiply(stage.folder / f"{job}.json.gz", times)
    connection.execute(
        "INSERT INTO runs (kind, position) VALUES ('backfill', %s)", [json.dumps({"job": job, "lines": 0})]
    )
    peak, deadline = 0.0, time.monotonic() + _PATIENCE
    with stage.process("backfill", [str(_UNDERSTUDY), "backfill"], environ) as process:
        while _is_under_way(connection):
            if time.monotonic() > deadline:
                raise SystemExit("bench: the backfill did not end in time")
            peak = max(peak, tree_pss(process.pid))
            time.sleep(0.05)
    row = connection.execute("SELECT count(*) FROM users").fetchone()
    if row != (_FEW * times,):
        raise SystemExit(f"bench: {row} of {_FEW * times} users were loaded")
    return peak


def _is_under_way(connection: psycopg.Connection) -> bool:
    row = connection.execute("SELECT state FROM runs ORDER BY id DESC LIMIT 1").fetchone()
    return row == ("running",)


def _multiply(export: Path, times: int) -> None:
    """Write the file's lines so often, the users' ids changed."""
    with gzip.open(export) as file:
        lines = file.read().splitlines()
    with gzip.open(export, "wb", 1) as file:
        for number in range(times):
            mark = b'{"user_id":"%d-' % number if number else b'{"user_id":"'
            file.write(b"\n".join(line.replace(b'{"user_id":"', mark, 1) for line in lines) + b"\n")


@contextmanager
def _tenant(stage: Stage, users: int) -> Iterator[SimulatedTenant]:
    tenant = SimulatedTenant.start(stage.processes, stage.folder, plan="none")
    try:
        tenant.control("PUT", "jobs", {"export_seconds": 0})
        tenant.control("POST", "users/load", {"count": users}, timeout=_PATIENCE)
        yield tenant
    finally:
        tenant.process.stop()


def _environ(stage: Stage, tenant: SimulatedTenant, url: str) -> Mapping[str, str]:
    base = environment(tenant, database_url=url, redis_url=stage.servers.redis.url, token=TOKEN)
    return stage.environ(url, {**base, **_UNLIMITED, "AUTH0_PLAN": "enterprise"})


def _answer(stage: Stage, what: str, environ: Mapping[str, str]) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(stage.ask(what, "bench.whole", what, environ=environ, patience=_PATIENCE))
    return answer


def _timed(stage: Stage, what: str, environ: Mapping[str, str], **expected: object) -> float:
    """Return users/s of a run that has done what was expected."""
    answer = _answer(stage, what, environ)
    if not expected.items() <= answer.items():
        raise SystemExit(f"bench: a {what} should have reported {expected}, not {answer}")
    return _USERS / float(answer["seconds"])


def _empty(connection: psycopg.Connection) -> None:
    connection.execute("TRUNCATE users, news, runs, exported, suspects")
    connection.execute("CHECKPOINT")


def _spoil(connection: psycopg.Connection) -> None:
    """Let one user in a hundred drift."""
    half = _DRIFTING // 2
    connection.execute(
        "DELETE FROM users WHERE user_id IN (SELECT user_id FROM users ORDER BY md5(user_id) LIMIT %s)", [half]
    )
    connection.execute(
        """
        UPDATE users SET profile = jsonb_set(profile, '{updated_at}', '"2020-01-01T00:00:00.000Z"')
        WHERE user_id IN (SELECT user_id FROM users ORDER BY md5(user_id) LIMIT %s)
        """,
        [half],
    )
    connection.execute("ANALYZE users")
    connection.execute("CHECKPOINT")
