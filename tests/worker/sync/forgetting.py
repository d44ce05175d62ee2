"""A person with something in every table, a tenant to ask, and a search of the whole database for what is left of them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID

import zstandard
from sqlalchemy import Engine, text

from tests.worker.sync.radio import play
from worker.domain.users import Tolerances, on_strong
from worker.queue.plays import encode
from worker.store import schema, users
from worker.store.tables import metadata
from worker.store.users import UserNews
from worker.sync.answers import apply
from worker.sync.count import Plays
from worker.sync.drain import Source, drain
from worker.sync.forget import Forget
from worker.sync.learn import LogRecords
from worker.sync.pulled import PulledRecords
from worker.sync.snapshots import EventStream

TOLERANCES = Tolerances(timedelta(seconds=5), timedelta(seconds=60))
SOURCES: tuple[Source[Any], ...] = (Plays(10), EventStream(TOLERANCES), LogRecords(), PulledRecords())

# One person, two ids; the parts that must be nowhere in the end, however they are spelled.
ADA = "samlp|acme/saml|Zoë ada7mark@acme.test"
ALIAS = "auth0|507f1f77bcf86cd799439011"
EMAIL = "private5mark@home.test"
MARKS = ("ada7mark", "507f1f77bcf86cd799439011", "private5mark")
BOB = "auth0|bob"
# Whose ids begin as hers.
LOOKALIKES = (ALIAS + "2", ALIAS + "-x")

# Tables in which nobody is named; every other one holds something of her in these tests.
NAMELESS = {
    *(
        "tenant",
        "connections",
        "counters",
        "arrivals",
        "conditions",
        "processes",
        "feeds",
        "heard",
        "runs",
        "forgotten",
    ),
    "playlist_songs",
}

Auth0 = dict[str, dict[str, Any]]


def profile(user_id: str, *linked: str, **more: Any) -> dict[str, Any]:
    names = [one.split("|", 1) for one in (user_id, *linked)]
    identities = [{"provider": provider, "user_id": rest, "connection": "c"} for provider, rest in names]
    return {"user_id": user_id, "updated_at": "2026-11-20T10:00:00.000Z", "identities": identities, **more}


def record(user_id: str, log_id: str = "1", **data: Any) -> dict[str, Any]:
    said = {"type": "s", "date": "2026-11-20T10:00:00.000Z", "user_id": user_id, "log_id": log_id, **data}
    return {"log_id": log_id, "data": said}


def api_write(user_id: str, log_id: str = "2", method: str = "patch", rest: str = "", **more: Any) -> dict[str, Any]:
    request = {"method": method, "path": f"/api/v2/users/{quote(user_id, safe='')}{rest}", **more}
    return {
        "log_id": log_id,
        "data": {"type": "sapi", "date": "2026-11-20T10:00:00.000Z", "details": {"request": request}},
    }


def event(said: Mapping[str, Any], kind: str = "user.updated") -> dict[str, Any]:
    return {"id": "evt", "type": kind, "time": "2026-11-20T10:00:00.000Z", "data": {"object": said}}


class Copy:
    """The copy, and the tenant that it asks: `auth0` holds whom it has."""

    def __init__(self, engine: Engine, *, domain: str = "acme.eu.auth0.com") -> None:
        self.engine = engine
        self.auth0: Auth0 = {}
        self.said: list[str] = []
        self.reads: list[str] = []
        with engine.connect() as connection:
            schema.claim_tenant(connection, domain)

    # Asking and telling

    def read(self, user_id: str) -> dict[str, Any] | None:
        self.reads.append(user_id)
        return self.auth0.get(user_id)

    def forget(self, user_id: str = ADA, *, keep_out: bool = False, **how: Any) -> Counter[str]:
        return self.forgetting(**how).run(user_id, keep_out=keep_out)

    def forgetting(self, **how: Any) -> Forget:
        return Forget(self.engine, how.pop("read", self.read), SOURCES, b"key", self.said.append, **how)

    def put(self, source: str, *records: object, body: bytes | None = None) -> None:
        """Deliver records, in one body, as the web process stores it."""
        content = json.dumps(list(records), ensure_ascii=False).encode() if body is None else body
        with self.engine.begin() as connection:
            connection.execute(
                text("INSERT INTO inbox (source, size, body) VALUES (:source, :size, :body)"),
                {"source": source, "size": len(content), "body": zstandard.compress(content)},
            )

    def drain(self) -> None:
        for source in SOURCES:
            drain(self.engine, source, go_on=lambda: True)

    def refresh(self) -> None:
        """Read strongly whoever is marked, and apply what the tenant says."""
        with self.engine.begin() as connection:
            claims = users.claim(connection, "any", rows=100, lease=timedelta(seconds=60))
        for claim in claims:
            apply(self.engine, [(claim, self.auth0.get(claim.user_id))], on_strong, settle=None)

    def news(self, *ids: str, **how: Any) -> None:
        with self.engine.begin() as connection:
            users.mark(connection, [UserNews(one, **how) for one in ids])

    # Looking

    def sql(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        with self.engine.begin() as connection:
            found = connection.execute(text(statement), values)
            return [tuple(row) for row in found] if found.returns_rows else []

    def bodies(self, source: str) -> list[bytes]:
        found = self.sql("SELECT encoding, body FROM inbox WHERE source = :source ORDER BY id", source=source)
        return [zstandard.decompress(body) if encoding == "zstd" else body for encoding, body in found]

    def left(self, *marks: str) -> dict[str, list[str]]:
        """Search every row of every table for the marks; return, by table, what was found."""
        found: dict[str, list[str]] = {}
        for table in metadata.tables:
            for row in self.sql(f'SELECT * FROM "{table}"'):  # noqa: S608
                said = "\n".join(_shown(value) for value in row)
                if hits := [mark for mark in marks or MARKS if re.search(mark + "(?!2|-x)", _plain(said))]:
                    found.setdefault(table, []).extend(hits)
        return found


def _shown(value: Any) -> str:
    if isinstance(value, bytes):
        content = zstandard.decompress(value) if value.startswith(b"\x28\xb5\x2f\xfd") else value
        return content.decode("utf-8", "replace")
    return json.dumps(value, ensure_ascii=False, default=str)


def _plain(said: str) -> str:
    return re.sub(r"\\+u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), said)


def alive(copy: Copy, user_id: str, *linked: str, **more: Any) -> None:
    """Have the copy and the tenant know somebody."""
    copy.auth0[user_id] = profile(user_id, *linked, **more)
    copy.news(user_id, strong=True)
    copy.refresh()


def a_whole_life(copy: Copy) -> None:
    """Give her something in every table, in every spelling; and Bob and the lookalikes something beside it."""
    alive(copy, BOB, email="bob@home.test")
    alive(copy, ALIAS)
    for one in LOOKALIKES:
        alive(copy, one)
    copy.auth0.pop(ALIAS)
    alive(copy, ADA, ALIAS, email=EMAIL, app_metadata={"roles": ["playlist_editor"]})
    copy.news(ALIAS, strong=True, deletion_announced=True)
    copy.refresh()
    _music(copy)
    _deliveries(copy)
    copy.drain()
    copy.news(ADA)
    copy.sql(
        "INSERT INTO parked (source, reason, record) VALUES ('logs', 'odd', :hers), ('logs', 'odd', :bobs)",
        hers=json.dumps(record(ADA, type=7)).encode(),
        bobs=json.dumps(record(LOOKALIKES[0], type=7)).encode(),
    )
    copy.put("logs", body=b"\xff\xfe no json " + quote(ALIAS).encode() + b" and more")
    copy.sql("UPDATE inbox SET state = 'parked', error = 'odd' WHERE state = 'pending'")


def _music(copy: Copy) -> None:
    copy.sql("INSERT INTO user_data VALUES (:a, 'Jazz'), (:b, 'Rock')", a=ADA, b=BOB)
    copy.sql(
        "INSERT INTO songs (user_id, songname) VALUES (:a, 'x'), (:alias, 'y'), (:b, 'z')", a=ADA, alias=ALIAS, b=BOB
    )
    copy.sql(
        "INSERT INTO playlists (user_id, name) VALUES (:b, 'his'), (:a, 'hers'), (:alias, 'hers too')",
        a=ADA,
        alias=ALIAS,
        b=BOB,
    )
    copy.sql("INSERT INTO playlist_songs VALUES (1, 1, 3), (2, 1, 1), (2, 2, 2)")
    # She under both ids and a lookalike play Bob's; he plays hers.
    for number, (listener, playlist, owner) in enumerate(
        [(ADA, 1, BOB), (ADA, 1, BOB), (ALIAS, 1, BOB), (LOOKALIKES[0], 1, BOB), (BOB, 2, ADA), (ADA, 2, ADA)]
    ):
        copy.put("plays", body=encode(play(number, listener, playlist, owner)))
    # Ada and her alias happened to send the same number.
    copy.put("plays", body=encode(play(2, ADA, 1, BOB)))
    copy.sql(
        "INSERT INTO wishes (user_id, attribute, value) VALUES (:a, 'displayName', 'A'), (:b, 'plan', 'pro')",
        a=ADA,
        b=BOB,
    )
    copy.sql("INSERT INTO pushes (user_id) VALUES (:a) ON CONFLICT DO NOTHING", a=ADA)
    copy.sql(
        "INSERT INTO pushed (user_id, correlation_id, gained, lost) VALUES (:a, :one, '{}', '{}'), (:b, :two, '{}', '{}')",
        a=ADA,
        b=BOB,
        one=UUID(int=1),
        two=UUID(int=2),
    )
    copy.sql(
        "INSERT INTO sessions (session_hash, user_id, expires_at) VALUES ('1', :a, now() + interval '1 h'), "
        "('2', :alias, now() + interval '1 h'), ('3', :b, now() + interval '1 h')",
        a=ADA,
        alias=ALIAS,
        b=BOB,
    )
    copy.sql("INSERT INTO exported VALUES (1, :a), (1, :b)", a=ADA, b=BOB)
    copy.sql("INSERT INTO suspects VALUES (1, :a, 'stale'), (1, :b, 'extra')", a=ADA, b=BOB)
    copy.sql("INSERT INTO sweep (position) VALUES (:a)", a=ADA)


def _deliveries(copy: Copy) -> None:
    copy.put("logs", record(ADA, "1"), record(BOB, "2"), api_write(ADA, "3"), record(LOOKALIKES[1], "4"))
    copy.put("logs", body=b"\n".join(json.dumps(one).encode() for one in (record(BOB, "5"), record(ADA, "6"))))
    copy.put("logs", body=json.dumps({"logs": [api_write(ALIAS.replace("|", "%7c"), "7"), record(BOB, "8")]}).encode())
    link = {"provider": "auth0", "user_id": ALIAS.partition("|")[2]}
    copy.put("logs", api_write(BOB, "9", rest="/roles"), {"log_id": "10", "data": {"type": "seacft", "user_id": ADA}})
    copy.put("logs", {"log_id": "11", "data": {"type": "f", "user_name": EMAIL, "description": f"user_id: {ALIAS}"}})
    copy.put("logs", api_write(BOB, "12", "post", "/multifactor", body={"actor": link}), record(BOB, "13"))
    odd = "".join(f"\\u{ord(letter):04x}" for letter in ALIAS)
    copy.put("logs", body=b'{"log_id":"14","data":{"type":"seccft","details":"' + odd.encode() + b'"}}')
    copy.put("logs", {"log_id": "15", "data": {"type": "fp", "user_name": EMAIL, "details": json.dumps({"id": ADA})}})
    copy.put("pulled", record(ADA, "16"), record(BOB, "17"))
    copy.put("events", event(profile(ADA, ALIAS, email=EMAIL)))
    copy.put("events", event(copy.auth0[BOB]))


def everywhere_but(copy: Copy) -> set[str]:
    """Return the tables in which nothing of her is, that should hold something."""
    return set(metadata.tables) - NAMELESS - copy.left().keys()
