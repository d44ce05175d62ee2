"""The users and their news in PostgreSQL: every write guarded in its statement, every lock taken in the order of ids.

Writers lock `users` before `news`, each by ascending id; so two of them never wait for each other in a circle.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection, text

from worker.domain.news import News
from worker.domain.users import Mark, Profile, Read, Row, profile_time
from worker.store import forgotten


@dataclass(slots=True)
class UserNews:
    """All the news of one user in a batch, merged (P6)."""

    user_id: str
    newest: datetime | None = None
    login_seen_at: datetime | None = None
    deletion_seen_at: datetime | None = None
    strong: bool = False
    deletion_announced: bool = False
    creates: bool = True

    def hear(self, news: News) -> None:
        """Merge one more piece of news of this user."""
        self.strong |= news.strong
        self.creates |= news.creates
        self.deletion_announced |= news.deletion
        date = news.date
        if date is None:
            return
        if self.newest is None or date > self.newest:
            self.newest = date
        if news.login and (self.login_seen_at is None or date > self.login_seen_at):
            self.login_seen_at = date
        if news.severed and (self.deletion_seen_at is None or date > self.deletion_seen_at):
            self.deletion_seen_at = date


# The driver's own statements: it sends their arrays in binary (%b), which SQLAlchemy cannot ask for. As text, with every element quoted and
# read again, marking takes twice as long (docs/performance.md). The arrays come sorted: that is the order in which rows are locked.
_CREATE = """
INSERT INTO users (user_id)
SELECT user_id FROM unnest(%(ids)b::text[]) AS batch (user_id)
ON CONFLICT DO NOTHING
"""

# Most news is a plain login of somebody: its date is all there is to write, so it gets a statement with two arrays.
_MARK_LOGINS = """
INSERT INTO news AS held (user_id, newest, login_seen_at)
SELECT user_id, seen_at, seen_at
FROM unnest(%(ids)b::text[], %(dates)b::timestamptz[]) AS batch (user_id, seen_at)
ON CONFLICT (user_id) DO UPDATE SET
  number = nextval('news_number'), last_at = now(),
  newest = greatest(held.newest, excluded.newest),
  login_seen_at = greatest(held.login_seen_at, excluded.login_seen_at)
"""

_MARK = """
INSERT INTO news AS held (user_id, newest, login_seen_at, deletion_seen_at, strong, deletion_announced)
SELECT user_id, newest, login_seen_at, deletion_seen_at, strong, announced FROM unnest(
  %(ids)b::text[], %(newest)b::timestamptz[], %(logins)b::timestamptz[],
  %(deletions)b::timestamptz[], %(strong)b::boolean[], %(announced)b::boolean[], %(creates)b::boolean[]
) AS batch (user_id, newest, login_seen_at, deletion_seen_at, strong, announced, creates)
WHERE creates OR EXISTS (SELECT FROM users WHERE users.user_id = batch.user_id)
ON CONFLICT (user_id) DO UPDATE SET
  number = nextval('news_number'), last_at = now(),
  newest = greatest(held.newest, excluded.newest),
  login_seen_at = greatest(held.login_seen_at, excluded.login_seen_at),
  deletion_seen_at = greatest(held.deletion_seen_at, excluded.deletion_seen_at),
  strong = held.strong OR excluded.strong,
  deletion_announced = held.deletion_announced OR excluded.deletion_announced,
  due_at = CASE WHEN excluded.strong AND NOT held.strong THEN least(held.due_at, now()) ELSE held.due_at END,
  braked_at = CASE WHEN excluded.deletion_announced THEN NULL ELSE held.braked_at END
"""


def mark(connection: Connection, news: Iterable[UserNews]) -> None:
    """Write each user's merged news: a row for an unknown id (nothing but the id is certain), and its mark (P5).

    News of somebody who is kept out is none (P14).
    """
    ordered = sorted(news, key=lambda one: one.user_id.encode())
    if out := forgotten.kept_out(connection, [one.user_id for one in ordered]):
        ordered = [one for one in ordered if one.user_id not in out]
    create = [one.user_id for one in ordered if one.creates]
    if create:
        connection.exec_driver_sql(_CREATE, {"ids": create})
    plain = [one for one in ordered if _is_plain_login(one)]
    if len(plain) == len(ordered):
        if plain:
            connection.exec_driver_sql(_MARK_LOGINS, {"ids": create, "dates": [one.login_seen_at for one in plain]})
        return
    connection.exec_driver_sql(
        _MARK,
        {
            "ids": [one.user_id for one in ordered],
            "newest": [one.newest for one in ordered],
            "logins": [one.login_seen_at for one in ordered],
            "deletions": [one.deletion_seen_at for one in ordered],
            "strong": [one.strong for one in ordered],
            "announced": [one.deletion_announced for one in ordered],
            "creates": [one.creates for one in ordered],
        },
    )


def _is_plain_login(news: UserNews) -> bool:
    return (
        news.creates
        and not news.strong
        and not news.deletion_announced
        and news.deletion_seen_at is None
        and news.login_seen_at is not None
        and news.newest == news.login_seen_at
    )


@dataclass(frozen=True, slots=True)
class Claim:
    """A mark under lease, with what was true when the read of its user begins."""

    user_id: str
    read: Read
    attempts: int


_CLAIM = """
WITH claimed AS (
  UPDATE news SET leased_until = now() + :lease
  FROM (
    SELECT user_id FROM news
    WHERE {due} AND (leased_until IS NULL OR leased_until < now()) AND braked_at IS NULL {kind}
    ORDER BY due_at LIMIT :rows FOR UPDATE SKIP LOCKED
  ) AS due, users
  WHERE news.user_id = due.user_id AND users.user_id = due.user_id
  RETURNING news.user_id, now() AS began_at, users.version, news.number, news.attempts, news.due_at
)
SELECT user_id, began_at, version, number, attempts FROM claimed ORDER BY due_at, user_id
"""
_DUE = "due_at <= now()"
# In calm times even what waits for the search index to settle is read strongly at once; what failed still waits.
_OPEN = "(due_at <= now() OR attempts = 0)"
# Who never rests never settles: after a quarter of an hour of news, one strong read ends the waiting.
_STRONG = "(strong OR (first_at < now() - interval '15 min' AND last_at > now() - interval '1 min'))"
_CLAIMS = {
    "any": text(_CLAIM.format(due=_OPEN, kind="")),
    "strong": text(_CLAIM.format(due=_DUE, kind=f"AND {_STRONG}")),
    "weak": text(_CLAIM.format(due=_DUE, kind=f"AND NOT {_STRONG}")),
}


def claim(connection: Connection, kind: str, *, rows: int, lease: timedelta) -> list[Claim]:
    """Lease at most `rows` marks: "any" (settling ones too), those that are "strong", or the "weak" ones; the caller commits (P8).

    Always in the same order, the longest due first: a schedule that a test has found wrong can be played again.
    """
    return [
        Claim(user_id, Read(began_at, version, number), attempts)
        for user_id, began_at, version, number, attempts in connection.execute(
            _CLAIMS[kind], {"rows": rows, "lease": lease}
        )
    ]


_CLAIM_ONE = text("""
UPDATE news SET leased_until = now() + :lease FROM users
WHERE news.user_id = :id AND users.user_id = news.user_id AND (news.leased_until IS NULL OR news.leased_until < now())
RETURNING now(), users.version, news.number, news.attempts
""")


def claim_one(connection: Connection, user_id: str, *, lease: timedelta) -> Claim | None:
    """Lease one user's mark, whenever it is due; None where a reader is at it, or there is none."""
    found = connection.execute(_CLAIM_ONE, {"id": user_id, "lease": lease}).first()
    if found is None:
        return None
    began_at, version, number, attempts = found
    return Claim(user_id, Read(began_at, version, number), attempts)


def announce_deletion(connection: Connection, user_id: str) -> None:
    """Let the deletion of this user, who has a mark, pass the brake as if a record had announced it (P19)."""
    connection.execute(
        text("UPDATE news SET deletion_announced = true, braked_at = NULL WHERE user_id = :id"), {"id": user_id}
    )


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits to be read, counted up to a bound: all of it, the strong part due now, the weak part due now and its age in seconds."""

    open: int
    strong_due: int
    weak_due: int
    weak_age: float


_BACKLOG = text(f"""
SELECT
  (SELECT count(*) FROM (SELECT FROM news WHERE (due_at <= now() OR attempts = 0)
     AND (leased_until IS NULL OR leased_until < now()) AND braked_at IS NULL LIMIT :most) AS open),
  (SELECT count(*) FROM (SELECT FROM news WHERE due_at <= now() AND {_STRONG}
     AND (leased_until IS NULL OR leased_until < now()) AND braked_at IS NULL LIMIT :most) AS strong),
  weak.count, coalesce(extract(epoch FROM now() - weak.oldest), 0)::float8
FROM (SELECT count(*), min(due_at) AS oldest FROM (SELECT due_at FROM news WHERE due_at <= now() AND NOT {_STRONG}
     AND (leased_until IS NULL OR leased_until < now()) AND braked_at IS NULL ORDER BY due_at LIMIT :most) AS due) AS weak
""")  # noqa: S608 (a constant)


def backlog(connection: Connection, *, most: int) -> Backlog:
    """Count the marks that could be read now, each count up to `most`."""
    return Backlog(*connection.execute(_BACKLOG, {"most": most}).one())


@dataclass(frozen=True, slots=True)
class Held:
    """A row and its mark, both locked."""

    row: Row
    mark: Mark | None
    has_snapshot: bool
    deletion_announced: bool


_LOCK_USERS = text("""
SELECT user_id, version, profile, deleted_at IS NOT NULL, deletion_seen_at, synced_at
FROM users WHERE user_id = ANY(:ids) ORDER BY user_id FOR UPDATE
""")
_LOCK_NEWS = text("""
SELECT user_id, number, last_at, newest, strong, deletion_seen_at, deletion_announced
FROM news WHERE user_id = ANY(:ids) ORDER BY user_id FOR UPDATE
""")


def lock(connection: Connection, ids: Sequence[str]) -> dict[str, Held]:
    """Lock these users' rows and marks until the transaction ends."""
    rows = connection.execute(_LOCK_USERS, {"ids": list(ids)}).all()
    out = forgotten.among(connection, [row.user_id for row in rows])
    marks = {
        user_id: (Mark(number, last_at, newest, strong, deletion_seen_at), announced)
        for user_id, number, last_at, newest, strong, deletion_seen_at, announced in connection.execute(
            _LOCK_NEWS, {"ids": list(ids)}
        )
    }
    held = {}
    for user_id, version, profile, deleted, deletion_seen_at, synced_at in rows:
        found, announced = marks.get(user_id, (None, False))
        held[user_id] = Held(
            Row(user_id, version, profile, deleted, deletion_seen_at, out.get(user_id), synced_at),
            found,
            profile is not None and not deleted,
            announced,
        )
    return held


def create_and_lock(connection: Connection, ids: Sequence[str]) -> dict[str, Held]:
    """Lock these users' rows and marks, making a bare row for an id that has none; `ids` in ascending order of bytes."""
    if ids:
        connection.exec_driver_sql(_CREATE, {"ids": list(ids)})
    return lock(connection, ids)


TEXTS = ("email", "username", "phone_number", "name", "given_name", "family_name", "nickname", "picture", "last_ip")
BOOLEANS = ("email_verified", "phone_verified", "blocked")
TIMES = ("created_at", "updated_at", "last_login")
STRUCTURES = ("identities", "user_metadata", "app_metadata", "multifactor")
COLUMNS = (*TEXTS, *BOOLEANS, *TIMES, "logins_count", *STRUCTURES, "profile")
TYPES = (
    dict.fromkeys(TEXTS, "text")
    | dict.fromkeys(BOOLEANS, "boolean")
    | dict.fromkeys(TIMES, "timestamptz")
    | {"logins_count": "bigint"}
    | dict.fromkeys((*STRUCTURES, "profile"), "jsonb")
)

# Whatever was learned beside the profile goes with it: the mark may be cleared in the same transaction.
_FOLD = """
  login_seen_at = greatest(users.login_seen_at, (SELECT n.login_seen_at FROM news n WHERE n.user_id = users.user_id)),
  deletion_seen_at = greatest(users.deletion_seen_at, (SELECT n.deletion_seen_at FROM news n WHERE n.user_id = users.user_id))
"""

_WRITE_SNAPSHOTS = text(f"""
UPDATE users SET
  {", ".join(f"{name} = said.{name}" for name in COLUMNS)},
  version = users.version + 1, synced_at = now(), deleted_at = NULL, deletion_announced = NULL, former_ids = NULL, {_FOLD}
FROM jsonb_to_recordset(CAST(:snapshots AS jsonb)) AS said (
  user_id text, version bigint, {", ".join(f"{name} {TYPES[name]}" for name in COLUMNS)})
WHERE users.user_id = said.user_id AND users.version = said.version
""")  # noqa: S608 (only column names of ours are put in)

_WRITE_TOMBSTONES = text(f"""
UPDATE users SET
  {", ".join(f"{name} = NULL" for name in COLUMNS)},
  version = users.version + 1, synced_at = now(), deleted_at = now(), deletion_announced = gone.announced,
  former_ids = coalesce(users.linked_ids, users.former_ids), {_FOLD}
FROM unnest(CAST(:ids AS text[]), CAST(:versions AS bigint[]), CAST(:announced AS boolean[])) AS gone (user_id, version, announced)
WHERE users.user_id = gone.user_id AND users.version = gone.version
""")  # noqa: S608 (only column names of ours are put in)

_CONFIRM = text(f"""
UPDATE users SET version = users.version + :step, synced_at = now(), {_FOLD} WHERE user_id = ANY(:ids)
""")  # noqa: S608 (a constant)


def write_snapshots(connection: Connection, snapshots: Iterable[tuple[Row, Profile]]) -> None:
    """Replace whole profiles in one statement, each only while its row's version is what it was (P2, P9)."""
    rows = [{"user_id": row.user_id, "version": row.version, **snapshot_columns(said)} for row, said in snapshots]
    if rows:
        connection.execute(_WRITE_SNAPSHOTS, {"snapshots": msgspec.json.encode(rows).decode()})


_INSERT = text(f"""
INSERT INTO users (user_id, {", ".join(COLUMNS)}, version, synced_at)
SELECT user_id, {", ".join(COLUMNS)}, 1, now()
FROM jsonb_to_recordset(CAST(:snapshots AS jsonb)) AS said (user_id text, {", ".join(f"{name} {TYPES[name]}" for name in COLUMNS)})
ON CONFLICT (user_id) DO NOTHING
RETURNING user_id
""")  # noqa: S608 (only column names of ours are put in)


def insert_new(connection: Connection, snapshots: Mapping[str, Profile]) -> set[str]:
    """Insert whole profiles of ids that have no row yet; return which those were. The others are left as they are."""
    ordered = sorted(snapshots, key=str.encode)
    rows = [{"user_id": user_id, **snapshot_columns(snapshots[user_id])} for user_id in ordered]
    return set(connection.execute(_INSERT, {"snapshots": msgspec.json.encode(rows).decode()}).scalars())


_MARK_KNOWN = text("""
INSERT INTO news AS held (user_id, strong, deletion_announced)
SELECT user_id, true, true FROM users WHERE user_id = ANY(:ids) ORDER BY user_id
ON CONFLICT (user_id) DO UPDATE SET
  number = nextval('news_number'), last_at = now(), strong = true, deletion_announced = true, braked_at = NULL,
  due_at = least(held.due_at, now())
""")


def mark_known(connection: Connection, ids: Iterable[str]) -> int:
    """Mark those of `ids` that have a row, whose absence would be no surprise; return how many."""
    wanted = sorted(ids, key=str.encode)
    return connection.execute(_MARK_KNOWN, {"ids": wanted}).rowcount if wanted else 0


def write_tombstones(connection: Connection, gone: Sequence[tuple[Row, bool]]) -> None:
    """Make tombstones, which keep ids and times and nothing else; `bool`: whether a record announced it (P12, P19)."""
    if gone:
        connection.execute(
            _WRITE_TOMBSTONES,
            {
                "ids": [row.user_id for row, _ in gone],
                "versions": [row.version for row, _ in gone],
                "announced": [announced for _, announced in gone],
            },
        )


_ERASE = (
    text("DELETE FROM pushes WHERE user_id = ANY(:ids)"),
    text("DELETE FROM news WHERE user_id = ANY(:ids)"),
    text("DELETE FROM users WHERE user_id = ANY(:ids)"),
)


def erase(connection: Connection, ids: Sequence[str]) -> None:
    """Delete the bare rows of people who were forgotten, and their marks (P14); the caller has locked them."""
    if ids:
        for statement in _ERASE:
            connection.execute(statement, {"ids": list(ids)})


def confirm(connection: Connection, ids: Sequence[str], *, answered: bool) -> None:
    """Note that the tenant said what we had; the version moves only for a strong answer (P4)."""
    if ids:
        connection.execute(_CONFIRM, {"ids": list(ids), "step": int(answered)})


_CLEAR = text("""
DELETE FROM news USING unnest(CAST(:ids AS text[]), CAST(:numbers AS bigint[])) AS served (user_id, number)
WHERE news.user_id = served.user_id AND news.number = served.number
""")


def clear(connection: Connection, served: Mapping[str, int]) -> None:
    """Clear the marks that have served, each only while its number is what it was (P5)."""
    if served:
        connection.execute(_CLEAR, {"ids": list(served), "numbers": list(served.values())})


_RELEASE = text("""
UPDATE news SET leased_until = NULL, attempts = coalesce(CAST(:attempts AS smallint), attempts),
  due_at = CASE WHEN CAST(:settle AS interval) IS NOT NULL AND NOT strong THEN greatest(due_at, last_at + CAST(:settle AS interval))
                WHEN CAST(:delay AS interval) IS NOT NULL THEN now() + CAST(:delay AS interval) ELSE due_at END
WHERE user_id IN (SELECT user_id FROM news WHERE user_id = ANY(:ids) ORDER BY user_id FOR UPDATE)
""")


def release(
    connection: Connection,
    ids: Sequence[str],
    *,
    delay: timedelta | None = None,
    settle: timedelta | None = None,
    attempts: int | None = None,
) -> None:
    """End a lease that did not clear its mark: due after `delay`, or once weak news has settled for `settle`, else when it was.

    `attempts`, where given, is how often reading these users has failed in a row.
    """
    if ids:
        connection.execute(_RELEASE, {"ids": list(ids), "delay": delay, "settle": settle, "attempts": attempts})


_BRAKE = text("""
SELECT count(*) FILTER (WHERE deleted_at IS NULL AND synced_at IS NOT NULL),
       count(*) FILTER (WHERE deleted_at > now() - interval '1 day' AND NOT deletion_announced)
FROM users
""")
_BRAKE_LOCK = 0x6272616B  # "brak"


def deletions_left(connection: Connection, *, share: float, least: int) -> int:
    """Return how many unannounced deletions a day still allows (P19), holding other refreshers off until the transaction ends."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _BRAKE_LOCK})
    live, unannounced = connection.execute(_BRAKE).one()
    return max(least, int((live + unannounced) * share)) - int(unannounced)


_SET_ASIDE = text("""
INSERT INTO news (user_id, strong, braked_at) SELECT user_id, true, now() FROM unnest(CAST(:ids AS text[])) AS held (user_id)
ORDER BY user_id COLLATE "C"
ON CONFLICT (user_id) DO UPDATE SET strong = true, braked_at = now(), leased_until = NULL
""")


def brake(connection: Connection, ids: Sequence[str]) -> None:
    """Set these users aside until a human answers (P19), also where a search has cleared the mark meanwhile.

    Nothing but a strong read ends that: a late event or search of one who is gone would hide that there is a question.
    """
    connection.execute(_SET_ASIDE, {"ids": list(ids)})


_RECHECK = text("""
INSERT INTO news (user_id, strong)
SELECT user_id, true FROM (
  SELECT user_id FROM users WHERE deleted_at > now() - interval '1 day' AND NOT deletion_announced
  UNION SELECT user_id FROM news WHERE braked_at IS NOT NULL
) AS doubted ORDER BY user_id
ON CONFLICT (user_id) DO UPDATE SET
  number = nextval('news_number'), last_at = now(), strong = true, due_at = now(), braked_at = NULL
""")

_ALLOW = text("""
UPDATE news SET braked_at = NULL, deletion_announced = true, strong = true, due_at = now()
WHERE user_id IN (
  SELECT user_id FROM news
  WHERE user_id IN (SELECT user_id FROM news WHERE braked_at IS NOT NULL ORDER BY braked_at LIMIT :number)
  ORDER BY user_id FOR UPDATE)
""")


def recheck_deletions(connection: Connection) -> int:
    """Ask the tenant again about every braked user and every unannounced tombstone of the last day; return how many."""
    return connection.execute(_RECHECK).rowcount


def allow_deletions(connection: Connection, number: int) -> int:
    """Let the deletion of up to `number` braked users pass, as if a record had announced it; return how many there were."""
    return connection.execute(_ALLOW, {"number": number}).rowcount


def snapshot_columns(profile: Profile) -> dict[str, Any]:
    """Spread a profile over the columns. What is absent is null; what a column cannot hold stays in `profile` alone."""
    kept = as_jsonb(profile)
    columns: dict[str, Any] = {name: value if isinstance(value := kept.get(name), str) else None for name in TEXTS}
    columns |= {name: _boolean(kept.get(name)) for name in BOOLEANS}
    columns |= {name: time.isoformat() if (time := profile_time(kept.get(name))) else None for name in TIMES}
    count = kept.get("logins_count")
    columns["logins_count"] = (
        count if isinstance(count, int) and not isinstance(count, bool) and abs(count) < 2**63 else None
    )
    columns |= {name: kept.get(name) for name in STRUCTURES}
    columns["profile"] = kept
    return columns


def _boolean(value: object) -> bool | None:
    """Read a boolean; identity providers' mappings make some of them text."""
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower())
    return value if isinstance(value, bool) else None


def as_jsonb(value: Any) -> Any:
    """Return JSON that PostgreSQL can hold: NUL characters become U+FFFD, lone surrogates question marks."""
    if isinstance(value, str):
        if "\x00" not in value and value.isprintable():
            return value
        return value.replace("\x00", "�").encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {as_jsonb(key): as_jsonb(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_jsonb(item) for item in value]
    return value


def braked(connection: Connection) -> int:
    """Return how many users wait for a human's answer (P19)."""
    return int(connection.execute(text("SELECT count(*) FROM news WHERE braked_at IS NOT NULL")).scalar_one())
