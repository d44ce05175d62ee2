"""What a push needs to know of people: their metadata as the copy has it, what is counted of them, what they wish."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, text

from worker.domain.pushes import Attribute, Wish
from worker.domain.roles import Facts
from worker.domain.users import Read

# One column for each field of Facts, by its name; `playlists` are the person's, those of linked identities included (P13).
_FACTS = """
SELECT coalesce(sum(playlists.plays), 0)::bigint AS plays
"""


@dataclass(frozen=True, slots=True)
class Person:
    """One user as a push sees it. `metadata` is the part of the profile that is compared; `read` begins now (P9)."""

    user_id: str
    alive: bool  # a live row that holds a snapshot
    braked: bool  # Auth0 says that there is no such user, and a human must say whether that is believed (P19)
    read: Read
    metadata: Mapping[str, Any]
    updated_at: str | None
    logs_in: bool  # seen logging in, in this life of the id
    facts: Facts
    wishes: Mapping[Attribute, Wish]
    pushed_in_an_hour: int
    pushed_in_a_day: int
    since_pushed: timedelta


_PEOPLE = text(f"""
SELECT u.user_id, u.deleted_at IS NULL AND u.profile IS NOT NULL, n.braked_at IS NOT NULL, now(), u.version, coalesce(n.number, 0),
       u.user_metadata, u.app_metadata, u.profile ->> 'updated_at',
       coalesce(greatest(u.login_seen_at, n.login_seen_at) >=
         coalesce(u.created_at - coalesce((SELECT log_date_skew FROM tenant), '5 s'), '-infinity'), false),
       to_jsonb(facts), wished.wishes, pushed.hour, pushed.day, coalesce(now() - pushed.latest, interval '1 day')
FROM users u
LEFT JOIN news n USING (user_id)
CROSS JOIN LATERAL ({_FACTS}
  FROM playlists WHERE playlists.user_id = ANY(
    ARRAY[u.user_id] || ARRAY(SELECT aliases.alias_id FROM aliases WHERE aliases.user_id = u.user_id))
) AS facts
CROSS JOIN LATERAL (
  SELECT coalesce(jsonb_object_agg(attribute, jsonb_build_array(value, number)), '{{}}') AS wishes
  FROM wishes WHERE wishes.user_id = u.user_id
) AS wished
CROSS JOIN LATERAL (
  SELECT count(*) FILTER (WHERE pushed_at > now() - interval '1 hour') AS hour,
         count(*) FILTER (WHERE applied IS NOT NULL) AS day, max(pushed_at) AS latest
  FROM pushed WHERE pushed.user_id = u.user_id AND pushed_at > now() - interval '1 day'
) AS pushed
WHERE u.user_id = ANY(:ids)
""")  # noqa: S608 (a constant)


def people(connection: Connection, ids: Sequence[str]) -> dict[str, Person]:
    """Look at these users; whoever has no row is left out."""
    return {
        user_id: Person(
            user_id,
            alive,
            braked,
            Read(now, version, number),
            {"user_metadata": user_metadata, "app_metadata": app_metadata},
            updated_at,
            logs_in,
            Facts(**facts),
            {attribute: Wish(*wish) for attribute, wish in wishes.items()},
            hour,
            day,
            since,
        )
        for (
            user_id,
            alive,
            braked,
            now,
            version,
            number,
            user_metadata,
            app_metadata,
            updated_at,
            logs_in,
            facts,
            wishes,
            hour,
            day,
            since,
        ) in connection.execute(_PEOPLE, {"ids": list(ids)})
    }


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of the users in the order of ids: where it ends (None: at the last of them), and who of it might need a push."""

    end: str | None
    suspects: list[str]


# Read by key, so that a slice costs the same wherever it is. Who has a mark is known already; one that waits for a change
# (parked, braked) is looked at again, in case nobody told of the change.
_SUSPECTS = text("""
SELECT max(u.user_id), count(*), array_agg(u.user_id ORDER BY u.user_id) FILTER (WHERE
  u.deleted_at IS NULL AND u.profile IS NOT NULL AND CASE
    WHEN p.user_id IS NOT NULL THEN p.due_at = 'infinity' AND p.leased_until IS NULL
    ELSE u.roles && CAST(:roles AS text[])
      OR (CAST(:names AS boolean) AND u.display_name IS NULL AND u.login_seen_at IS NOT NULL)
      OR EXISTS (SELECT FROM wishes WHERE wishes.user_id = u.user_id)
      OR EXISTS (SELECT FROM playlists WHERE playlists.user_id = ANY(ARRAY[u.user_id] || coalesce(u.linked_ids, '{}')))
    END)
FROM (SELECT user_id, deleted_at, profile, roles, linked_ids, display_name, login_seen_at
      FROM users WHERE user_id > :after ORDER BY user_id LIMIT :rows) AS u
LEFT JOIN pushes p USING (user_id)
""")


def stretch(connection: Connection, after: str, *, rows: int, roles: Sequence[str], names: bool) -> Stretch:
    """Look at the `rows` users after an id. `roles` are ours to take away; `names`: who has none might need one."""
    asked = {"after": after, "rows": rows, "roles": list(roles), "names": names}
    end, seen, suspects = connection.execute(_SUSPECTS, asked).one()
    return Stretch(end if seen == rows else None, suspects or [])


_MOVE = text("""
INSERT INTO sweep (position) VALUES (:position)
ON CONFLICT (singleton) DO UPDATE SET position = excluded.position, began_at = CASE WHEN :begins THEN now() ELSE sweep.began_at END
""")


def position(connection: Connection) -> str:
    """Return the id that the sweep has come to, "" for its beginning."""
    return connection.execute(text("SELECT position FROM sweep")).scalar() or ""


def move(connection: Connection, position: str | None) -> None:
    """Note what the sweep has come to; None: the end, so that a new round begins."""
    connection.execute(_MOVE, {"position": position or "", "begins": position is None})


_PRIMARY = text("""
SELECT user_id FROM (
  SELECT user_id, 1 AS rank FROM users WHERE user_id = :id AND deleted_at IS NULL AND synced_at IS NOT NULL
  UNION ALL SELECT user_id, 2 FROM users WHERE linked_ids @> ARRAY[CAST(:id AS text)] AND deleted_at IS NULL
  UNION ALL SELECT user_id, 3 FROM users WHERE user_id = :id AND deleted_at IS NULL
) AS found ORDER BY rank, user_id LIMIT 1
""")


def primary(connection: Connection, user_id: str) -> str | None:
    """Return whom an id stands for (P13): itself, the primary it is linked to, None for nobody who lives."""
    found: str | None = connection.execute(_PRIMARY, {"id": user_id}).scalar()
    return found
