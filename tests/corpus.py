"""A corpus of bad input, the same for the same seed: deliveries as bytes, and what must come of them all the same.

Every sample mixes good records with what is wrong, wherever its kind of damage allows: the good ones must be applied.
Records are as Auth0 writes them; the people in them do not exist.
"""

import gzip
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

MIB = 1 << 20


@dataclass(frozen=True)
class Sample:
    """A delivery. `applied`: the users that must be marked or seen; `parked`: how many records are, None where that is not promised."""

    name: str
    body: bytes
    applied: frozenset[str]
    parked: int | None = None

    def __repr__(self) -> str:
        return f"Sample({self.name!r}, {len(self.body)} bytes)"


def log_record(code: str = "s", number: int = 1, **data: Any) -> dict[str, Any]:
    """Build a record as a log stream delivers it; a field given as `...` is left out."""
    fields: dict[str, Any] = {
        "date": f"2026-03-01T12:00:{number % 60:02}.{number % 1000:03}Z",
        "type": code,
        "description": "",
        "connection": "Username-Password-Authentication",
        "connection_id": "con_Ab3dEfGh1jKlMn0p",
        "client_id": "Aa0Bb1Cc2Dd3Ee4Ff5Gg6Hh7Ii8Jj9Kk",
        "client_name": "Music",
        "ip": "203.0.113.7",
        "user_agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        "details": {
            "prompts": [
                {"name": "lock-password-authenticate", "initiatedAt": 1772366400000, "completedAt": 1772366401000}
            ],
            "session_id": "f8J2k3L4m5N6p7Q8r9S0t1U2v3W4x5Y6",
            "stats": {"loginsCount": number},
        },
        "hostname": "tenant.eu.auth0.com",
        "user_id": user(number),
        "user_name": f"listener-{number}@example.com",
        "strategy": "auth0",
        "strategy_type": "database",
        "audience": ["https://music.example.com/"],
        "scope": ["openid", "profile", "email"],
        "log_id": f"900202603011200{number:041}",
        "isMobile": False,
        "$event_schema": {"version": "1.0.0"},
        "environment_name": "prod-eu-1",
        "tenant_name": "tenant",
        **data,
    }
    fields = {name: value for name, value in fields.items() if value is not ...}
    return {"log_id": fields.get("log_id"), "data": fields}


def api_write(method: str, path: str, number: int = 1, **more: Any) -> dict[str, Any]:
    """Build a `sapi` record; `body`, `answer` and `status` say what was sent and answered, the rest are fields of the record."""
    details = {
        "request": {
            "method": method,
            "path": path,
            "query": more.pop("query", {}),
            "body": more.pop("body", None),
            "channel": "api",
            "ip": "203.0.113.9",
            "userAgent": "python-requests/2.32",
            "auth": {
                "strategy": "jwt",
                "user": {},
                "credentials": {"jti": "0123456789abcdef", "scopes": ["update:users"] * 5},
            },
        },
        "response": {"statusCode": more.pop("status", 200), "body": more.pop("answer", {})},
    }
    return log_record("sapi", number, **{"user_id": ..., "description": "Update a User", "details": details, **more})


def user(number: int) -> str:
    """Return the id of an ordinary database user."""
    return f"auth0|{number:024x}"


def lines(*records: object) -> bytes:
    """Write JSONLINES; bytes go in as they are."""
    return b"\n".join(map(_text, records)) + b"\n"


def array(*records: object) -> bytes:
    """Write JSONARRAY; bytes go in as they are."""
    return b"[" + b",".join(map(_text, records)) + b"]"


def logs_object(*records: object) -> bytes:
    """Write JSONOBJECT; bytes go in as they are."""
    return b'{"logs":' + array(*records) + b"}"


FORMATS: tuple[Callable[..., bytes], ...] = (lines, array, logs_object)


def _text(record: object) -> bytes:
    return (
        record if isinstance(record, bytes) else json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()
    )


def corpus(seed: int = 2026) -> list[Sample]:
    """Return all samples but the large ones."""
    dice = random.Random(seed)  # noqa: S311 - reproducible, not unguessable
    return [*_between_good_ones(dice), *_odd_ids(), *_odd_but_good(), *_cut(dice), *_no_deliveries(dice)]


# One record is wrong, its neighbours are not


def _bad_records(dice: random.Random) -> Iterator[tuple[str, bytes]]:
    deep = b"[" * 5_000 + b"]" * 5_000
    wrong: dict[str, object] = {
        "no type": log_record(type=...),
        "a type that is null": log_record(type=None),
        "a type that is a number": log_record(type=dice.randrange(100)),
        "a type that is a list": log_record(type=["s"]),
        "a type that holds a NUL": log_record("s\0"),
        "a type that is half a character": _text(log_record("CODE")).replace(b"CODE", b"\\ud83d"),
        "data that is text": {"log_id": "1", "data": "s"},
        "data that is a list": {"log_id": "1", "data": [log_record()["data"]]},
        "data that is null": {"log_id": "1", "data": None},
        "no object but a number": dice.randrange(1000),
        "no object but text": "a, b",
        "no object but null": None,
        "no object but a list": [1, [2, {"a": []}]],
        "an empty object": {},
        "details nested deeply": _text(log_record("sapi", details="DEEP")).replace(b'"DEEP"', deep),
        "an unread field nested deeply": _text(log_record(location_info="DEEP")).replace(b'"DEEP"', deep),
        "an id that holds a NUL": log_record(user_id="auth0|a\0b"),
        "an id that is half a character": _text(log_record(user_id="auth0|CUT")).replace(b"CUT", b"\\ud83d"),
        "an id that is no UTF-8": _text(log_record(user_id="auth0|CUT")).replace(b"CUT", b"\xff\xfe"),
        "an id longer than PostgreSQL indexes": log_record(user_id="auth0|" + "a" * 3_000),
        "a path whose id holds a NUL": api_write("PATCH", "/api/v2/users/auth0%7Ca%00b"),
        "a path whose id is no UTF-8": api_write("PATCH", "/api/v2/users/auth0%7C%ff%fe"),
    }
    for name, record in wrong.items():
        yield name, _text(record)


def _between_good_ones(dice: random.Random) -> Iterator[Sample]:
    for number, (name, bad) in enumerate(_bad_records(dice)):
        good = [log_record(number=number * 10 + n) for n in range(1, 6)]
        at = dice.randrange(len(good) + 1)
        applied = frozenset(record["data"]["user_id"] for record in good)
        for write in FORMATS:
            yield Sample(f"{name} ({write.__name__})", write(*good[:at], bad, *good[at:]), applied, 1)
    for name, record in _undated():
        good = [log_record(number=900 + n) for n in range(1, 4)]
        applied = frozenset(one["data"]["user_id"] for one in [*good, record])
        yield Sample(name, lines(good[0], record, *good[1:]), applied, 1)


def _undated() -> Iterator[tuple[str, dict[str, Any]]]:
    """A login without a believable date still marks its user, and is parked for somebody to see."""
    odd: tuple[object, ...] = (
        ("2026-02-30T00:00:00Z"),
        ("yesterday"),
        ("99999-01-01T00:00:00Z"),
        ("0001-01-01T00:00:00+14:00"),
        ("9999-12-31T23:59:59.999Z"),
        {"$date": {"$date": "2026-03-01T12:00:00Z"}},
        [],
        True,
        -1,
        10**40,
        None,
    )
    for number, date in enumerate(odd):
        yield f"a date that is no date ({str(date)[:30]})", log_record(number=800 + number, date=date)


# Odd, but right: applied, not parked


def _odd_ids() -> Iterator[Sample]:
    odd = (
        "samlp|corp-saml|ada.o'brien@corp.example",
        'oauth2|"quoted"',
        "auth0|50%25 off; DROP TABLE users; --",
        "custom|back\\slash/and/slashes?and#hash",
        "waad|with spaces and\ttab",
        "sms|🎵🎶-\u202eright to left",
        "auth0|" + "x" * 1_000,
        "ad|corp|Ünïcödé",
    )
    yield Sample("odd ids at login", lines(*(log_record(user_id=one) for one in odd)), frozenset(odd), 0)
    paths = [api_write("PATCH", "/api/v2/users/" + "".join(f"%{byte:02X}" for byte in one.encode())) for one in odd]
    yield Sample("odd ids in paths", array(*paths), frozenset(odd), 0)


def _odd_but_good() -> Iterator[Sample]:
    one, two = log_record(number=71), log_record(number=72)
    both = frozenset({user(71), user(72)})
    cut_emoji = _text(log_record(number=71, user_name="CUT")).replace(b"CUT", b"\\ud83d")
    latin = _text(log_record(number=72, user_name="CUT", description="CUT")).replace(b"CUT", b"J\xfcrgen")
    yield Sample("half an emoji in a name", lines(cut_emoji, two), both, 0)
    yield Sample("Latin-1 in a name", lines(one, latin), both, 0)
    huge = _text(log_record(number=71, details="HUGE")).replace(b'"HUGE"', b'{"a":1e999,"b":-' + b"9" * 400 + b"}")
    yield Sample("huge numbers in details", lines(huge, two), both, 0)
    digits = cut_emoji.replace(b'"isMobile":false', b'"isMobile":' + b"9" * 5_000)
    yield Sample("a number of 5,000 digits beside half an emoji", lines(digits, two), both, 0)
    read = _text(log_record(number=71, connection="HUGE")).replace(b'"HUGE"', b"1e999")
    yield Sample("a huge number in a field that is read", array(read, two), both, 0)
    twice = _text(one).replace(b'"type":"s"', b'"type":"fp","type":"s"')
    yield Sample("a key twice", lines(twice, two), both, 0)
    yield Sample("details that are text", lines(log_record(number=71, details="*****"), two), both, 0)
    yield Sample("a date in an object", lines(log_record(number=71, date={"$date": one["data"]["date"]}), two), both, 0)
    yield Sample("a date in milliseconds", lines(log_record(number=71, date=1772366400000), two), both, 0)
    yield Sample(
        "a byte order mark, blank lines, CRLF",
        b"\xef\xbb\xbf\r\n \r\n" + _text(one) + b"\r\n\r\n" + _text(two),
        both,
        0,
    )
    yield Sample("written for people", json.dumps([one, two], indent=2).encode(), both, 0)
    yield Sample("one record written for people", json.dumps(one, indent=2).encode(), frozenset({user(71)}), 0)
    yield Sample("logs after other fields", json.dumps({"count": 2, "logs": [one, two], "more": [1]}).encode(), both, 0)
    yield Sample("flat, as the API answers", array(one["data"], two["data"]), both, 0)
    yield Sample("flat lines", lines(one["data"], two["data"]), both, 0)
    yield Sample(
        "EventBridge",
        json.dumps({"version": "0", "detail-type": "Auth0 log", "detail": one}).encode(),
        frozenset({user(71)}),
        0,
    )
    yield Sample("mixed wrappings", lines(one["data"], two, {"detail": log_record(number=73)}), both | {user(73)}, 0)
    yield Sample("an empty array", b"[]", frozenset(), 0)
    yield Sample("nothing but space", b" \r\n\t\n", frozenset(), 0)
    machine = log_record("seccft", user_id="Aa0Bb1Cc2Dd3Ee4Ff5Gg6Hh7Ii8Jj9Kk@clients")
    yield Sample(
        "machines and unknown codes", lines(machine, log_record("brand_new_code"), one), frozenset({user(71)}), 0
    )


# Cut, or with a piece missing


def _cut(dice: random.Random) -> Iterator[Sample]:
    records = [log_record(number=n) for n in range(51, 58)]
    whole = frozenset(record["data"]["user_id"] for record in records)
    for write in FORMATS:
        body = write(*records)
        last = body.rindex(b'{"log_id"')
        for _ in range(3):
            end = dice.randrange(last + 20, len(body) - 10)
            yield Sample(f"truncated after {end} bytes ({write.__name__})", body[:end], whole - {user(57)}, 1)
    for write in FORMATS:
        for name, old, new in (
            ("quote", b'"Music"', b'"Music'),
            ("bracket", b"}}", b"}"),
            ("comma", b'","type"', b'""type"'),
            ("brackets too many", b"}}", b"}}}]"),
        ):
            hurt = _text(records[3]).replace(old, new)
            yield Sample(
                f"a {name} wrong in one record ({write.__name__})",
                write(*records[:3], hurt, *records[4:]),
                whole - {user(54)},
                None,
            )


# No deliveries at all


def _no_deliveries(dice: random.Random) -> Iterator[Sample]:
    record = lines(log_record())
    bodies = {
        "a page of HTML": b"<!doctype html>\n<title>Sign in</title>\n\n<p>Please wait",
        "random bytes": dice.randbytes(5_000),
        "compressed once more": gzip.compress(record * 10, mtime=0),
        "a gzip bomb, never opened": gzip.compress(bytes(8 * MIB), mtime=0),
        "UTF-16": record.decode().encode("utf-16"),
        "a number": b"42",
        "text": b'"s"',
        "null": b"null",
        "a form": b"type=s&user_id=auth0%7C1",
        "NULs": bytes(1_000),
    }
    for name, body in bodies.items():
        yield Sample(name, body, frozenset(), 1)


# Sixteen mebibytes: bounded time, bounded memory


def large_samples() -> Iterator[Sample]:
    """Yield the large samples, each made when it is asked for: together they take 200 MB."""
    good = log_record(number=99)
    seen = frozenset({user(99)})
    size = 16 * MIB
    wide = _text(log_record(number=98, user_agent="x" * (size - 4_096)))
    yield Sample("16 MiB in one good line", lines(good, wide), seen | {user(98)}, 0)
    junk = {
        "brackets": b"[" * size,
        "nested objects": b'{"a":' * (size // 5),
        "a string without an end": b'{"log_id":"' + b"a" * size,
        "backslashes": b'{"log_id":"' + b"\\" * size,
        "digits": b'{"data":{"type":' + b"9" * size + b"}}",
        "a field of small lists": b'{"data":{"type":"s","user_id":[' + b"[]," * (size // 3) + b"[]]}}",
    }
    for name, body in junk.items():
        yield Sample(f"16 MiB of {name}", lines(good, body), seen, 1)
    calls = _text(log_record("sapi", details="BIG")).replace(
        b'"BIG"', b'{"request":{"body":[' + b"{}," * (size // 3) + b"{}]}}"
    )
    yield Sample("16 MiB of a request's body", lines(good, calls), seen, 0)
    yield Sample("16 MiB of tiny lines", lines(good) + b"{}\n" * (size // 3), seen, None)
    yield Sample("16 MiB of tiny elements", b"[" + _text(good) + b",1" * (size // 2) + b"]", seen, None)
    yield Sample("16 MiB of quotes", b"[" + _text(good) + b',"' * (size // 2), seen, None)
    yield Sample("16 MiB of starts of records", b"[" + _text(good) + b',{"log_id":' * (size // 11), seen, None)
