"""Whom bytes speak of, however an id is spelled in them."""

import json
from urllib.parse import quote

import pytest

from worker.domain.mentions import Mentions, ids_in

ODD = [
    "auth0|507f1f77bcf86cd799439011",
    "samlp|acme/saml|ada@acme.test",
    "waad|Zoë Öz/ü %7C?#&|x",
    "sms|+49 170 1",
    "sms|1",
    "ö|😀",
]

every_id = pytest.mark.parametrize("user_id", ODD)


def spelled(user_id: str) -> dict[str, bytes]:
    """Return records that speak of a user, by how they do."""
    provider, _, rest = user_id.partition("|")
    path = f"/api/v2/users/{quote(user_id, safe='')}"
    inner = json.dumps({"user_id": user_id})
    return {
        "raw": json.dumps({"user_id": user_id}, ensure_ascii=False).encode(),
        "escaped": json.dumps({"user_id": user_id}).encode(),
        "every letter escaped": b'{"id":"%s"}' % _escaped(user_id),
        "in a path": json.dumps({"path": path}).encode(),
        "in a path, in small letters": json.dumps({"path": path.lower() if path.islower() else path}).encode(),
        "in a path with more": json.dumps({"path": f"{path}/roles?x=y"}).encode(),
        "in a query": json.dumps({"url": f"https://x.test/?user={quote(user_id, safe='')}&y=z"}).encode(),
        "JSON in JSON": json.dumps({"details": inner}).encode(),
        "as an identity": json.dumps({"identities": [{"provider": provider, "user_id": rest}]}).encode(),
        "as an identity, the other way round": json.dumps(
            {"identity": {"user_id": rest, "provider": provider}}
        ).encode(),
        "as an identity in a path": json.dumps(
            {"path": f"/api/v2/users/auth0%7Cx/identities/{quote(provider)}/{quote(rest, safe='')}"}
        ).encode(),
        "by strategy and bare id": json.dumps({"strategy": provider, "user_id": rest}).encode(),
    }


def _escaped(text: str) -> bytes:
    """Return a text as JSON may spell it, every letter by its number."""
    units = text.encode("utf-16-be").hex()
    return "".join(f"\\u{units[place : place + 4]}" for place in range(0, len(units), 4)).encode()


@every_id
@pytest.mark.parametrize("how", spelled("a|b"))
def test_it_is_found_in_every_spelling(user_id: str, how: str) -> None:
    raw = spelled(user_id)[how]
    assert Mentions([user_id]).are_in(raw)
    assert user_id in ids_in(raw)


def test_it_is_found_in_text_and_in_what_is_no_json() -> None:
    one = ODD[0]
    for raw in (
        b'{"description":"user_id: %s"}' % one.encode(),
        b'{"strategy":"auth0","description":"user_id: %s"}' % one.partition("|")[2].encode(),
        b'\xff"broken %s' % one.encode(),
        b"user=%s&x=y" % quote(one).encode(),
        b"[%s" % one.encode(),
    ):
        assert Mentions([one]).are_in(raw), raw
        assert one in ids_in(raw), raw


@pytest.mark.parametrize(
    "raw",
    [
        b'{"user_id":"auth0|507f1f77bcf86cd7994390112"}',
        b'{"user_id":"auth0|507f1f77bcf86cd799439011-x"}',
        b'{"user_id":"auth0|507f1f77bcf86cd799439011|x"}',
        b'{"user_id":"auth0|507f1f77bcf86cd799439011.x"}',
        b'{"user_id":"myauth0|507f1f77bcf86cd799439011"}',
        b'{"path":"/users/my%7Cauth0%7C507f1f77bcf86cd799439011"}',
        b'{"provider":"sms","user_id":"507f1f77bcf86cd799439011"}',
        b'{"provider":"auth0","user_id":"507f1f77bcf86cd7994390112"}',
    ],
)
def test_a_longer_id_is_somebody_elses(raw: bytes) -> None:
    assert not Mentions([ODD[0]]).are_in(raw)


def test_a_short_bare_id_is_no_number_among_others() -> None:
    assert not Mentions(["sms|1"]).are_in(b'{"strategy":"auth0","count":1,"user_id":"2"}')
    assert not Mentions(["sms|1"]).are_in(b'{"x":"1","y":"2"}')


def test_an_address_is_found_whole() -> None:
    person = Mentions([], ["ada@home.test"])
    assert person.are_in(b'{"user_name":"ada@home.test"}')
    assert person.are_in(b'{"q":"email=ada%40home.test"}')
    assert not person.are_in(b'{"user_name":"lady.ada@home.testing"}')
    assert not person.are_in(b'{"user_name":"xada@home.test"}')


def test_ids_are_found_among_much_else_in_time_that_grows_with_it() -> None:
    one = json.dumps({"agent": "x|y (z)", "user_id": ODD[0], "path": "/a|b/c", "text": "|" * 50}).encode()
    found = ids_in(b"\n".join([one] * 2000) + b"|" * 100_000 + b'"' * 100_000)
    assert ODD[0] in found
