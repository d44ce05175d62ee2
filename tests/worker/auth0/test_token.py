"""The API token that all processes share, on a real Redis and against the simulated tenant."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from redis import Redis

from tests.worker.auth0.conftest import Simulator
from worker.auth0.token import BeingFetched, SharedToken
from worker.auth0.transport import open_client
from worker.errors import Refused, TenantDown, Throttled, WrongSetting
from worker.settings import Settings

SettingsFor = Callable[..., Settings]
NEVER = "redis://127.0.0.1:1/0"


class Process:
    """What one process holds: a token, and a clock the test sets."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self.http = open_client(settings)
        self.ahead = 0.0
        self.fetched = 0
        self.token = SharedToken(redis, settings, lambda: self.http, clock=self.now, on_request=self.count)

    def now(self) -> float:
        return 1_795_000_000.0 + self.ahead

    def count(self) -> None:
        self.fetched += 1


@pytest.fixture
def process(redis: Redis, settings_for: SettingsFor) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def start(redis: Redis = redis, **changes: Any) -> Process:
        started.append(Process(redis, settings_for(**changes)))
        return started[-1]

    yield start
    for one in started:
        one.http.close()


def accepted(simulator: Simulator, settings: Settings, token: str) -> bool:
    context = httpx.create_ssl_context()
    context.load_verify_locations(cafile=settings.auth0_ca_file)
    with httpx.Client(verify=context, headers={"authorization": f"Bearer {token}"}) as plain:
        return plain.get(f"https://{simulator.domain}/api/v2/users").status_code == 200


def stored(redis: Redis) -> str:
    (key,) = redis.keys("understudy:*:token:*")
    assert isinstance(key, bytes)
    return key.decode()


def sealed_in(redis: Redis) -> bytes:
    sealed = redis.get(stored(redis))
    assert isinstance(sealed, bytes)
    return sealed


def test_one_process_fetches_and_the_others_use_what_it_fetched(
    process: Callable[..., Process], simulator: Simulator, settings_for: SettingsFor
) -> None:
    one, other = process(), process()
    token = one.token.current()
    assert other.token.current() == one.token.current() == token
    assert (one.fetched, other.fetched) == (1, 0)
    assert accepted(simulator, settings_for(), token)


def test_redis_holds_no_readable_token_and_forgets_it_at_its_expiry(
    process: Callable[..., Process], redis: Redis
) -> None:
    token = process().token.current()
    sealed = sealed_in(redis)
    assert token.encode() not in sealed
    assert token.split(".")[2].encode() not in sealed
    assert 86_000 < redis.ttl(stored(redis)) <= 86_400


@pytest.mark.parametrize("damage", [b"", b"x", b"{}" * 40, None])
def test_a_value_that_was_tampered_with_is_ignored(
    process: Callable[..., Process], redis: Redis, damage: bytes | None
) -> None:
    process().token.current()
    sealed = sealed_in(redis)
    redis.set(stored(redis), bytes([*sealed[:-1], sealed[-1] ^ 1]) if damage is None else damage)
    late = process()
    assert late.token.current()
    assert late.fetched == 1


def test_another_secret_cannot_read_it(process: Callable[..., Process], redis: Redis) -> None:
    process().token.current()
    with pytest.raises(Refused):
        process(auth0_m2m_client_secret="guessed").token.current()
    assert len(redis.keys("understudy:*:token:*")) == 1


def test_near_its_expiry_one_renews_and_the_others_go_on_with_the_old_one(
    process: Callable[..., Process], redis: Redis
) -> None:
    one, other = process(), process()
    old = one.token.current()
    assert other.token.current() == old
    one.ahead = other.ahead = 86_400 - 200
    with redis.lock(stored(redis) + ":lock", timeout=30):
        assert other.token.current() == old
    assert other.fetched == 0
    assert one.token.current() != ""
    assert one.fetched == 2
    other.token.current()
    assert other.fetched == 0


def test_while_the_first_token_is_being_fetched_the_others_come_back_later(
    process: Callable[..., Process], redis: Redis
) -> None:
    one = process()
    one.token.current()
    key = stored(redis)
    redis.delete(key)
    with redis.lock(key + ":lock", timeout=30), pytest.raises(BeingFetched) as waiting:
        process().token.current()
    assert waiting.value.retry_after == 1


def test_an_expired_token_is_not_used_though_nobody_fetched_another(process: Callable[..., Process]) -> None:
    one = process()
    one.token.current()
    one.ahead = 86_400
    one.token.current()
    assert one.fetched == 2


def test_a_token_is_forgotten_for_everyone_unless_it_is_young(process: Callable[..., Process]) -> None:
    process().token.current()
    for ahead, goes in ((30.0, False), (90.0, True)):
        another = process()
        another.ahead = ahead
        another.token.forget(unless_newer_than=60.0)
        after = process()
        after.token.current()
        assert after.fetched == goes


def test_a_refused_token_is_dropped_for_everyone(process: Callable[..., Process], redis: Redis) -> None:
    one, other = process(), process()
    old = one.token.current()
    assert one.token.drop(old)
    assert redis.keys("understudy:*:token:*") == []
    other.token.current()
    assert other.fetched == 1


def test_a_newer_token_survives_the_refusal_of_an_older_one(process: Callable[..., Process], redis: Redis) -> None:
    one = process()
    one.token.current()
    one.token.drop("an older token")
    assert stored(redis)
    one.token.current()
    assert one.fetched == 1


def test_a_young_token_is_kept_where_only_an_old_one_should_go(process: Callable[..., Process]) -> None:
    one = process()
    token = one.token.current()
    assert not one.token.drop(token, unless_newer_than=600)
    one.ahead = 700
    assert one.token.drop(token, unless_newer_than=600)


def test_without_redis_a_process_keeps_its_own_token(process: Callable[..., Process]) -> None:
    with Redis.from_url(NEVER, socket_connect_timeout=0.5) as nowhere:
        alone = process(nowhere)
        assert alone.token.current() == alone.token.current()
        alone.token.drop("some other token")
        assert alone.token.current()
        assert alone.fetched == 1
        assert alone.token.drop(alone.token.current())


def test_a_wrong_secret_is_refused_with_auth0s_reason(process: Callable[..., Process]) -> None:
    with pytest.raises(Refused, match="access_denied") as refusal:
        process(auth0_m2m_client_secret="a-wrong-secret").token.current()
    assert "a-wrong-secret" not in repr(refusal.value)
    assert refusal.value.scope is None


def test_missing_credentials_are_a_wrong_setting(process: Callable[..., Process]) -> None:
    with pytest.raises(WrongSetting, match="AUTH0_M2M_CLIENT_ID"):
        process(auth0_m2m_client_id="")


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"kind": "status", "status": 500}, TenantDown),
        ({"kind": "status", "status": 429}, Throttled),
        ({"kind": "html"}, TenantDown),
        ({"kind": "drop"}, TenantDown),
        ({"kind": "hang"}, TenantDown),
    ],
)
def test_a_token_endpoint_in_trouble_is_a_passing_thing(
    process: Callable[..., Process], simulator: Simulator, fault: dict[str, Any], error: type[Exception]
) -> None:
    simulator.faults({"where": "token", **fault})
    one = process()
    with pytest.raises(error):
        one.token.current()
    simulator.faults()
    assert one.token.current()
