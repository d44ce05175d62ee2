"""Refresh against a simulated tenant over HTTPS: strong while the budget is ample, by the page under pressure, patient in an outage."""

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import Engine, create_engine, text

from tests.simulator.running import Simulator
from worker.auth0.client import Tenant
from worker.auth0.pace import Budget
from worker.domain.users import Tolerances, canonical
from worker.errors import WrongSetting
from worker.settings import Settings
from worker.store import users
from worker.store.users import UserNews
from worker.sync.refresh import Refresh

AMPLE = {"global": (1000.0, 1000.0)}


@pytest.fixture(scope="module")
def auth0() -> Iterator[Simulator]:
    simulator = Simulator("--plan", "none", "--index-lag", "0", "--log-skew", "0")
    yield simulator
    simulator.stop()


class Refresher:
    """A database, a budget and the loop over them."""

    def __init__(self, auth0: Simulator, engine: Engine, redis_url: str, **changes: Any) -> None:
        values: dict[str, Any] = {
            "database_url": "postgresql://nobody@127.0.0.1/none",
            "redis_url": redis_url,
            "auth0_domain": auth0.ready["domain"],
            "auth0_ca_file": auth0.ready["ca_file"],
            "auth0_m2m_client_id": auth0.ready["client_id"],
            "auth0_m2m_client_secret": auth0.ready["client_secret"],
            "auth0_limits": AMPLE,
            "auth0_budget_share": 1,
            "auth0_timeout": "2s",
        }
        self.auth0, self.engine = auth0, engine
        settings = Settings(**values | changes)
        self.redis = Redis.from_url(redis_url)
        self.budget = Budget(self.redis, settings)
        self.tenant = Tenant(settings, self.redis, self.budget)
        self.settle = timedelta(seconds=60)
        self.budget.look("read_users")
        time.sleep(0.05)  # a bucket begins empty, and fills

    def hears(self, user_ids: list[str], **news: Any) -> None:
        with self.engine.begin() as connection:
            users.mark(connection, [UserNews(user_id, **news) for user_id in user_ids])

    def run(self, rounds: int = 100) -> float | None:
        left = iter(range(rounds))
        refresh = Refresh(self.engine, self.tenant, self.budget, Tolerances(timedelta(seconds=5), self.settle), b"key")
        return refresh.run(go_on=lambda: next(left, None) is not None)

    def pass_time(self, seconds: float) -> None:
        """Let the news grow older."""
        with self.engine.begin() as connection:
            connection.execute(
                text(
                    "UPDATE news SET first_at = first_at - :d, last_at = last_at - :d, due_at = due_at - :d, leased_until = leased_until - :d"
                ),
                {"d": timedelta(seconds=seconds)},
            )

    def marks(self) -> int:
        return int(self.ask("SELECT count(*) FROM news")[0][0])

    def ask(self, sql: str) -> list[Any]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(sql))]

    def calls(self) -> dict[str, int]:
        calls: dict[str, int] = self.auth0.control("GET", "stats")["api_calls"]
        return calls

    def differences(self, user_ids: list[str]) -> list[str]:
        truth = self.auth0.truth()
        kept = dict(self.ask("SELECT user_id, profile FROM users WHERE deleted_at IS NULL"))
        return [
            one
            for one in user_ids
            if one not in kept or kept[one] is None or canonical(kept[one]) != canonical(truth[one])
        ]


@pytest.fixture
def refresher(auth0: Simulator, database_url: str, redis_url: str) -> Iterator[Callable[..., Refresher]]:
    auth0.control("DELETE", "faults")
    auth0.control(
        "PUT",
        "limits",
        {"plan": "none", "per_page_max": 100, "q_max": 8000, "search_timeout_probability": 0, "index_lag": 0},
    )
    engine = create_engine(database_url.replace("postgresql:", "postgresql+psycopg:"))
    made: list[Refresher] = []

    def make(**changes: Any) -> Refresher:
        made.append(Refresher(auth0, engine, redis_url, **changes))
        auth0.control("POST", "stats/reset")
        return made[-1]

    yield make
    for one in made:
        one.tenant.close()
        one.redis.close()
    engine.dispose()


def test_while_the_budget_is_ample_each_stale_user_is_read_strongly_at_once(
    refresher: Callable[..., Refresher],
) -> None:
    refresh = refresher()
    ids = refresh.auth0.sign_up(12)
    refresh.hears(ids)
    assert refresh.run() is None
    assert refresh.calls() == {"GET /api/v2/users/{id}": 12}
    assert refresh.marks() == 0
    assert refresh.differences(ids) == []


def test_under_pressure_users_are_read_by_the_page_and_settled_later(refresher: Callable[..., Refresher]) -> None:
    refresh = refresher(auth0_limits={"global": (5.0, 5000.0)})
    ids = refresh.auth0.sign_up(250)
    refresh.hears(ids)
    refresh.pass_time(3)
    refresh.run()
    assert refresh.differences(ids) == [], "a page did not improve its users"
    assert refresh.marks() == 250, "a search cleared what had not settled"
    early = sum(refresh.calls().values())
    assert early == 3
    refresh.pass_time(61)
    refresh.run()
    assert refresh.marks() == 0
    assert sum(refresh.calls().values()) == 6


def test_strong_marks_are_not_starved_by_pages(refresher: Callable[..., Refresher]) -> None:
    refresh = refresher(auth0_limits={"global": (2.0, 5000.0)})
    weak, strong = refresh.auth0.sign_up(150), refresh.auth0.sign_up(3)
    refresh.hears(weak)
    refresh.hears(strong, strong=True)
    refresh.pass_time(3)
    refresh.run()
    assert refresh.ask("SELECT count(*) FROM news WHERE strong") == [(0,)]


def test_who_logs_in_without_end_is_read_strongly_in_the_end(refresher: Callable[..., Refresher]) -> None:
    refresh = refresher(auth0_limits={"global": (2.0, 5000.0)})
    ids = refresh.auth0.sign_up(5)
    refresh.hears(ids)
    refresh.pass_time(16 * 60)
    refresh.hears(ids)
    refresh.run()
    assert refresh.marks() == 0


def test_a_page_lingers_to_fill_and_says_when_to_ring_again(refresher: Callable[..., Refresher]) -> None:
    refresh = refresher(auth0_limits={"global": (2.0, 5000.0)})
    refresh.hears(refresh.auth0.sign_up(20))
    assert refresh.run() == pytest.approx(2.0)
    assert refresh.calls() == {}


@pytest.mark.parametrize("limits", [{"per_page_max": 50}, {"q_max": 1500}], ids=["fifty_a_page", "414"])
def test_smaller_pages_are_learned_and_nobody_is_taken_for_missing(
    refresher: Callable[..., Refresher], limits: dict[str, int]
) -> None:
    refresh = refresher(auth0_limits={"global": (5.0, 5000.0)})
    refresh.auth0.control("PUT", "limits", limits)
    ids = refresh.auth0.sign_up(120)
    refresh.hears(ids)
    refresh.pass_time(61)
    refresh.run()
    assert refresh.differences(ids) == []
    assert refresh.marks() == 0
    assert sum(refresh.calls().values()) < 30


def test_a_search_that_times_out_pauses_and_is_caught_up_with(refresher: Callable[..., Refresher]) -> None:
    refresh = refresher(auth0_limits={"global": (5.0, 5000.0)})
    ids = refresh.auth0.sign_up(100)
    refresh.hears(ids)
    refresh.pass_time(61)
    refresh.auth0.control("PUT", "limits", {"search_timeout_probability": 1})
    refresh.run()
    assert refresh.marks() == 100
    refresh.auth0.control("PUT", "limits", {"search_timeout_probability": 0})
    _until(lambda: (refresh.run(), refresh.marks())[1] == 0)
    assert refresh.differences(ids) == []


def test_an_index_that_lags_never_makes_the_copy_older(refresher: Callable[..., Refresher]) -> None:
    refresh = refresher(auth0_limits={"global": (5.0, 5000.0)})
    ids = refresh.auth0.sign_up(40)
    refresh.hears(ids)
    refresh.pass_time(61)
    refresh.run()
    refresh.auth0.control("PUT", "limits", {"index_lag": 3600})
    for user_id in ids:
        refresh.auth0.act(user_id, "change_name")
    refresh.hears(ids, strong=True)
    refresh.run()
    assert refresh.differences(ids) == []
    refresh.hears(ids)
    refresh.pass_time(61)
    refresh.run()
    assert refresh.differences(ids) == [], "an old search hit won"


@pytest.mark.parametrize(
    "fault",
    [{"kind": "status", "status": 500}, {"kind": "drop"}, {"kind": "html"}, {"kind": "status", "status": 404}],
    ids=lambda fault: f"{fault['kind']}{fault.get('status', '')}",
)
def test_an_outage_loses_no_mark_and_deletes_nobody(
    refresher: Callable[..., Refresher], fault: dict[str, Any]
) -> None:  # P12
    refresh = refresher()
    ids = refresh.auth0.sign_up(5)
    refresh.hears(ids, strong=True)
    refresh.run(rounds=1)
    refresh.hears(ids, strong=True)
    refresh.auth0.control(
        "PUT", "faults", [{"where": "api", "match": {"path": "/api/v2/users"}, "probability": 1, **fault}]
    )
    refresh.run()
    refresh.run()
    assert refresh.marks() == 5
    assert refresh.ask("SELECT count(*) FROM users WHERE deleted_at IS NOT NULL") == [(0,)]
    refresh.auth0.control("DELETE", "faults")
    _until(lambda: (refresh.run(), refresh.marks())[1] == 0)
    assert refresh.differences(ids) == []


def test_a_429_pauses_the_group_for_everybody(refresher: Callable[..., Refresher]) -> None:  # P26
    refresh = refresher()
    refresh.hears(refresh.auth0.sign_up(5))
    refresh.auth0.control("PUT", "faults", [{"where": "api", "kind": "status", "status": 429, "probability": 1}])
    again = refresh.run()
    assert again is not None
    assert again > 0
    asked = sum(refresh.calls().values())
    assert refresh.run() is not None
    assert sum(refresh.calls().values()) == asked, "somebody asked during the pause"
    assert refresh.marks() == 5
    refresh.auth0.control("DELETE", "faults")


def test_a_missing_scope_stops_refresh_loudly_and_loses_nothing(refresher: Callable[..., Refresher]) -> None:
    auth0 = refresher().auth0
    client = auth0.control("POST", "clients", {"scopes": ["update:users"]})
    refresh = refresher(auth0_m2m_client_id=client["client_id"], auth0_m2m_client_secret=client["client_secret"])
    ids = auth0.sign_up(2)
    refresh.hears(ids)
    refresh.run()
    [(detail,)] = refresh.ask("SELECT detail FROM conditions WHERE name = 'auth0_refused'")
    assert "read:users" in detail
    assert refresh.marks() == 2
    assert refresh.ask("SELECT count(*) FROM news WHERE leased_until > now()") == [(0,)]
    refresh.redis.flushall()
    mended = refresher()
    mended.run()
    assert refresh.ask("SELECT count(*) FROM conditions") == [(0,)]
    assert mended.differences(ids) == []


def test_wrong_credentials_stop_refresh_loudly_and_lose_nothing(refresher: Callable[..., Refresher]) -> None:
    refresh = refresher(auth0_m2m_client_secret="wrong")
    refresh.hears(refresh.auth0.sign_up(2))
    refresh.run()
    [(detail,)] = refresh.ask("SELECT detail FROM conditions WHERE name = 'auth0_refused'")
    assert "credentials" in detail
    assert "wrong" not in detail
    assert refresh.marks() == 2


def test_one_user_who_cannot_be_read_holds_up_nobody(refresher: Callable[..., Refresher]) -> None:
    refresh = refresher()
    ids = refresh.auth0.sign_up(3)
    odd = ids[1].replace("|", "%7C")
    refresh.auth0.control(
        "PUT", "faults", [{"where": "api", "kind": "status", "status": 400, "match": {"path": odd}, "probability": 1}]
    )
    refresh.hears(ids)
    refresh.run()
    assert [user_id for (user_id,) in refresh.ask("SELECT user_id FROM news")] == [ids[1]]
    assert refresh.ask("SELECT attempts, due_at > now() FROM news") == [(1, True)]
    refresh.auth0.control("DELETE", "faults")


def test_a_profile_that_postgresql_refuses_holds_up_nobody_on_its_page(refresher: Callable[..., Refresher]) -> None:
    refresh = refresher(auth0_limits={"global": (2.0, 5000.0)})
    ids = refresh.auth0.sign_up(30)
    refresh.hears(ids)
    refresh.pass_time(61)
    with refresh.engine.begin() as connection:  # as an index's limit does to an endless address
        connection.execute(
            text("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE SQLSTATE '54000'; END $$")
        )
        connection.execute(
            text(
                "CREATE TRIGGER refuse BEFORE UPDATE ON users FOR EACH ROW "
                f"WHEN (old.user_id = '{ids[7]}') EXECUTE FUNCTION refuse()"
            )
        )
    refresh.run()
    assert refresh.ask("SELECT user_id, attempts, due_at > now() FROM news") == [(ids[7], 1, True)]


def test_a_slice_ends_between_two_reads_and_gives_back_what_it_leased(refresher: Callable[..., Refresher]) -> None:
    refresh = refresher()
    refresh.hears(refresh.auth0.sign_up(5))
    assert refresh.run(rounds=3) == 0
    assert refresh.ask("SELECT count(*), count(leased_until) FROM news") == [(2, 0)]


def test_a_wrong_setting_is_no_users_fault(refresher: Callable[..., Refresher], tmp_path: Path) -> None:
    no_certificate = tmp_path / "ca.pem"
    no_certificate.write_text("not a certificate")
    refresh = refresher(auth0_ca_file=no_certificate)
    refresh.hears(["auth0|ada", "auth0|bob"])
    with pytest.raises(WrongSetting, match="AUTH0_CA_FILE"):
        refresh.run()
    assert refresh.ask("SELECT DISTINCT attempts, leased_until FROM news") == [(0, None)]


def test_a_deleted_user_becomes_a_tombstone_and_a_returned_one_lives(
    refresher: Callable[..., Refresher],
) -> None:  # P12
    refresh = refresher()
    [user_id] = refresh.auth0.sign_up(1, connection="Username-Password-Authentication")
    refresh.hears([user_id])
    refresh.run()
    refresh.auth0.act(user_id, "delete")
    refresh.hears([user_id], strong=True, deletion_announced=True)
    refresh.run()
    assert refresh.ask("SELECT deleted_at IS NOT NULL, profile FROM users") == [(True, None)]


def _until(done: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.1)
