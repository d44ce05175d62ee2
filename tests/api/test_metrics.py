"""`GET /metrics` of a real web process, and what the dashboard and the alert rules make of it."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import create_engine

from local.servers import EmbeddedPostgres, EmbeddedRedis
from tests.api.conftest import StartWeb
from tests.api.web import SECRET_MARKER, Web, eventually
from tests.docs.pages import CHECKOUT, OPERATING
from worker.domain.users import Tolerances
from worker.sync.drain import Source, drain
from worker.sync.durations import Durations
from worker.sync.learn import LogRecords
from worker.sync.snapshots import EventStream

METRICS_TOKEN = f"{SECRET_MARKER}-metrics"
DEPLOY = CHECKOUT / "deploy"
FILES = [DEPLOY / "alerts.yml", DEPLOY / "grafana.json"]
# A metric as PromQL names it, with its selector.
_NAMED = re.compile(r"(understudy_[a-z0-9_]+)(?:\{([^}]*)\})?")
_LABEL = re.compile(r'(\w+)\s*!?=~?\s*\\?"([^"\\]*)')


def record(seconds_ago: float, user: str = "auth0|somebody") -> bytes:
    date = (datetime.now(UTC) - timedelta(seconds=seconds_ago)).isoformat()
    return json.dumps({"data": {"type": "s", "date": date, "user_id": user}}).encode()


@pytest.fixture
def scraped(start_web: StartWeb, database_url: str, redis_url: str) -> Web:
    return start_web(database_url, redis_url, METRICS_TOKEN=METRICS_TOKEN)


def scrape(web: Web) -> dict[str, Metric]:
    answer = web.client.get("/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {family.name: family for family in text_string_to_metric_families(answer.text)}


def value(metrics: dict[str, Metric], sample: str, **labels: str) -> float | None:
    """Return the sample's value, None where there is none."""
    found = [
        one.value
        for family in metrics.values()
        for one in family.samples
        if one.name == sample and labels.items() <= one.labels.items()
    ]
    assert len(found) <= 1
    return found[0] if found else None


def drained(database_url: str, source: Source[Any] | None = None) -> None:
    engine = create_engine(database_url.replace("postgresql:", "postgresql+psycopg:"))
    drain(engine, source or LogRecords(), go_on=lambda: True)
    Durations().took(engine, "drain", 0.02)
    engine.dispose()


def test_how_late_each_event_was_is_counted_with_what_it_says(scraped: Web) -> None:
    web = scraped
    web.deliver(record(20) + b"\n" + record(3_000))
    web.deliver(record(-30))  # a clock that is ahead
    drained(web.database_url)
    metrics = scrape(web)
    buckets = {
        one.labels["le"]: one.value
        for one in metrics["understudy_freshness_seconds"].samples
        if one.name.endswith("_bucket")
    }
    assert (buckets["0.1"], buckets["10.0"], buckets["7200.0"], buckets["+Inf"]) == (1, 1, 3, 3)
    assert value(metrics, "understudy_freshness_seconds_count", source="logs") == 3
    assert 3_020 <= (value(metrics, "understudy_freshness_seconds_sum", source="logs") or 0) < 7_200
    assert value(metrics, "understudy_deliveries_total", result="drained") == 2
    assert value(metrics, "understudy_log_records_total") == 3
    assert value(metrics, "understudy_loop_seconds_count", loop="drain") == 1


def test_an_event_of_an_event_stream_is_counted_by_itself(scraped: Web) -> None:
    at = (datetime.now(UTC) - timedelta(seconds=20)).isoformat()
    event = {"type": "user.created", "time": at, "data": {"object": {"user_id": "auth0|a", "updated_at": at}}}
    with psycopg.connect(scraped.database_url) as connection:
        body = json.dumps(event).encode()
        connection.execute(
            "INSERT INTO inbox (source, size, encoding, body) VALUES ('events', %s, 'identity', %s)", (len(body), body)
        )
    drained(scraped.database_url, EventStream(Tolerances(timedelta(seconds=5), timedelta(seconds=60))))
    assert value(scrape(scraped), "understudy_freshness_seconds_count", source="events") == 1


def test_what_waits_and_since_when_is_shown(scraped: Web) -> None:
    web = scraped
    with psycopg.connect(web.database_url) as connection:
        connection.execute(
            "INSERT INTO inbox (source, size, body, received_at) VALUES ('logs', 1, 'x', now() - interval '5 minutes')"
        )
        connection.execute("INSERT INTO inbox (source, state, size) VALUES ('logs', 'parked', 1)")
        connection.execute(
            "INSERT INTO parked (source, reason, record) VALUES ('logs', 'odd', 'x'), ('logs', 'odd', 'y')"
        )
        connection.execute("INSERT INTO news (user_id, first_at) VALUES ('a', now() - interval '1 hour')")
        connection.execute("INSERT INTO news (user_id, braked_at) VALUES ('b', now())")
        connection.execute("INSERT INTO feeds (name, stands_for) VALUES ('logs', now() - interval '1 minute')")
        connection.execute("INSERT INTO runs (kind, state, ended_at) VALUES ('verify', 'complete', now())")
        connection.execute("INSERT INTO processes (name, seen_at) VALUES ('worker@a', now() - interval '1 day')")
        connection.execute("INSERT INTO processes (name) VALUES ('worker@b')")
    metrics = scrape(web)
    assert value(metrics, "understudy_pending_deliveries") == 1
    assert 300 <= (value(metrics, "understudy_oldest_pending_seconds") or 0) < 600
    assert value(metrics, "understudy_parked", kind="delivery") == 1
    assert value(metrics, "understudy_parked", kind="record") == 2
    assert value(metrics, "understudy_stale_users") == 2
    assert 3_600 <= (value(metrics, "understudy_oldest_stale_seconds") or 0) < 4_000
    assert value(metrics, "understudy_braked", kind="deletion") == 1
    assert 60 <= (value(metrics, "understudy_feed_age_seconds", feed="logs") or 0) < 600
    assert value(metrics, "understudy_log_retention_seconds") == 86_400  # of AUTH0_PLAN's default
    assert (value(metrics, "understudy_run_completed_timestamp_seconds", kind="verify") or 0) > 1.7e9
    assert (value(metrics, "understudy_quiet_seconds", process="worker") or 0) < 600
    assert value(metrics, "understudy_quiet_seconds", process="beat") == float("inf")


def test_refused_deliveries_are_counted(scraped: Web) -> None:
    scraped.deliver(record(1), token="wrong")
    assert eventually(
        lambda: value(scrape(scraped), "understudy_unauthorized_deliveries_total", source="logs"), "the count"
    )


@pytest.mark.parametrize("sent", [None, "", METRICS_TOKEN, "Bearer wrong", f"Bearer {METRICS_TOKEN}x", "Bearer \xe9"])
def test_who_has_no_token_sees_nothing(scraped: Web, sent: str | None) -> None:
    headers = [] if sent is None else [(b"Authorization", sent.encode("latin-1"))]
    answer = scraped.client.get("/metrics", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "understudy_" not in answer.text


def test_without_a_token_there_is_no_such_route(web: Web) -> None:
    assert web.client.get("/metrics", headers={"Authorization": "Bearer x"}).status_code == 404


def test_no_metric_has_a_user_in_it(scraped: Web) -> None:
    scraped.deliver(record(1, "auth0|person.marker"))
    drained(scraped.database_url)
    answer = scraped.client.get("/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"})
    assert "auth0|" not in answer.text
    assert "marker" not in answer.text


def test_while_a_server_is_away_it_says_so(
    start_web: StartWeb, own_postgres: EmbeddedPostgres, own_redis: EmbeddedRedis
) -> None:
    web = start_web(own_postgres.url, own_redis.url, METRICS_TOKEN=METRICS_TOKEN)
    assert value(scrape(web), "understudy_redis_up") == 1
    assert value(scrape(web), "understudy_budget_tokens", group="global") is not None
    own_redis.stop()
    try:
        metrics = scrape(web)
        assert value(metrics, "understudy_redis_up") == 0
        assert value(metrics, "understudy_budget_tokens") is None
    finally:
        own_redis.start()
    own_postgres.stop()
    try:
        answer = web.client.get("/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"})
        assert answer.status_code == 503
        assert "PostgreSQL" in answer.text
    finally:
        own_postgres.start()


@pytest.fixture
def exported(scraped: Web) -> dict[str, Metric]:
    """Every metric there is: those of loops, feeds, runs and conditions too."""
    scraped.deliver(record(1))
    drained(scraped.database_url)
    with psycopg.connect(scraped.database_url) as connection:
        connection.execute("INSERT INTO feeds (name, stands_for) VALUES ('logs', now())")
        connection.execute("INSERT INTO runs (kind, state, ended_at) VALUES ('verify', 'complete', now())")
        connection.execute("INSERT INTO conditions (name, detail) VALUES ('auth0_refused', 'why')")
    return scrape(scraped)


def test_a_feed_that_was_turned_off_ages_for_nobody(scraped: Web) -> None:
    with psycopg.connect(scraped.database_url) as connection:
        connection.execute(
            "INSERT INTO feeds (name, stands_for, trouble) VALUES ('events', now() - interval '9 d', 'x')"
        )
        connection.execute("INSERT INTO feeds (name, stands_for) VALUES ('logs', now())")
    metrics = scrape(scraped)
    assert [one.labels["feed"] for one in metrics["understudy_feed_age_seconds"].samples] == ["logs"]
    assert [one.labels["feed"] for one in metrics["understudy_feed_trouble"].samples] == ["logs"]


def test_a_stream_that_lost_what_a_pull_found_is_broken(scraped: Web) -> None:
    assert value(scrape(scraped), "understudy_stream_broken", source="logs") == 0
    with psycopg.connect(scraped.database_url) as connection:
        connection.execute("UPDATE tenant SET copied_since = now() - interval '1 day'")
        connection.execute("INSERT INTO counters (name, value, latest_at) VALUES ('log_records_missed', 1, now())")
    metrics = scrape(scraped)
    assert value(metrics, "understudy_stream_broken", source="logs") == 1
    assert value(metrics, "understudy_stream_broken", source="events") is None, "no event stream is set up"


def test_the_dashboard_and_the_alerts_name_what_is_exported_and_all_of_it(exported: dict[str, Metric]) -> None:
    samples: dict[str, set[str]] = {}
    for family in exported.values():
        for one in family.samples:
            samples.setdefault(one.name, set()).update(one.labels)
    # Nobody has called Auth0 here, so these two have no samples yet.
    samples |= {
        "understudy_budget_spent_total": {"group", "class"},
        "understudy_auth0_refusals_total": {"group", "kind"},
    }
    assert {"understudy_budget_spent", "understudy_auth0_refusals"} <= exported.keys()
    families = {re.sub(r"_(bucket|sum|count|total|created)$", "", name) for name in samples}
    named: set[str] = set()
    for path in FILES:
        for name, selector in _NAMED.findall(path.read_text()):
            assert name in samples, f"{path.name} names {name}, which nobody exports"
            assert {label for label, _ in _LABEL.findall(selector)} <= samples[name], f"{path.name}: {name} {selector}"
            named.add(re.sub(r"_(bucket|sum|count|total)$", "", name))
    assert named == families, "what is exported is on the dashboard or in an alert"
    assert all(name in OPERATING.read_text() for name in families)


def test_a_bound_that_an_alert_counts_up_to_exists(exported: dict[str, Metric]) -> None:
    bounds = {one.labels["le"] for one in exported["understudy_freshness_seconds"].samples if "le" in one.labels}
    asked = set(re.findall(r'le="([^"]+)"', FILES[0].read_text()))
    assert asked
    assert asked <= bounds


def test_every_alert_is_explained() -> None:
    alerts = re.findall(r"- alert: (\w+)", FILES[0].read_text())
    assert len(alerts) > 10
    explained = re.findall(r"^\| `(Understudy\w+)` \|", OPERATING.read_text(), re.MULTILINE)
    assert sorted(alerts) == sorted(explained)
