"""The tenant's signing keys: asked for seldom, never lost to an outage, never anything but RSA keys for signatures."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from api.signing_keys import MAX_JWKS_BYTES, Pace, SigningKeys
from tests.api.jwks import JwksServer, Key, jwks_server
from tests.api.web import PATIENCE
from worker.errors import TenantDown, WrongSetting
from worker.settings import Settings

ONE, TWO = Key("one"), Key("two")
SELDOM = Pace(refresh=600, retry=600, asks=3, within=600)
OFTEN = Pace(refresh=0.05, retry=0.05, asks=3, within=600, patience=0.5)


@pytest.fixture
def tenant(tmp_path: Path) -> Iterator[JwksServer]:
    with jwks_server(tmp_path) as server:
        server.publish(ONE)
        yield server


def run(tenant: JwksServer, test: Callable[[SigningKeys], Awaitable[None]], pace: Pace = SELDOM, **more: Any) -> None:
    async def with_keys() -> None:
        async with opened(tenant, pace, **more) as keys:
            await test(keys)

    asyncio.run(with_keys())


@asynccontextmanager
async def opened(tenant: JwksServer, pace: Pace = SELDOM, **more: Any) -> AsyncIterator[SigningKeys]:
    given = {"database_url": "postgresql://db/x", "redis_url": "redis://r", "auth0_ca_file": str(tenant.ca_file)}
    settings = Settings.model_validate(given | {"auth0_domain": tenant.domain} | more)
    async with SigningKeys(settings, pace) as keys:
        yield keys


async def eventually(look: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not look():  # noqa: ASYNC110 what is waited for happens in the server and behind the keys' door
            await asyncio.sleep(0.01)


async def fetched_again(tenant: JwksServer) -> None:
    """Wait until what is fetched now is certain to have been answered as the server answers now."""
    before = tenant.fetches
    await eventually(lambda: tenant.fetches >= before + 3)


async def is_down(keys: SigningKeys, kid: str) -> bool:
    try:
        await keys.find(kid)
    except TenantDown:
        return True
    return False


def test_a_key_is_fetched_once_and_then_known(tenant: JwksServer) -> None:
    async def test(keys: SigningKeys) -> None:
        found = [await keys.find("one") for _ in range(50)]
        assert {key.public_numbers() for key in found if key} == {ONE.private.public_key().public_numbers()}
        assert tenant.fetches == 1

    run(tenant, test)


def test_a_storm_of_unknown_ids_at_once_shares_one_fetch(tenant: JwksServer) -> None:
    async def test(keys: SigningKeys) -> None:
        await keys.find("one")
        before = tenant.fetches
        found = await asyncio.gather(*(keys.find(f"made up {number}") for number in range(500)))
        assert found == [None] * 500
        assert tenant.fetches == before + 1

    run(tenant, test)


def test_a_storm_of_unknown_ids_in_a_row_asks_three_times_and_then_no_more(tenant: JwksServer) -> None:
    async def test(keys: SigningKeys) -> None:
        for number in range(100):
            assert await keys.find(f"made up {number}") is None
        assert tenant.fetches <= 1 + SELDOM.asks
        assert await keys.find("one")  # and the storm harms nobody

    run(tenant, test)


def test_failures_count_against_the_pace_too(tenant: JwksServer) -> None:
    async def test(keys: SigningKeys) -> None:
        tenant.fail()
        for number in range(100):
            assert await is_down(keys, f"made up {number}")
        assert tenant.fetches <= 1 + SELDOM.asks

    run(tenant, test)


def test_after_a_while_unknown_ids_are_asked_for_again(tenant: JwksServer) -> None:
    async def test(keys: SigningKeys) -> None:
        while len(keys._asked) < 2:
            await keys.find("two")
        assert await keys.find("two") is None
        tenant.publish(ONE, TWO)
        await asyncio.sleep(0.5)
        assert await keys.find("two")

    run(tenant, test, Pace(refresh=600, retry=600, asks=2, within=0.5))


def test_a_new_key_signs_from_the_moment_it_is_published(tenant: JwksServer) -> None:
    async def test(keys: SigningKeys) -> None:
        assert await keys.find("one")
        tenant.publish(TWO, ONE)
        assert await keys.find("two")
        assert await keys.find("one")

    run(tenant, test)


def test_a_revoked_key_goes_at_the_next_refresh(tenant: JwksServer) -> None:
    async def test(keys: SigningKeys) -> None:
        assert await keys.find("one")
        tenant.publish(TWO)
        await eventually(lambda: keys.get("one") is None)
        assert keys.get("two")

    run(tenant, test, OFTEN)


def test_a_refresh_keeps_the_object_of_a_key_that_has_not_changed(tenant: JwksServer) -> None:
    async def test(keys: SigningKeys) -> None:
        before = await keys.find("one")
        tenant.publish(ONE, TWO)
        await eventually(lambda: keys.get("two"))
        assert keys.get("one") is before
        tenant.publish(TWO, TWO.jwk(kid="one"))
        await eventually(lambda: keys.get("one") is not before)

    run(tenant, test, OFTEN)


@pytest.mark.parametrize("body", [b"<html>Log in</html>", b'{"keys": []}', b"[]", b"", b"\xff\xfe", b"[" * 99_999])
def test_known_keys_outlive_an_answer_that_is_no_jwks(tenant: JwksServer, body: bytes) -> None:
    async def test(keys: SigningKeys) -> None:
        assert await keys.find("one")
        tenant.body = body
        await fetched_again(tenant)
        assert keys.get("one")

    run(tenant, test, OFTEN)


def test_known_keys_outlive_an_outage(tenant: JwksServer) -> None:
    async def test(keys: SigningKeys) -> None:
        assert await keys.find("one")
        for outage in (tenant.fail, tenant.hang):
            outage()
            await fetched_again(tenant)
            assert await keys.find("one")
        tenant.resume()
        tenant.publish(TWO)
        await eventually(lambda: keys.get("two"))

    run(tenant, test, OFTEN)


def test_a_tenant_that_hangs_is_given_up_by_all_who_wait(tenant: JwksServer) -> None:
    async def test(keys: SigningKeys) -> None:
        tenant.hang()
        assert all(await asyncio.gather(*(is_down(keys, f"made up {number}") for number in range(100))))
        assert tenant.fetches == 1

    run(tenant, test, Pace(refresh=600, retry=600, within=600, patience=0.5))


def test_a_tenant_that_dribbles_is_given_up(tenant: JwksServer) -> None:
    async def test(keys: SigningKeys) -> None:
        tenant.dribbles = True
        assert await is_down(keys, "one")  # all of it would take half a minute, and no byte comes late

    run(tenant, test, Pace(refresh=600, retry=600, within=600, patience=0.5))


def test_a_caller_who_leaves_takes_nobodys_fetch_along(tenant: JwksServer) -> None:
    async def test(keys: SigningKeys) -> None:
        tenant.hang()
        leaving, waiting = (asyncio.ensure_future(keys.find("one")) for _ in range(2))
        await eventually(lambda: tenant.fetches)
        leaving.cancel()
        tenant.resume()
        assert await waiting
        assert tenant.fetches == 1

    run(tenant, test)


def test_keys_that_do_not_sign_are_no_keys(tenant: JwksServer) -> None:
    elliptic = ECAlgorithm.to_jwk(generate_private_key(SECP256R1()).public_key(), as_dict=True)
    private = RSAAlgorithm.to_jwk(ONE.private, as_dict=True)
    others: list[Any] = [
        {**elliptic, "kid": "elliptic"},
        ONE.jwk(kid="calls itself elliptic", kty="EC"),
        {"kty": "oct", "k": "c2VjcmV0", "kid": "shared"},
        ONE.jwk(kid="encrypts", use="enc"),
        ONE.jwk(kid="oaep", alg="RSA-OAEP"),
        ONE.jwk(kid="longer hash", alg="RS512"),
        Key("short", bits=1024).jwk(),
        ONE.jwk(kid="even", e="Ag"),
        ONE.jwk(kid="one", n="AQAB"),
        ONE.jwk(kid="number", n=65537),
        ONE.jwk(kid="none", n=None),
        ONE.jwk(kid="not base64", n="!!!"),
        ONE.jwk(kid=None),
        ONE.jwk(kid=7),
        ONE.jwk(kid=["list"]),
        "key",
        None,
    ]
    tenant.publish(*others, ONE.jwk(kid="bare", use=None, alg=None), {**private, "kid": "with its private half"}, TWO)

    async def test(keys: SigningKeys) -> None:
        assert await keys.find("two")
        assert await keys.find("bare")
        # A private key that somebody published by mistake is taken as the public key that it contains.
        assert isinstance(await keys.find("with its private half"), type(await keys.find("two")))
        assert sorted(keys._keys) == ["bare", "two", "with its private half"]

    run(tenant, test)


def test_keys_come_from_the_tenant_alone(tenant: JwksServer, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with jwks_server(elsewhere) as impostor:  # its certificate is by an authority that is not trusted
        impostor.publish(ONE)

        async def test(keys: SigningKeys) -> None:
            assert await is_down(keys, "one")
            assert impostor.fetches == 0

        run(tenant, test, auth0_domain=impostor.domain)


@pytest.mark.parametrize(
    "said", [b"", b"+OK dovecot ready.\r\n", b"HTTP/1.1 200 OK\r\n\r\n{}", b"\x15\x03\x03\x00\x02\x02\x28"]
)
def test_a_server_that_speaks_something_else_is_a_tenant_that_is_down(tenant: JwksServer, said: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        ended = threading.Event()

        def answer() -> None:
            while not ended.is_set():
                with suppress(TimeoutError):
                    connection, _ = listener.accept()
                    with connection:
                        connection.sendall(said)

        async def test(keys: SigningKeys) -> None:
            assert await is_down(keys, "one")
            assert not keys._refreshing.done()  # it goes on trying

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            run(tenant, test, auth0_domain=f"127.0.0.1:{listener.getsockname()[1]}")
        finally:
            ended.set()
            thread.join()


def test_a_redirect_is_not_followed(tenant: JwksServer) -> None:
    async def test(keys: SigningKeys) -> None:
        tenant.redirect_to = f"https://{tenant.domain}/.well-known/jwks.json"
        assert await is_down(keys, "one")
        assert tenant.fetches == 1

    run(tenant, test)


def test_what_is_too_long_for_a_jwks_is_not_kept(tenant: JwksServer) -> None:
    async def test(keys: SigningKeys) -> None:
        tenant.body = json.dumps({"keys": [ONE.jwk(x5c=["A" * MAX_JWKS_BYTES])]}).encode()
        assert await is_down(keys, "one")

    run(tenant, test)


def test_a_file_that_holds_no_authority_is_named_at_the_start(tenant: JwksServer) -> None:
    tenant.ca_file.write_text("sekret")
    with pytest.raises(WrongSetting, match="AUTH0_CA_FILE") as error:
        run(tenant, lambda _keys: asyncio.sleep(0))
    assert "sekret" not in str(error.value)
