"""What becomes of deliveries, on a real database (docs/protocol.md P5 to P7, P21, P22)."""

import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import zstandard
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import DBAPIError

from worker.store import inbox, users
from worker.store.users import UserNews
from worker.sync import drain as module
from worker.sync.drain import Delivery, Finish, Writer, drain
from worker.sync.learn import LogRecords

T0 = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)


def record(user_id: str | None = "auth0|ada", code: str = "s", seconds: float = 0, **more: Any) -> dict[str, Any]:
    date = (T0 + timedelta(seconds=seconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    data = {"date": date, "type": code, "log_id": "9002" + "0" * 52, "client_id": "app", "ip": "192.0.2.1", **more}
    if user_id is not None:
        data["user_id"] = user_id
    return {"log_id": data["log_id"], "data": data}


class Post:
    """The inbox as the web process fills it, and drain."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def receives(self, *records: dict[str, Any]) -> int:
        return self.receives_bytes(json.dumps(records).encode())

    def receives_bytes(self, body: bytes, source: str = "logs", *, stored: bytes | None = None) -> int:
        with self.engine.begin() as connection:
            return int(
                connection.execute(
                    text("INSERT INTO inbox (source, size, body) VALUES (:source, :size, :body) RETURNING id"),
                    {"source": source, "size": len(body), "body": stored or zstandard.compress(body)},
                ).scalar_one()
            )

    def drain(self) -> int:
        return drain(self.engine, LogRecords(), go_on=lambda: True)

    def ask(self, sql: str) -> list[Any]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(sql))]

    def states(self) -> list[Any]:
        return [state for (state,) in self.ask("SELECT state FROM inbox ORDER BY id")]


@pytest.fixture
def post(database_url: str) -> Iterator[Post]:
    engine = create_engine(database_url.replace("postgresql:", "postgresql+psycopg:"), pool_size=10)
    yield Post(engine)
    engine.dispose()


def test_a_login_of_somebody_unknown_becomes_a_bare_row_and_a_mark(post: Post) -> None:
    post.receives(record(user_name="ada@example.com", email="ada@example.com"))
    assert post.drain() == 1
    assert post.ask("SELECT user_id, email, name, nickname, profile, last_login FROM users") == [
        ("auth0|ada", None, None, None, None, None)
    ]
    assert post.ask("SELECT user_id, strong, login_seen_at FROM news") == [("auth0|ada", False, T0)]
    assert post.states() == ["done"]


def test_a_storm_of_one_users_logins_costs_one_row_write(post: Post) -> None:
    for second in range(20):
        post.receives(*(record(seconds=second * 10 + place) for place in range(10)))
    post.drain()
    [(numbers, last)] = post.ask("SELECT number, login_seen_at FROM news")
    assert last == T0 + timedelta(seconds=199)
    assert numbers == 1, "the mark was written more than once"


def test_news_of_one_user_is_merged_over_kinds(post: Post) -> None:  # P6
    post.receives(
        record(code="sce", seconds=9), record(seconds=3), record(code="sdu", seconds=5), record(code="s", seconds=1)
    )
    post.drain()
    assert post.ask("SELECT newest, login_seen_at, deletion_seen_at, strong, deletion_announced FROM news") == [
        (T0 + timedelta(seconds=9), T0 + timedelta(seconds=3), T0 + timedelta(seconds=5), True, True)
    ]


def test_a_deletion_asks_for_a_strong_read(post: Post) -> None:  # P7
    post.receives(record(code="sdu"))
    post.drain()
    assert post.ask("SELECT strong, deletion_announced FROM news") == [(True, True)]


def test_a_failed_login_creates_nobody(post: Post) -> None:
    post.receives(
        record(code="f", description="user is blocked"), record(code="fp"), record("client@clients", "seccft")
    )
    post.drain()
    assert post.ask("SELECT * FROM users") == []
    assert post.ask("SELECT * FROM news") == []


def test_a_blocked_users_attempt_marks_the_row_that_is_there(post: Post) -> None:
    with post.engine.begin() as connection:
        connection.execute(text("INSERT INTO users (user_id) VALUES ('auth0|ada')"))
    post.receives(record(code="f", description="user is blocked"))
    post.drain()
    assert post.ask("SELECT user_id FROM news") == [("auth0|ada",)]


def deletion_of_connection(gone: str, **more: Any) -> dict[str, Any]:
    request = {"method": "delete", "path": f"/api/v2/connections/{gone}"}
    return record(None, "sapi", details={"request": request, "response": {"statusCode": 204}}, **more)


def test_a_deleted_connection_marks_its_users(post: Post) -> None:
    with post.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO users (user_id, identities) VALUES ('samlp|a|1', '[{\"connection\": \"a\"}]'), ('samlp|b|1', '[{\"connection\": \"b\"}]')"
            )
        )
    post.receives(record("samlp|x|1", connection="x", connection_id="con_x"))
    post.receives(record("samlp|a|2", connection="a", connection_id="con_a"))
    post.drain()
    post.receives(deletion_of_connection("con_a", seconds=9, connection="x", connection_id="con_x"))
    post.drain()
    assert post.ask("SELECT user_id, strong, deletion_announced, deletion_seen_at FROM news WHERE strong") == [
        ("samlp|a|1", True, True, T0 + timedelta(seconds=9))
    ]
    assert post.ask("SELECT id, name FROM connections ORDER BY id") == [("con_a", "a"), ("con_x", "x")]
    assert post.ask("SELECT * FROM conditions") == []


def test_a_deleted_connection_of_which_only_the_id_is_known_asks_for_a_reconcile(post: Post) -> None:
    post.receives(deletion_of_connection("con_a", connection="x", connection_id="con_x"))
    post.drain()
    [(detail,)] = post.ask("SELECT detail FROM conditions WHERE name = 'reconcile_wanted'")
    assert "connection" in detail


@pytest.mark.parametrize(
    "odd",
    [
        {"connection_id": 7},
        {"connection": ["a"]},
        {"connection": ""},
        {"connection": "a\x00"},
        {"connection": "\ud800"},
    ],
)
def test_an_odd_connection_spoils_nothing(post: Post, odd: dict[str, Any]) -> None:
    post.receives(record(**{"connection": "a", "connection_id": "con_a", **odd}), deletion_of_connection("con_a"))
    post.drain()
    assert post.ask("SELECT user_id FROM news") == [("auth0|ada",)]
    assert post.ask("SELECT * FROM connections") == []
    assert post.states() == ["done"]


def test_the_users_of_a_deleted_connection_are_marked_before_any_other_mark_is_held(post: Post) -> None:
    with post.engine.begin() as connection:
        connection.execute(
            text("INSERT INTO users (user_id, identities) VALUES ('auth0|a', '[{\"connection\": \"db\"}]')")
        )
    post.receives(
        record("auth0|z", connection="db", connection_id="con_db"), record("auth0|a"), deletion_of_connection("con_db")
    )
    with ThreadPoolExecutor() as pool:
        with post.engine.begin() as other:
            users.mark(other, [UserNews("auth0|a")])
            draining = pool.submit(post.drain)
            while not post.ask("SELECT FROM pg_locks WHERE NOT granted"):
                assert not draining.done()
            users.mark(other, [UserNews("auth0|z")])
        assert draining.result() == 1
    assert post.ask("SELECT user_id, strong FROM news ORDER BY user_id") == [("auth0|a", True), ("auth0|z", False)]


def test_unknown_codes_are_counted_and_are_no_error(post: Post) -> None:
    post.receives(record(code="brand_new"), record(code="brand_new"), record())
    post.drain()
    assert post.ask("SELECT value FROM counters WHERE name = 'log_code_unknown:brand_new'") == [(2,)]
    assert post.ask("SELECT count(*) FROM parked") == [(0,)]
    assert post.ask("SELECT count(*) FROM users") == [(1,)]


@pytest.mark.parametrize("code", ["nul\x00", "half\ud800", "🎵" * 60])
def test_an_odd_code_spoils_nothing_beside_it(post: Post, code: str) -> None:
    post.receives(record(code=code), record("auth0|bob"))
    post.drain()
    assert post.ask("SELECT user_id FROM users") == [("auth0|bob",)]
    assert post.states() == ["done"]


def test_a_bad_record_is_parked_with_its_bytes_and_its_neighbours_are_applied(post: Post) -> None:
    bad = b'{"log_id": "1", "data": {"type": 5}}'
    post.receives_bytes(
        json.dumps(record("auth0|ada")).encode() + b"\n" + bad + b"\n" + json.dumps(record("auth0|bob")).encode()
    )
    post.drain()
    assert post.ask("SELECT user_id FROM users ORDER BY 1") == [("auth0|ada",), ("auth0|bob",)]
    [(position, reason, raw)] = post.ask("SELECT position, reason, record FROM parked")
    assert (position, bytes(raw)) == (1, bad)
    assert "type" in reason
    assert post.states() == ["done"]


def test_what_is_no_json_is_parked_and_the_rest_goes_on(post: Post) -> None:
    post.receives_bytes(b"<html>maintenance</html>")
    post.receives(record())
    post.drain()
    assert post.ask("SELECT reason, record FROM parked") == [
        ("no delivery of log records", b"<html>maintenance</html>")
    ]
    assert post.ask("SELECT count(*) FROM users") == [(1,)]


def test_a_body_that_cannot_be_unpacked_is_parked_whole(post: Post) -> None:
    post.receives_bytes(b"x", stored=b"not zstd")
    post.receives(record())
    post.drain()
    assert post.states() == ["parked", "done"]


@pytest.mark.parametrize("user_id", ["auth0|nul\x00", "auth0|half\ud800", "auth0|" + "a" * 2000])
def test_an_id_that_postgresql_cannot_hold_spoils_nothing_beside_it(post: Post, user_id: str) -> None:
    post.receives(record(user_id), record("auth0|bob"))
    post.drain()
    assert post.ask("SELECT user_id FROM users") == [("auth0|bob",)]
    assert post.ask("SELECT count(*) FROM parked") == [(1,)]


@pytest.mark.parametrize("date", ["yesterday", 17, None, "9999-12-31T00:00:00Z", "0000-00-00", {"$date": 1}], ids=repr)
def test_a_date_that_is_no_date_still_marks_its_user(post: Post, date: object) -> None:
    post.receives(record("auth0|ada") | {"data": record("auth0|ada")["data"] | {"date": date}}, record("auth0|bob"))
    post.drain()
    assert post.ask("SELECT user_id, strong FROM news ORDER BY 1") == [("auth0|ada", True), ("auth0|bob", False)]


def test_a_record_that_is_read_leniently_and_names_its_connection_oddly_spoils_nothing(post: Post) -> None:
    odd = json.dumps(record("auth0|eve", connection_id={"of": ["many"]}, user_agent="?")).replace("?", "\x01")
    post.receives_bytes(odd.encode())
    post.receives(record("auth0|bob"))
    assert post.drain() == 2
    assert post.ask("SELECT user_id FROM news ORDER BY 1") == [("auth0|bob",), ("auth0|eve",)]
    assert post.states() == ["done", "done"]


class Mistaken(LogRecords):
    """A source with a mistake of ours, wherever its name says, which the records of one user meet."""

    def trip(self, where: str, records: Iterable[Any]) -> None:
        if where == self.name and any(one.user_id == "auth0|eve" for one, _ in records):
            raise KeyError("auth0|eve")

    def decode(self, content: bytes) -> Any:
        found = super().decode(content)
        self.trip("decode", found[0])
        return found

    def prepare(self, deliveries: Sequence[Delivery[Any]], now: datetime) -> Writer:
        records = [one for delivery in deliveries for one in delivery.records]
        self.trip("prepare", records)
        write = super().prepare(deliveries, now)

        def mistaken(engine: Engine, finish: Finish) -> Mapping[str, int]:
            self.trip("write", records)
            return write(engine, finish)

        return mistaken


@pytest.mark.parametrize("where", ["decode", "prepare", "write"])
def test_a_mistake_of_ours_parks_the_record_that_meets_it_and_drains_the_others(post: Post, where: str) -> None:
    for number in range(5):
        post.receives_bytes(json.dumps([record(f"auth0|{number}"), record(f"auth0|{number}b")]).encode(), source=where)
    bad = json.dumps(record("auth0|eve")).encode()
    post.receives_bytes(b"[" + bad + b"," + json.dumps(record("auth0|neighbour")).encode() + b"]", source=where)
    post.receives_bytes(json.dumps(record("auth0|last")).encode(), source=where)
    drain(post.engine, Mistaken(name=where), go_on=lambda: True)
    whole = where == "decode"
    assert post.ask("SELECT count(*) FROM news") == [(11 if whole else 12,)]
    assert post.states() == ["done"] * 5 + ["parked" if whole else "done", "done"]
    parked = "SELECT error FROM inbox WHERE state = 'parked'" if whole else "SELECT reason, record FROM parked"
    [(reason, *raw)] = post.ask(parked)
    assert "KeyError" in reason
    assert "eve" not in reason
    assert [bytes(one) for one in raw] == ([] if whole else [bad])
    assert post.ask("SELECT max(attempts) FROM inbox") == [(1,)]


def test_what_postgresql_lacks_parks_nothing(post: Post) -> None:
    post.receives(record())
    with post.engine.begin() as connection:
        connection.execute(text("ALTER TABLE news RENAME TO old_news"))
    try:
        with pytest.raises(DBAPIError):
            post.drain()
    finally:
        with post.engine.begin() as connection:
            connection.execute(text("ALTER TABLE old_news RENAME TO news"))
    assert post.states() == ["pending"]


def test_an_attempt_counts_before_the_body_is_decoded(post: Post) -> None:  # P21
    delivery = post.receives(record())
    with post.engine.begin() as connection:
        inbox.claim(connection, "logs", rows=9, size=10**6, lease=timedelta(0))
    assert post.ask("SELECT attempts FROM inbox") == [(1,)]
    assert post.drain() == 1
    assert post.ask(f"SELECT state, attempts FROM inbox WHERE id = {delivery}") == [("done", 2)]  # noqa: S608 a number of ours


def test_what_failed_twice_is_drained_last_and_alone(post: Post) -> None:  # P21
    troubled = [post.receives(record(f"auth0|{number}")) for number in range(2)]
    with post.engine.begin() as connection:
        connection.execute(text("UPDATE inbox SET attempts = 2"))
    fresh = post.receives(record())
    claims = []
    for _ in range(3):
        with post.engine.begin() as connection:
            claims.append([one.id for one in inbox.claim(connection, "logs", rows=9, size=10**6, lease=module.LEASE)])
    assert claims == [[fresh], [troubled[0]], [troubled[1]]]


def test_the_fifth_attempt_parks_a_body_whole_without_decoding_it(post: Post) -> None:  # P21
    post.receives(record())
    with post.engine.begin() as connection:
        connection.execute(text("UPDATE inbox SET attempts = 4"))
    post.drain()
    assert post.states() == ["parked"]
    assert post.ask("SELECT * FROM users") == []


def test_a_killed_drains_claim_ends_by_its_time(post: Post) -> None:  # P21
    post.receives(record())
    with post.engine.begin() as connection:
        assert inbox.claim(connection, "logs", rows=9, size=10**6, lease=timedelta(hours=1))
    assert post.drain() == 0
    with post.engine.begin() as connection:
        connection.execute(text("UPDATE inbox SET claimed_until = now() - interval '1 s'"))
    assert post.drain() == 1


def test_each_source_is_claimed_by_itself(post: Post) -> None:  # P22
    post.receives_bytes(b"[]", source="plays")
    post.receives(record())
    assert post.drain() == 1
    assert post.states() == ["pending", "done"]


def test_a_claim_is_bounded_in_bytes_and_never_empty(post: Post) -> None:
    for _ in range(4):
        post.receives_bytes(b" " * 1000)
    with post.engine.begin() as connection:
        assert len(inbox.claim(connection, "logs", rows=9, size=1500, lease=module.LEASE)) == 2
    with post.engine.begin() as connection:
        assert len(inbox.claim(connection, "logs", rows=9, size=1, lease=module.LEASE)) == 1


def test_a_claim_too_large_for_one_part_loses_none_of_them(post: Post) -> None:
    wide = "x" * 1000
    for number in range(20):  # 20 of 1 MB
        post.receives(*(record(f"auth0|{number:02}-{place:03}", user_agent=wide) for place in range(900)))
        if number % 7 == 3:
            post.receives_bytes(b"no zstd" * 10, stored=b"no zstd")
    with post.engine.begin() as connection:
        claimed = inbox.claim(connection, "logs", rows=99, size=10**9, lease=module.LEASE)
    assert len(module._parts(claimed)) > 2
    module._drain_batch(post.engine, LogRecords(), claimed)
    assert post.ask("SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM news)") == [(18_000, 18_000)]
    assert post.ask("SELECT state, count(*) FROM inbox GROUP BY state ORDER BY state") == [("done", 20), ("parked", 3)]


def test_several_workers_drain_side_by_side(post: Post) -> None:
    for number in range(300):
        post.receives(*(record(f"auth0|{(number * 7 + place) % 500:03}", seconds=number) for place in range(10)))
    drained: list[int] = []
    workers = [threading.Thread(target=lambda: drained.append(_drain_in_small_claims(post.engine))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sum(drained) == 300, "a delivery was drained twice, or not at all"
    assert post.ask("SELECT count(*) FROM users") == [(500,)]
    assert set(post.states()) == {"done"}


def _drain_in_small_claims(engine: Engine) -> int:
    """Drain as `drain` does, few at a time, so that workers meet."""
    done = 0
    while True:
        with engine.begin() as connection:
            claimed = inbox.claim(connection, "logs", rows=5, size=10**7, lease=module.LEASE)
        if not claimed:
            return done
        module._drain_batch(engine, LogRecords(), claimed)
        done += len(claimed)


def test_drained_deliveries_go_after_their_retention_and_nothing_else_does(post: Post) -> None:
    post.receives(record())
    post.drain()
    post.receives(record())
    with post.engine.begin() as connection:
        connection.execute(text("UPDATE inbox SET received_at = now() - interval '8 days'"))
        assert inbox.clean(connection, timedelta(days=9)) == 0
        assert inbox.clean(connection, timedelta(days=7)) == 1
    assert post.states() == ["pending"]
