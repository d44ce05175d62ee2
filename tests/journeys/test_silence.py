"""No personal data and no secret in any output, whatever fails: markers are planted everywhere, and none comes out."""

from __future__ import annotations

import gzip
import time

from local.servers import EmbeddedPostgres, EmbeddedRedis
from tests.journeys.conftest import OnStage
from tests.journeys.markers import (
    EMAIL,
    GUESS,
    ODD_ID,
    PASSWORD,
    SECRET,
    SILENCE,
    USER_ID,
    assert_silent,
    broken_statements,
    plant,
    record,
)
from tests.journeys.stage import TOKEN, Stage, understudy

pytestmark = SILENCE

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
    """Let PostgreSQL refuse every write of this user."""
    for state in ("23514", "22003", "XX000"):  # a check, a number out of range, an internal error
        for table in ("users", "news"):
            with broken_statements(stage, table, state=state):
                stage.deliver(record())
                stage.tenant.control("POST", "people/login", {"user_ids": [user_id]})
                time.sleep(1.5)


def test_no_marker_is_ever_printed(play: OnStage, own_postgres: EmbeddedPostgres, own_redis: EmbeddedRedis) -> None:
    how = {"database_url": own_postgres.url, "redis_url": own_redis.url, "settings": {"MAX_DELIVERY_BYTES": "1000000"}}
    with play(**how) as stage:
        said = []
        user_id = plant(stage)
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

        assert_silent(stage, said, stage.tenant.client_secret, TOKEN, own_postgres.url, own_redis.url, rest)
