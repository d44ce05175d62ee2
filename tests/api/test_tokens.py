"""Access tokens: what gets in, what does not, and what is said about it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
import uvicorn
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

import api.tokens
from api.problems import Problem, on_problem
from api.signing_keys import Pace, SigningKeys
from api.tokens import LEEWAY, Unauthorized, Verifier
from tests.api.jwks import AUDIENCE, USER, JwksServer, Key, jwks_server
from tests.api.web import PATIENCE, SECRET_MARKER, eventually
from tests.simulator.running import Simulator
from worker.settings import Settings

KEY, NEXT, OTHERS = Key("current"), Key("next"), Key("others")
SECRET = "a secret that Auth0 and this API share"
SELDOM = Pace(refresh=600, retry=600, within=600)

# Makes a token from what the tenant says of itself.
Forge = Callable[[JwksServer], str | bytes]


def settings(tenant: JwksServer, **more: str) -> Settings:
    given = {
        "database_url": "postgresql://db/x",
        "redis_url": "redis://r",
        "auth0_domain": tenant.domain,
        "auth0_ca_file": str(tenant.ca_file),
        "auth0_audience": AUDIENCE,
    }
    return Settings.model_validate(given | more)


class Door:
    """A server whose one route says whose token it was sent."""

    def __init__(self, tenant: JwksServer, client: httpx.Client) -> None:
        self.tenant, self._client = tenant, client

    def knock(self, *headers: tuple[bytes, bytes], query: str = "") -> httpx.Response:
        return self._client.get(f"/me{query}", headers=list(headers))

    def show(self, token: str | bytes, scheme: bytes = b"Bearer ") -> httpx.Response:
        return self.knock((b"authorization", scheme + (token.encode() if isinstance(token, str) else token)))


@contextmanager
def door(tenant: JwksServer, **more: str) -> Iterator[Door]:
    chosen = settings(tenant, **more)
    verifier = Verifier(chosen, SigningKeys(chosen, SELDOM))

    async def me(request: Request) -> Response:
        return PlainTextResponse((await verifier.authenticate(request.scope)).user_id)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with verifier:
            yield

    app = Starlette(routes=[Route("/me", me)], exception_handlers={Problem: on_problem}, lifespan=lifespan)
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="on"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            eventually(lambda: server.started, "the server to listen")
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            with httpx.Client(base_url=url, timeout=PATIENCE, trust_env=False) as client:
                yield Door(tenant, client)
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def tenant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JwksServer]:
    with jwks_server(tmp_path_factory.mktemp("tenant")) as server:
        server.publish(KEY, NEXT)
        yield server


@pytest.fixture(scope="module")
def me(tenant: JwksServer) -> Iterator[Door]:
    with door(tenant) as door_:
        yield door_


def test_a_persons_token_says_who_it_is(me: Door) -> None:
    response = me.show(KEY.sign(me.tenant.claims()))
    assert (response.status_code, response.text) == (200, USER)


@pytest.mark.parametrize(
    "aud", [AUDIENCE, [AUDIENCE], ["https://music.eu.auth0.com/userinfo", AUDIENCE]], ids=["text", "list", "of two"]
)
def test_the_audience_may_be_one_of_several(me: Door, aud: str | list[str]) -> None:
    assert me.show(KEY.sign(me.tenant.claims(aud=aud))).status_code == 200


@pytest.mark.parametrize(
    "user_id",
    ["samlp|acme|ada@acme.com", "google-oauth2|108", "oauth2|a b/c?d#é", "auth0|bob@clients", "email|" + "x" * 900],
)
def test_ids_are_taken_as_auth0_makes_them(me: Door, user_id: str) -> None:
    response = me.show(KEY.sign(me.tenant.claims(sub=user_id)))
    assert (response.status_code, response.text) == (200, user_id)


@pytest.mark.parametrize("scheme", [b"Bearer ", b"bearer ", b"BEARER  "])
def test_the_schemes_case_does_not_matter(me: Door, scheme: bytes) -> None:
    assert me.show(KEY.sign(me.tenant.claims()), scheme).status_code == 200


@pytest.mark.parametrize("typ", [None, "JWT", "at+jwt", "AT+JWT"])
def test_both_of_auth0s_token_profiles_are_access_tokens(me: Door, typ: str | None) -> None:
    assert me.show(KEY.sign(me.tenant.claims(), typ=typ)).status_code == 200


def test_a_token_of_the_next_key_is_good(me: Door) -> None:
    assert me.show(NEXT.sign(me.tenant.claims())).status_code == 200


# What must not get in


def encoded(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")


def forged(
    header: dict[str, Any] | bytes, payload: dict[str, Any], sign: Callable[[bytes], bytes] = lambda _said: b"x" * 256
) -> bytes:
    """Return a token of any header, signed in any way."""
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    said = encoded(head) + b"." + encoded(json.dumps(payload).encode())
    return said + b"." + encoded(sign(said))


def signed(payload: dict[str, Any] | bytes, **header: Any) -> bytes:
    """Return a token that the tenant's key has signed, whatever is in it."""
    content = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    said = encoded(json.dumps({"alg": "RS256", "kid": KEY.kid, **header}).encode()) + b"." + encoded(content)
    return said + b"." + encoded(RSAAlgorithm(RSAAlgorithm.SHA256).sign(said, KEY.private))


def with_hmac(secret: bytes) -> Callable[[bytes], bytes]:
    return lambda said: hmac.digest(secret, said, hashlib.sha256)


def with_alg(spelling: object, signature: bytes) -> Forge:
    return lambda t: forged({"alg": spelling, "kid": KEY.kid}, t.claims(), lambda _said: signature)


def pem(key: Key) -> bytes:
    return key.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def tampered(tenant: JwksServer) -> bytes:
    head, _, signature = KEY.sign(tenant.claims()).encode().split(b".")
    return b".".join([head, encoded(json.dumps(tenant.claims(sub="auth0|admin")).encode()), signature])


def now() -> int:
    return int(time.time())


ATTACKS: dict[str, Forge] = {
    **{
        f"alg {spelling!r}, {named}": with_alg(spelling, signature)
        for spelling in ("none", "None", "NONE", "nOnE", "none ", "", None, 0, ["none"], ["RS256"], "rs256")
        for named, signature in (("unsigned", b""), ("signed", b"x" * 256))
    },
    "no alg": lambda t: forged({"kid": KEY.kid}, t.claims()),
    "HS256 with the public key as PEM": lambda t: forged(
        {"alg": "HS256", "kid": KEY.kid}, t.claims(), with_hmac(pem(KEY))
    ),
    "HS256 with the public key as PEM, its newline gone": lambda t: forged(
        {"alg": "HS256", "kid": KEY.kid}, t.claims(), with_hmac(pem(KEY).strip())
    ),
    "HS256 with the JWKS": lambda t: forged({"alg": "HS256", "kid": KEY.kid}, t.claims(), with_hmac(t.body)),
    "HS256 with nothing": lambda t: forged({"alg": "HS256"}, t.claims(), with_hmac(b"")),
    "RS512 by the tenant's key": lambda t: KEY.sign(t.claims(), "RS512"),
    "PS256 by the tenant's key": lambda t: KEY.sign(t.claims(), "PS256"),
    "another tenant's": lambda _: OTHERS.sign(
        JwksServer("other.eu.auth0.com", Path()).claims(), kid="a key of the other tenant"
    ),
    "another tenant's, claiming this one": lambda t: OTHERS.sign(t.claims()),
    "another issuer": lambda t: KEY.sign(t.claims(iss="https://other.eu.auth0.com/")),
    "the issuer without its slash": lambda t: KEY.sign(t.claims(iss=t.issuer.rstrip("/"))),
    "the issuer over http": lambda t: KEY.sign(t.claims(iss=t.issuer.replace("https", "http"))),
    "the issuer in capitals": lambda t: KEY.sign(t.claims(iss=t.issuer.upper())),
    "no issuer": lambda t: KEY.sign(t.claims(iss=None)),
    "issuers in a list": lambda t: signed(t.claims(iss=[t.issuer])),
    "another audience": lambda t: KEY.sign(t.claims(aud="https://api.other.example/")),
    "the audience without its slash": lambda t: KEY.sign(t.claims(aud=AUDIENCE.rstrip("/"))),
    "a longer audience": lambda t: KEY.sign(t.claims(aud=AUDIENCE + "x")),
    "only userinfo": lambda t: KEY.sign(t.claims(aud=[f"{t.issuer}userinfo"])),
    "no audience": lambda t: KEY.sign(t.claims(aud=None)),
    "an empty audience": lambda t: KEY.sign(t.claims(aud=[])),
    "an audience in an object": lambda t: KEY.sign(t.claims(aud={AUDIENCE: True})),
    "expired": lambda t: KEY.sign(t.claims(exp=now() - LEEWAY - 5)),
    "expires in text": lambda t: KEY.sign(t.claims(exp=str(now() + 3600))),
    "expires when true": lambda t: KEY.sign(t.claims(exp=True)),
    "expires never": lambda t: KEY.sign(t.claims(exp=None)),
    "expires in infinity": lambda t: signed(json.dumps(t.claims(exp=float("inf"))).encode()),
    "expires in no number": lambda t: signed(json.dumps(t.claims(exp=float("nan"))).encode()),
    "expires in a number of 400 digits": lambda t: signed(json.dumps(t.claims(exp=10**400)).encode()),
    "expires in a number of 5,000 digits": lambda _: signed(b'{"exp": ' + b"9" * 5000 + b"}"),
    "future": lambda t: KEY.sign(t.claims(nbf=now() + LEEWAY + 60)),
    "issued in the future": lambda t: KEY.sign(t.claims(iat=now() + LEEWAY + 60)),
    "issued never": lambda t: KEY.sign(t.claims(iat=None)),
    "nobody": lambda t: KEY.sign(t.claims(sub=None)),
    "somebody in a list": lambda t: signed(t.claims(sub=[USER])),
    "somebody with a NUL": lambda t: KEY.sign(t.claims(sub="auth0|a\0b")),
    "somebody with half a character": lambda t: signed(t.claims(sub="auth0|\ud800")),
    "somebody of 2,000 characters": lambda t: KEY.sign(t.claims(sub="auth0|" + "x" * 2000)),
    "no kid": lambda t: KEY.sign(t.claims(), kid=None),
    "an empty kid": lambda t: KEY.sign(t.claims(), kid=""),
    "a kid in a list": lambda t: forged({"alg": "RS256", "kid": [KEY.kid]}, t.claims()),
    "a kid as a path": lambda t: KEY.sign(t.claims(), kid="../../../../dev/null"),
    "an unknown kid": lambda t: OTHERS.sign(t.claims()),
    "a wrong key under a right kid": lambda t: OTHERS.sign(t.claims(), kid=KEY.kid),
    "the next key under the current kid": lambda t: NEXT.sign(t.claims(), kid=KEY.kid),
    "a tampered payload": tampered,
    "no signature": lambda t: KEY.sign(t.claims()).rpartition(".")[0] + ".",
    "half a signature": lambda t: KEY.sign(t.claims())[:-100],
    "somebody else's signature": lambda t: (
        KEY.sign(t.claims()).rpartition(".")[0] + "." + KEY.sign(t.claims(sub="auth0|b")).rpartition(".")[2]
    ),
    "an embedded jwk": lambda t: OTHERS.sign(t.claims(), kid=None, jwk=OTHERS.jwk()),
    "an embedded jwk under a right kid": lambda t: OTHERS.sign(t.claims(), kid=KEY.kid, jwk=OTHERS.jwk(kid=KEY.kid)),
    "crit": lambda t: KEY.sign(t.claims(), crit=["exp"], exp=now() + 99),
    "an empty crit": lambda t: signed(t.claims(), crit=[]),
    "crit of what PyJWT would understand": lambda t: signed(t.claims(), crit=["b64"], b64=True),
    "b64": lambda t: signed(t.claims(), crit=["b64"], b64=False),
    "b64 without crit": lambda t: signed(t.claims(), b64=False),
    "an ID token": lambda t: KEY.sign(t.claims(aud="spa", nonce="n", email="ada@example.com", azp=None, scope=None)),
    "a logout token": lambda t: KEY.sign(t.claims(), typ="logout+jwt"),
    "a type in a list": lambda t: KEY.sign(t.claims(), typ=["JWT"]),
    "an opaque token": lambda _: "v5UO4RCJFPKcVdpUPRXl" + SECRET_MARKER,
    "an encrypted token": lambda _: b".".join([encoded(b'{"alg":"dir","enc":"A256GCM"}'), b"", b"aXY", b"eA", b"dGFn"]),
    "100 kB of token": lambda t: KEY.sign(t.claims(padding="x" * 75_000)),
    "100 kB of one letter": lambda _: b"x" * 100_000,
    "bytes that are no UTF-8": lambda _: b"\xff\xfe\x80.\xff.\xff",
    "a header that is no UTF-8": lambda t: forged(b"\xff\xfe\x80", t.claims()),
    "a header that is no JSON": lambda t: forged(b"{", t.claims()),
    "a header that is a list": lambda t: forged(b'["RS256"]', t.claims()),
    "a deep header": lambda t: forged(b"[" * 5000, t.claims()),
    "a header that is no base64": lambda t: b"x" + KEY.sign(t.claims()).encode(),
    "a payload that is no JSON": lambda _: signed(b"{"),
    "a payload that is a list": lambda _: signed(b"[]"),
    "a payload that is no UTF-8": lambda _: signed(b'{"sub": "\xff"}'),
    "a deep payload": lambda _: signed(b"[" * 5000),
    "padding": lambda t: KEY.sign(t.claims()) + "==",
    "a fourth part": lambda t: KEY.sign(t.claims()) + ".x",
    "two tokens": lambda t: KEY.sign(t.claims()) + " " + KEY.sign(t.claims()),
}


def is_refused(response: httpx.Response, error: str | None = "invalid_token") -> None:
    """Assert that it is RFC 6750's and RFC 9457's answer, and that it says nothing of keys."""
    assert response.status_code == 401
    challenge = response.headers["www-authenticate"]
    assert challenge.startswith("Bearer ")
    assert response.headers["content-type"] == "application/problem+json"
    said = response.json()
    assert said["status"] == 401
    assert challenge.isascii()
    if error is None:
        assert "error" not in challenge
    else:
        assert f'error="{error}", error_description="{said["detail"]}"' in challenge
    for secret in ("key", "kid", "jwk", "JWK", SECRET_MARKER):
        assert secret not in said["detail"]


@pytest.mark.parametrize("attack", ATTACKS)
def test_it_does_not_get_in(me: Door, attack: str) -> None:
    token = ATTACKS[attack](me.tenant)
    response = me.show(token)
    is_refused(response)
    if len(token) > 20:
        assert (token if isinstance(token, str) else token.decode("latin-1"))[:20] not in response.text


@pytest.mark.parametrize("header", ["jku", "x5u"])
@pytest.mark.parametrize("kid", [KEY.kid, "theirs", None])
def test_a_token_does_not_say_where_its_key_is(me: Door, tmp_path: Path, header: str, kid: str | None) -> None:
    with jwks_server(tmp_path) as theirs:
        theirs.publish(OTHERS.jwk(kid=kid or "theirs"))
        where = {header: f"https://{theirs.domain}/.well-known/jwks.json"}
        is_refused(me.show(OTHERS.sign(me.tenant.claims(), kid=kid, **where)))
        assert theirs.fetches == 0


def test_a_header_that_names_another_key_beside_a_good_signature_changes_nothing(me: Door) -> None:
    assert me.show(KEY.sign(me.tenant.claims(), jku="https://evil.example/", jwk=OTHERS.jwk())).status_code == 200


def test_a_storm_of_unknown_keys_asks_the_tenant_three_times(tenant: JwksServer) -> None:
    with door(tenant) as own:
        before = tenant.fetches
        for number in range(50):
            is_refused(own.show(OTHERS.sign(tenant.claims(), kid=f"made up {number}")))
        assert tenant.fetches - before <= 1 + SELDOM.asks
        assert own.show(KEY.sign(tenant.claims())).status_code == 200


def test_while_the_tenants_keys_cannot_be_fetched_nobody_is_called_a_forger(tmp_path: Path) -> None:
    with jwks_server(tmp_path) as down:
        down.publish(KEY)
        down.fail()
        with door(down) as own:
            response = own.show(KEY.sign(down.claims()))
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0
    assert "www-authenticate" not in response.headers


def test_without_a_token_the_challenge_names_no_error(me: Door) -> None:
    is_refused(me.knock(), error=None)


@pytest.mark.parametrize("scheme", [b"Basic ", b"DPoP ", b"Token ", b"", b"BearerX "])
def test_another_scheme_is_no_token(me: Door, scheme: bytes) -> None:
    is_refused(me.show(KEY.sign(me.tenant.claims()), scheme), error=None)


def test_a_scheme_without_a_token_is_refused(me: Door) -> None:
    is_refused(me.show(b"", b"Bearer"))


def test_a_token_in_the_url_is_no_token(me: Door) -> None:
    is_refused(me.knock(query=f"?access_token={KEY.sign(me.tenant.claims())}"), error=None)


def test_two_headers_are_refused_even_if_both_are_good(me: Door) -> None:
    header = (b"authorization", b"Bearer " + KEY.sign(me.tenant.claims()).encode())
    is_refused(me.knock(header, header), error="invalid_request")


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": "m2mclient@clients", "gty": "client-credentials"},
        {"sub": "m2mclient@clients"},
        {"sub": "agt_1234567890"},
        {"sub": "an-external-id"},
        {"sub": "urn:agents|7"},
        {"sub": "|"},
        {"sub": "auth0|"},
        {"sub": ""},
        {"sub": "agents|7", "gty": "client-credentials"},
    ],
    ids=repr,
)
def test_a_machine_is_not_a_user(me: Door, claims: dict[str, str]) -> None:
    response = me.show(KEY.sign(me.tenant.claims(**claims)))
    assert response.status_code == 403
    assert response.headers["content-type"] == "application/problem+json"
    assert "machine" in response.json()["detail"]


def test_a_machines_expired_token_has_expired_first(me: Door) -> None:
    is_refused(me.show(KEY.sign(me.tenant.claims(sub="m@clients", exp=now() - 999))))


# HS256, on purpose


@pytest.fixture(scope="module")
def shared(tenant: JwksServer) -> Iterator[Door]:
    with door(tenant, token_algorithm="HS256", auth0_hs256_secret=SECRET) as door_:
        yield door_


def test_a_shared_secret_signs_where_that_is_meant(shared: Door) -> None:
    fetched = shared.tenant.fetches
    assert shared.show(jwt.encode(shared.tenant.claims(), SECRET, "HS256")).text == USER
    assert shared.show(jwt.encode(shared.tenant.claims(), SECRET, "HS256", {"kid": "any"})).text == USER
    assert shared.tenant.fetches == fetched


@pytest.mark.parametrize(
    "forge",
    [
        lambda t: KEY.sign(t.claims()),
        lambda t: jwt.encode(t.claims(), SECRET + "x", "HS256"),
        lambda t: jwt.encode(t.claims(), SECRET * 2, "HS512"),
        lambda t: forged({"alg": "none"}, t.claims(), lambda _said: b""),
        lambda t: jwt.encode(t.claims(aud="spa"), SECRET, "HS256"),
        lambda t: jwt.encode(t.claims(exp=now() - 99), SECRET, "HS256"),
    ],
    ids=["RS256", "another secret", "HS512", "none", "another audience", "expired"],
)
def test_nothing_else_gets_in_beside_a_shared_secret(shared: Door, forge: Forge) -> None:
    is_refused(shared.show(forge(shared.tenant)))


def test_a_shared_secrets_token_does_not_get_in_with_rs256(me: Door) -> None:
    is_refused(me.show(jwt.encode(me.tenant.claims(), SECRET, "HS256", {"kid": KEY.kid})))


# What is remembered


class Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


def verifying(tenant: JwksServer, test: Callable[[Verifier, Clock], Awaitable[None]], pace: Pace = SELDOM) -> None:
    async def run() -> None:
        clock = Clock()
        async with Verifier(settings(tenant), SigningKeys(settings(tenant), pace), clock) as verifier:
            await test(verifier, clock)

    asyncio.run(run())


async def refuses(verifier: Verifier, token: bytes) -> str:
    with pytest.raises(Unauthorized) as error:
        await verifier.verify(token)
    return error.value.detail


def test_clocks_may_differ_by_the_leeway_whether_a_token_is_remembered_or_not(tenant: JwksServer) -> None:
    async def test(verifier: Verifier, clock: Clock) -> None:
        began = int(clock.now)
        token = KEY.sign(tenant.claims(iat=began, nbf=began, exp=began + 600)).encode()
        for _ in ("anew", "remembered"):
            clock.now = began - LEEWAY - 1
            assert "not valid yet" in await refuses(verifier, token)
            clock.now = began + 600 + LEEWAY
            assert "expired" in await refuses(verifier, token)
            for good in (began - LEEWAY, began + 600 + LEEWAY - 1):
                clock.now = good
                assert (await verifier.verify(token)).user_id == USER

    verifying(tenant, test)


def test_a_token_that_was_verified_is_not_verified_again(tenant: JwksServer) -> None:
    async def test(verifier: Verifier, _clock: Clock) -> None:
        token = KEY.sign(tenant.claims()).encode()
        assert await verifier.verify(token) is await verifier.verify(token)

    verifying(tenant, test)


def test_a_remembered_token_goes_with_its_key(tmp_path: Path) -> None:
    with jwks_server(tmp_path) as tenant:
        tenant.publish(KEY, NEXT)

        async def test(verifier: Verifier, _clock: Clock) -> None:
            token, other = KEY.sign(tenant.claims()).encode(), NEXT.sign(tenant.claims()).encode()
            for good in (token, other):
                await verifier.verify(good)
            tenant.publish(OTHERS.jwk(kid=KEY.kid), NEXT)  # revoked, and its id used again
            await after_refreshes(tenant)
            await refuses(verifier, token)
            tenant.publish(NEXT)
            await after_refreshes(tenant)
            await refuses(verifier, token)
            assert (await verifier.verify(other)).user_id == USER
            assert verifier._remembered.keys() == {hashlib.sha256(other).digest()}

        verifying(tenant, test, Pace(refresh=0.05, within=600))


async def after_refreshes(tenant: JwksServer) -> None:
    """Wait until the keys are what the tenant publishes now."""
    before = tenant.fetches
    async with asyncio.timeout(PATIENCE):
        while tenant.fetches < before + 3:  # noqa: ASYNC110 they are fetched in the background
            await asyncio.sleep(0.01)


def test_no_more_tokens_are_remembered_than_there_is_room_for(
    tenant: JwksServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.tokens, "MAX_REMEMBERED", 3)

    async def test(verifier: Verifier, _clock: Clock) -> None:
        tokens = [KEY.sign(tenant.claims(sub=f"auth0|{number}")).encode() for number in range(5)]
        for token in tokens:
            await verifier.verify(token)
        assert list(verifier._remembered) == [hashlib.sha256(token).digest() for token in tokens[2:]]

    verifying(tenant, test)


def test_what_was_refused_is_not_remembered(tenant: JwksServer) -> None:
    async def test(verifier: Verifier, _clock: Clock) -> None:
        for forge in (OTHERS.sign, NEXT.sign):
            await refuses(verifier, forge(tenant.claims(), kid=KEY.kid).encode())
        assert not verifier._remembered

    verifying(tenant, test)


# The tokens of a whole tenant


def test_tokens_of_the_simulated_tenant_are_told_apart() -> None:
    simulated = Simulator()
    api_of_machines = f"{simulated.origin}/api/v2/"  # the one audience that both people and machines have here
    try:
        tenant = JwksServer(simulated.ready["domain"], Path(simulated.ready["ca_file"]))
        (person,) = simulated.sign_up()

        def token(**how: Any) -> str:
            asked = {"user_id": person, "audience": api_of_machines, **how}
            return str(simulated.control("POST", "tokens", asked)["access_token"])

        with door(tenant, auth0_audience=api_of_machines) as own:
            first = token()
            assert own.show(first).text == person
            simulated.control("POST", "keys/rotate")
            assert [own.show(each).status_code for each in (token(), first)] == [200, 200]
            assert own.show(simulated.token()).status_code == 403
            for odd in (token(seconds=-60), token(kind="id"), token(issuer="https://other.eu.auth0.com/")):
                is_refused(own.show(odd))
    finally:
        simulated.stop()
