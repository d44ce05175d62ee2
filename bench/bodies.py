"""Makes deliveries as Auth0's log stream sends them: 100 records of about 1.4 KB, of the kinds and with the variety of a real tenant's."""

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import msgspec

RECORDS = 100

_FIRST = [
    "Ana",
    "Rui",
    "Inês",
    "Tomás",
    "Marta",
    "Noah",
    "Mia",
    "Emma",
    "Léa",
    "Hugo",
    "Jonas",
    "Lena",
    "Sofia",
    "Matteo",
    "Giulia",
    "Ola",
    "Kasia",
    "Jan",
    "Eva",
    "Luca",
]
_LAST = [
    "Silva",
    "Costa",
    "Rocha",
    "Neves",
    "Weber",
    "Koch",
    "Braun",
    "Rossi",
    "Ricci",
    "Novak",
    "Kowal",
    "Dubois",
    "Petit",
    "Moreau",
    "Larsen",
    "Berg",
    "Lind",
]
_HOSTS = ["example.com", "example.org", "mail.example.net", "music.example", "post.example"]
_BROWSERS = ("Chrome {}.0.{} / Mac OS X 10.15.7", "Mobile Safari {}.{} / iOS 19.1.0", "Firefox {}.0.{} / Linux 0.0.0", "Edge {}.0.{} / Windows 10.0.0")  # fmt: skip
_CITIES = (
    ("PT", "Portugal", "Lisbon", 38.7, -9.1, "Europe/Lisbon"),
    ("DE", "Germany", "Berlin", 52.5, 13.4, "Europe/Berlin"),
    ("FR", "France", "Lyon", 45.7, 4.8, "Europe/Paris"),
    ("IT", "Italy", "Turin", 45.1, 7.7, "Europe/Rome"),
    ("PL", "Poland", "Kraków", 50.1, 19.9, "Europe/Warsaw"),
)
_CONNECTIONS = (
    ("Username-Password-Authentication", "con_9fYQ0sBcUuUyJ3rL", "auth0", "database"),
    ("google-oauth2", "con_T4nWb2pXk8VdE6aM", "google-oauth2", "social"),
    ("acme-oidc", "con_Qe7Hs1yZr5LcN0gK", "oidc", "enterprise"),
)
# All of them concern a user: token exchanges, a third of a real stream, are skipped at once and would only flatter the drain.
_KINDS = ("s", "ss", "sv", "sce", "sapi")
_WEIGHTS = (86, 5, 3, 2, 4)

Record = dict[str, Any]


def new_ids(count: int, seed: int = 1) -> list[str]:
    """Return so many different user ids, in random order."""
    rng = random.Random(seed)  # noqa: S311 reproducible is the aim
    ids = {f"auth0|{rng.getrandbits(96):024x}": None for _ in range(count)}
    return list(ids)


def numbered_id(number: int) -> str:
    """Return the id that `user_id_sql` makes of a number."""
    return f"auth0|{number * 2654435761 % 2**32:08x}{number:016x}"


USER_ID_SQL = "'auth0|' || lpad(to_hex(n * 2654435761 % 4294967296), 8, '0') || lpad(to_hex(n), 16, '0')"
"""SQL for `numbered_id` of n (bigint): ids spread over the whole index."""


def deliveries(user_ids: Sequence[str], *, size: int = RECORDS, seed: int = 1, kinds: bool = True) -> Iterator[bytes]:
    """Yield bodies (JSON lines) of `size` records, one record for each id; with `kinds` false all are logins."""
    rng = random.Random(seed)  # noqa: S311 reproducible is the aim
    now = datetime.now(UTC).timestamp()
    number = seed * 1_000_000_000
    for start in range(0, len(user_ids), size):
        lines = []
        for user_id in user_ids[start : start + size]:
            number += 1
            kind = rng.choices(_KINDS, _WEIGHTS)[0] if kinds else "s"
            lines.append(msgspec.json.encode(_record(rng, kind, user_id, now, number)))
        yield b"\n".join(lines)


def _record(rng: random.Random, kind: str, user_id: str, now: float, number: int) -> Record:
    when = datetime.fromtimestamp(now + rng.uniform(-4, 0), UTC)
    log_id = f"90020{when:%Y%m%d%H%M%S}{when.microsecond // 1000:03d}0000000000000000001223372{number:012d}"
    first, last = rng.choice(_FIRST), rng.choice(_LAST)
    email = f"{first}.{last}{rng.randrange(10**5)}@{rng.choice(_HOSTS)}".lower()
    connection, connection_id, strategy, strategy_type = rng.choices(_CONNECTIONS, (70, 25, 5))[0]
    if kind == "sapi":
        about = _api_write(rng, user_id, email)
    else:
        about = {
            "description": "Successful login" if kind == "s" else None,
            "connection": connection,
            "connection_id": connection_id,
            "client_id": "sJv0a7mQe2Xk9Lr4Yt1Wz8Hc3Nb6Pd5G",
            "client_name": "Music app",
            "user_id": user_id,
            "user_name": email,
            "strategy": strategy,
            "strategy_type": strategy_type,
            "details": _details(rng, kind, user_id, email, when),
        }
    country, name, city, latitude, longitude, zone = rng.choice(_CITIES)
    data = {
        "date": f"{when:%Y-%m-%dT%H:%M:%S}.{when.microsecond // 1000:03d}Z",
        "type": kind,
        **about,
        "ip": f"203.0.{rng.randrange(256)}.{rng.randrange(256)}",
        "user_agent": rng.choice(_BROWSERS).format(rng.randrange(90, 150), rng.randrange(9000)),
        "hostname": "music.eu.auth0.com",
        "auth0_client": {"name": "auth0-spa-js", "version": f"2.{rng.randrange(9)}.1"},
        "location_info": {
            "country_code": country,
            "country_name": name,
            "city_name": city,
            "latitude": latitude,
            "longitude": longitude,
            "time_zone": zone,
        },
        "references": {"correlation_id": f"{rng.getrandbits(128):032x}"},
        "$event_schema": {"version": "1.0.0"},
        "environment_name": "prod-eu-1",
        "log_id": log_id,
        "_id": log_id,
        "isMobile": rng.random() < 0.4,
        "tenant_name": "music",
    }
    return {"log_id": log_id, "data": {key: value for key, value in data.items() if value is not None}}


def _details(rng: random.Random, kind: str, user_id: str, email: str, when: datetime) -> Record:
    ended = int(when.timestamp() * 1000)
    if kind == "s":
        logins, took = rng.randrange(1, 900), rng.randrange(900, 30_000)
        prompt = {
            "name": "prompt-authenticate",
            "completedAt": ended,
            "connection": _CONNECTIONS[0][0],
            "connection_id": _CONNECTIONS[0][1],
            "strategy": "auth0",
            "identity": user_id.partition("|")[2],
            "stats": {"loginsCount": logins},
            "elapsedTime": took // 2,
        }
        flow = {
            "name": "login",
            "flow": "universal-login",
            "initiatedAt": ended - took,
            "completedAt": ended,
            "timers": {"rules": rng.randrange(90)},
            "user_id": user_id,
            "user_name": email,
            "elapsedTime": took,
        }
        return {
            "prompts": [prompt, flow],
            "initiatedAt": ended - took - 40,
            "completedAt": ended,
            "elapsedTime": took + 40,
            "session_id": f"{rng.getrandbits(192):048x}",
            "device_id": f"v0:{rng.getrandbits(128):032x}",
            "stats": {"loginsCount": logins},
        }
    if kind == "seacft":
        return {
            "code": "*************" + f"{rng.getrandbits(12):03x}",
            "accessedSecrets": [],
            "scope": "openid profile",
        }
    body = {"email": email, "connection": _CONNECTIONS[0][0], "tenant": "*****", "user_id": user_id}
    return {"title": "Account", "body": {**body, "request_language": "de-DE,de;q=0.9,en;q=0.8"}, "email": email}


def _api_write(rng: random.Random, user_id: str, email: str) -> Record:
    scopes = ["read:users", "update:users", "update:users_app_metadata", "read:logs", "read:stats", "create:users"]
    request = {
        "method": "patch",
        "path": f"/api/v2/users/{quote(user_id, safe='')}",
        "query": {},
        "body": {"app_metadata": {"plan": rng.choice(("free", "family", "premium"))}},
        "channel": "api",
        "ip": f"203.0.113.{rng.randrange(256)}",
        "userAgent": "Python/3 auth0-python",
        "auth": {
            "strategy": "jwt",
            "user": {},
            "credentials": {"jti": f"{rng.getrandbits(128):032x}", "scopes": scopes},
        },
    }
    answer = {"user_id": user_id, "email": email, "updated_at": "2026-03-01T10:00:00.000Z"}
    return {
        "description": "Update a User",
        "client_id": "m2m7Lk2Jh4Gf6Ds8Aq1We3Rt5Yu7Io9P",
        "details": {"request": request, "response": {"statusCode": 200, "body": answer}},
    }
