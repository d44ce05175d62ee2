"""No personal data and no secret in any output, whatever fails: markers are planted everywhere, and none comes out."""

from __future__ import annotations

import gzip
import json
import time
from typing import Any

import pytest

from local.servers import EmbeddedPostgres, EmbeddedRedis
from tests.journeys.conftest import OnStage
from tests.journeys.stage import TOKEN, Stage, understudy

pytestmark = pytest.mark.journey

EMAIL = "marker.email@marker-mail.example"
NAME = "Markername Markerson"
NICKNAME = "markernick"
USER_ID = "auth0|markerid0001"
ODD_ID = "markeroddid|x'\"%00;--"
IP = "203.0.113.77"
GUESS = "marker-wrong-token"
SECRET = "marker-wrong-secret"
PASSWORD = "marker-database-password"
METADATA = "marker-metadata"

MARKERS = [
    EMAIL,
    "marker.email",
    "Markername",
    NICKNAME,
    "markerid0001",
    "markeroddid",
    IP,
    GUESS,
    SECRET,
    PASSWORD,
    METADATA,
]


def record(**fields: Any) -> bytes:
    """Build a record full of markers."""
    data = {
        "date": "2026-01-01T00:00:00.000Z",
        "type": "s",
        "log_id": "90020260101",
        "user_id": USER_ID,
        "user_name": EMAIL,
        "ip": IP,
        "description": f"{NAME} {EMAIL}",
        "details": {"body": {"email": EMAIL, "name": NAME, "user_metadata": {"note": METADATA}}},
        **fields,
    }
    return json.dumps({"log_id": data["log_id"], "data": data}).encode()


BODIES = [
    record(),
    record(user_id=ODD_ID),
    record(user_id=f"auth0|markerid0001{'x' * 2000}"),
    record(user_id={"id": USER_ID}),
    record(user_id=[EMAIL]),
    record(type={"code": EMAIL}),
    record(type=EMAIL),
    record(date=EMAIL),
    record(date="9999999-13-45"),
    record(date={"$date": EMAIL}),
    record(user_id="auth0|markerid0001\x00"),
    record(user_id="auth0|markerid0001\ud800"),
    record(type="sapi", details={"request": {"method": "delete", "path": f"/api/v2/users/{EMAIL}"}, "response": EMAIL}),
    record(type="sapi", details={"request": {"method": EMAIL, "path": {"x": EMAIL}}}),
    record(type="sdu", user_id=None, description=f"user_id: {EMAIL}"),
    record(type="sscim", details={"action": EMAIL}),
    record()[:-10],
    b"not json at all " + EMAIL.encode(),
    b"\xff\xfe" + EMAIL.encode(),
    b"[" * 100_000 + EMAIL.encode(),
    f'{{"logs": "{EMAIL}"}}'.encode(),
    f'"{EMAIL}"'.encode(),
    record() + b"\n" + b"{broken " + EMAIL.encode() + b"\n" + record(),
]


def plant(stage: Stage) -> str:
    """Make a user whose profile consists of markers; return its id."""
    user_id = stage.sign_up(1, connection="Username-Password-Authentication")[0]
    for act in (
        {"act": "change_email", "email": EMAIL, "via": "dashboard"},
        {"act": "change_name", "name": NAME},
        {"act": "metadata", "user_metadata": {"note": METADATA}, "app_metadata": {"note": METADATA}},
        {"act": "login", "ip": IP},
    ):
        stage.tenant.control("POST", "people/act", {"user_id": user_id, **act})
    return user_id


def send_what_cannot_be_read(stage: Stage) -> None:
    for body in BODIES:
        assert stage.deliver(body) == 204
    assert stage.deliver(record(), token=GUESS) == 401
    assert stage.deliver(record(), token=f"Bearer {TOKEN}") == 401
    assert stage.deliver(record() * 5000) == 204  # over MAX_DELIVERY_BYTES
    assert stage.deliver(gzip.compress(record()), encoding="gzip") == 204
    assert stage.deliver(record(), encoding="gzip") == 204
    assert stage.deliver(gzip.compress(b" " * 10**8), encoding="gzip") == 204
    assert stage.deliver(record(), encoding=EMAIL) == 204


def let_the_tenant_fail(stage: Stage, user_id: str) -> None:
    for fault in (
        {"kind": "status", "status": 500, "message": EMAIL},
        {"kind": "status", "status": 400, "message": EMAIL},
        {"kind": "status", "status": 404, "message": EMAIL},
        {"kind": "status", "status": 403, "message": EMAIL},
        {"kind": "html", "status": 404},
        {"kind": "drop"},
    ):
        stage.faults({"where": "api", **fault})
        stage.tenant.control("POST", "people/login", {"user_ids": [user_id]})
        time.sleep(1.5)
    stage.faults()


def break_statements(stage: Stage, user_id: str) -> None:
    """Let PostgreSQL refuse every write of this user, with a message and a DETAIL that quote the row."""
    stage.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION 'refused %', NEW USING DETAIL = NEW::text, ERRCODE = TG_ARGV[0]; END $$; "
        "CREATE TABLE nothing ()"
    )
    for state in ("23514", "22003", "XX000"):  # a check, a number out of range, an internal error
        for table in ("users", "news"):
            stage.execute(
                f"CREATE TRIGGER refuse BEFORE UPDATE OR INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION refuse('{state}')"
            )
            stage.deliver(record())
            stage.tenant.control("POST", "people/login", {"user_ids": [user_id]})
            time.sleep(1.5)
            stage.execute(f"DROP TRIGGER refuse ON {table}")


def test_no_marker_is_ever_printed(play: OnStage, own_postgres: EmbeddedPostgres, own_redis: EmbeddedRedis) -> None:
    how = {"database_url": own_postgres.url, "redis_url": own_redis.url, "settings": {"MAX_DELIVERY_BYTES": "1000000"}}
    with play(**how) as stage:
        said = []
        user_id = plant(stage)
        stage.settle()
        assert stage.query(f"SELECT email FROM users WHERE user_id = '{user_id}'") == [(EMAIL,)]  # noqa: S608
        rest = user_id.partition("|")[2]

        send_what_cannot_be_read(stage)
        let_the_tenant_fail(stage, user_id)
        own_redis.restart()  # and with it every pause
        break_statements(stage, user_id)
        with own_redis.stopped():
            assert stage.deliver(record()) == 204
            said.append(stage.understudy("status"))
            said.append(stage.understudy("drain"))
        with own_postgres.stopped():
            assert stage.deliver(record()) == 503
            said += [stage.understudy("status"), stage.understudy("status", "--json"), stage.understudy("drain")]
            time.sleep(2)
        stage.deliver(record())
        stage.wait_until(lambda: stage.counts().pending == 0, "drain to go on")
        said += [stage.understudy("status"), stage.understudy("status", "--json"), stage.understudy("drain")]
        said += [stage.understudy("brake"), stage.understudy("db", "upgrade")]
        wrong = f"postgresql://marker:{PASSWORD}@127.0.0.1:1/nothing"
        for settings in (
            {"DATABASE_URL": wrong},
            {"DATABASE_URL": f"mysql://{PASSWORD}@x/y"},
            {"DATABASE_URL": PASSWORD},
            {"REDIS_URL": f"redis://:{PASSWORD}@127.0.0.1:1/0"},
            {"REDIS_URL": PASSWORD},
            {"AUTH0_DOMAIN": f"{EMAIL} !", "AUTH0_TIMEOUT": SECRET, "AUTH0_PLAN": SECRET, "MAX_DELIVERY_BYTES": SECRET},
            {"AUTH0_LIMITS": SECRET},
        ):
            said.append(understudy({**stage.environ, **settings}, "status"))
        stage.replace_worker(AUTH0_M2M_CLIENT_SECRET=SECRET)
        stage.tenant.control("POST", "people/login", {"user_ids": [user_id]})
        stage.wait_until(lambda: stage.count("conditions WHERE name = 'auth0_refused'") == 1, "the refusal", 75)
        said += [stage.understudy("status"), stage.understudy("status", "--json")]

        own = [stage.tenant.client_secret, TOKEN, own_postgres.url, own_redis.url, rest]
        everything = stage.output.of("web", "worker", "beat", "migrations") + "".join(one.out + one.err for one in said)
        assert len(everything) > 10_000, "nothing was said"
        leaked = {marker: everything.count(marker) for marker in [*MARKERS, *own] if marker in everything}
        assert not leaked, "\n".join(
            line for line in everything.splitlines() if any(marker in line for marker in leaked)
        )[:4000]
        assert not any("Traceback" in one.err for one in said), [one.err for one in said if "Traceback" in one.err][:1]
