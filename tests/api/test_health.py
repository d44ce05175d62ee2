"""What the process says of itself, and when it refuses to start."""

from __future__ import annotations

import psycopg
import pytest

from local.servers import EmbeddedPostgres, Postgres
from tests.api.conftest import StartWeb
from tests.api.web import DOMAIN, SECRET_MARKER, TOKEN, Web, environment, eventually, run_to_its_end
from tests.conftest import migrate
from worker.settings import Settings
from worker.setup.run import Unreachable, probe

OTHER = "staging.eu.auth0.com"


def _is_not_ready(web: Web, why: str) -> None:
    response = web.get("/readyz")
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"
    assert int(response.headers["retry-after"]) > 0
    assert why in response.json()["detail"]


def _leading_to(web: Web) -> Settings:
    return Settings.model_validate(
        {
            "database_url": web.database_url,
            "redis_url": "redis://x",
            "auth0_domain": DOMAIN,
            "public_url": web.url,
            "log_stream_tokens": [TOKEN],
        }
    )


def test_it_is_alive_and_ready(web: Web) -> None:
    assert web.get("/healthz").status_code == web.get("/readyz").status_code == 200
    assert web.sql("SELECT domain FROM tenant") == [(DOMAIN,)]


def test_without_postgresql_it_is_alive_and_not_ready(
    start_web: StartWeb, own_postgres: EmbeddedPostgres, redis_url: str
) -> None:
    web = start_web(own_postgres.url, redis_url)
    with own_postgres.stopped():
        _is_not_ready(web, "PostgreSQL cannot be reached")
        assert web.get("/healthz").status_code == 200
        assert web.deliver(b"").status_code == 503  # whoever probes us is told that nothing would be durable
        with pytest.raises(Unreachable, match="cannot store deliveries now"):
            probe(_leading_to(web))
    eventually(lambda: web.get("/readyz").is_success, "it to be ready again")
    eventually(lambda: web.deliver(b"").status_code == 204, "it to take deliveries")
    probe(_leading_to(web))
    assert web.rows() == []


def test_a_database_that_takes_no_writes_is_no_healthy_end(
    start_web: StartWeb, own_postgres: EmbeddedPostgres, redis_url: str
) -> None:
    url = own_postgres.create_database("standby")
    migrate(url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER DATABASE standby SET default_transaction_read_only = on")
    web = start_web(url, redis_url)
    eventually(lambda: web.deliver(b"").status_code == 503, "a refusal")
    with pytest.raises(Unreachable, match="cannot store deliveries now"):
        probe(_leading_to(web))


def test_an_older_schema_is_not_ready_and_a_newer_one_is(web: Web) -> None:
    ((revision,),) = web.sql("SELECT version_num FROM alembic_version")
    try:
        web.sql("UPDATE alembic_version SET version_num = '0000'")
        _is_not_ready(web, "understudy db upgrade")
        assert web.get("/healthz").status_code == 200
        web.sql("UPDATE alembic_version SET version_num = '9999'")  # the next release has migrated already
        assert web.get("/readyz").status_code == 200
        assert web.deliver(b"{}").status_code == 204
    finally:
        web.sql("UPDATE alembic_version SET version_num = %s", revision)


def test_an_empty_database_is_not_ready_until_it_is_migrated(
    start_web: StartWeb, postgres_server: Postgres, redis_url: str, database_url: str
) -> None:
    name = database_url.rpartition("/")[2]
    postgres_server.drop_database(name)
    postgres_server.create_database(name)
    web = start_web(database_url, redis_url)
    _is_not_ready(web, "understudy db upgrade")
    response = web.deliver(b"{}")
    assert response.status_code == 503
    assert "understudy db upgrade" in response.json()["detail"]
    migrate(database_url)
    eventually(lambda: web.get("/readyz").is_success and web.deliver(b"{}").status_code == 204, "it to work")


def test_a_database_that_turns_out_to_be_another_tenants_gets_nothing(
    start_web: StartWeb, own_postgres: EmbeddedPostgres, redis_url: str
) -> None:
    url = own_postgres.create_database("others")
    migrate(url)
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO tenant (domain) VALUES (%s)", [OTHER])
    with own_postgres.stopped():
        web = start_web(url, redis_url)  # it cannot know yet
    _is_not_ready(web, OTHER)
    eventually(lambda: OTHER in web.deliver(b"{}").text, "a refusal that names the tenant")
    assert web.deliver(b"{}").status_code == 503
    assert web.rows() == []


def test_it_refuses_to_start_on_another_tenants_database_and_says_both_names(database_url: str, redis_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("INSERT INTO tenant (domain) VALUES (%s)", [OTHER])
    run = run_to_its_end(environment(database_url, redis_url))
    assert run.returncode == 1
    (line,) = (run.stdout + run.stderr).strip().splitlines()
    assert OTHER in line
    assert DOMAIN in line
    assert SECRET_MARKER not in line


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"LOG_STREAM_TOKENS": ""}, "none of LOG_STREAM_TOKENS, EVENT_STREAM_TOKENS is set"),
        ({"LOG_STREAM_TOKENS": ","}, "none of LOG_STREAM_TOKENS, EVENT_STREAM_TOKENS is set"),
        (
            {"DATABASE_URL": f"mysql://{SECRET_MARKER}@localhost/x", "MAX_DELIVERY_BYTES": SECRET_MARKER},
            "DATABASE_URL: must be a PostgreSQL URL",
        ),
    ],
    ids=["no tokens", "empty tokens", "wrong values"],
)
def test_a_missing_or_wrong_setting_is_named_in_one_line(settings: dict[str, str], sentence: str) -> None:
    run = run_to_its_end(environment("postgresql://localhost:1/x", "redis://localhost:1/0") | settings)
    (line,) = (run.stdout + run.stderr).strip().splitlines()
    assert run.returncode == 1
    assert sentence in line
    assert SECRET_MARKER not in line
    assert TOKEN not in line
