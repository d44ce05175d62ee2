"""What a forget may take away, must not leave, and must not let come back (P14): watched from outside, step by step.

Nothing of the product's own decides what is right here but how it looks for an id in bytes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Engine, text

from tests.worker.sync.answering import People
from tests.worker.sync.processes import Process, sleep
from worker.domain.mentions import Mentions
from worker.domain.users import secondary_ids
from worker.store import inbox
from worker.store.tables import metadata
from worker.sync.cutting import content_of
from worker.sync.forget import Forget, StillThere


@dataclass
class Row:
    """One user as the copy has it. `seen`: the newest login known, `severed`: the newest deletion, link or unlink heard of.

    `marked`: somebody will look.
    """

    user_id: str
    profile: dict[str, Any] | None
    deleted: bool
    version: int
    seen: Any
    severed: Any
    marked: bool

    @property
    def lives(self) -> bool:
        return self.profile is not None and not self.deleted

    @property
    def bare(self) -> bool:
        return self.profile is None and not self.deleted


Rows = Mapping[str, Row]


class Erasing(Process):
    """A forget under way. `whole`: the person, as the copy knew them when they were remembered, `since` when; `ended` is how."""

    def __init__(
        self, engine: Engine, read: Callable[[str], Any], sources: Any, user_id: str, *, keep_out: bool
    ) -> None:
        self.user_id, self.keep_out = user_id, keep_out
        self.whole = {user_id}
        self.since: datetime | None = None
        self.ended: Literal["erased", "refused"] | None = None
        self._loop = Forget(engine, read, sources, b"key", sleep=sleep)
        super().__init__("forget", self._forget)

    def _forget(self) -> None:
        try:
            self._loop.run(self.user_id, keep_out=self.keep_out)
        except StillThere:
            self.ended = "refused"
        else:
            self.ended = "erased"


@dataclass
class Erasures:
    """Who is forgotten, by the hashes that stand, and what follows from it."""

    observer: Engine
    people: People
    everybody: tuple[str, ...]
    begun: bool = False
    """Whether anybody was ever forgotten: until then nothing is looked for."""
    hashed: dict[str, bool] = field(default_factory=dict)
    """By id: whether its person is kept out."""
    erased: set[str] = field(default_factory=set)
    """Of whom nothing was left, and whose hash stands since."""
    gone_at: dict[str, int] = field(default_factory=dict)
    """By id: how many records there were when its row last went."""
    unfinished: dict[str, bool] = field(default_factory=dict)
    """Whose forget was begun and has not ended yet, and whether they are to be kept out: it has to be run again."""
    _since: dict[str, int] = field(default_factory=dict)
    """By id: how often the tenant had changed when its hash came."""

    def out(self, user_id: str) -> bool:
        """Return whether nothing about somebody is compared: they are to stay out, whatever the tenant says."""
        return self.hashed.get(user_id, False)

    def after(self, process: Process | None, old: Rows, new: Rows) -> set[str]:
        """Look at what a step has done to rows and hashes; return whose rows it may have erased."""
        stands = self._hashes() if self.begun else {}
        hashed = {one: keep_out for one, (keep_out, _) in stands.items()}
        appeared, lifted = hashed.keys() - self.hashed.keys(), self.hashed.keys() - hashed.keys()
        eraser = process if isinstance(process, Erasing) else None
        theirs = self._ever_linked({eraser.user_id}) if eraser else set()
        assert appeared <= theirs, f"forgotten, though nobody asked for it: {appeared}"
        for one in appeared:
            self._since[one] = len(self.people.states) - 1
        if eraser and appeared:
            eraser.whole |= appeared | _whole(eraser.user_id, old)
        if eraser and eraser.since is None and eraser.user_id in hashed:
            eraser.since = stands[eraser.user_id][1]
        self._rows_are_right(process, old, new, hashed, theirs)
        self._hashes_are_lifted_rightly(lifted, theirs)
        self.hashed, self.erased = hashed, self.erased - lifted
        if eraser and eraser.ended:
            self._ended(eraser, new)
        for one in self.erased:
            assert not self.hashed[one] or one not in new, f"{one}: kept out, and back (P14)"
        return theirs

    def _hashes(self) -> dict[str, tuple[bool, datetime]]:
        with self.observer.connect() as connection:
            found = connection.execute(_HASHED, {"ids": list(self.everybody)})
            return {user_id: (keep_out, since) for user_id, keep_out, since in found}

    def _ever_linked(self, ids: set[str]) -> set[str]:
        """Return these ids and whoever was ever one person with them."""
        for _ in ids:
            for _, users in self.people.states:
                for user in users.values():
                    one = {user["user_id"], *secondary_ids(user)}
                    ids = ids | one if ids & one else ids
        return ids

    def _rows_are_right(
        self, process: Process | None, old: Rows, new: Rows, hashed: Mapping[str, bool], theirs: set[str]
    ) -> None:
        for user_id in old.keys() | new.keys():
            was, row = old.get(user_id), new.get(user_id)
            if was and (row is None or (row.bare and not was.bare)):
                self.gone_at[user_id] = len(self.people.records)
                if user_id not in theirs:
                    said = process.answered.get(user_id) if process else None
                    assert user_id in self.hashed, f"{user_id}: gone, though nobody forgot them"
                    assert was.bare, f"{user_id}: erased by somebody who does not forget them"
                    assert said is False or self.hashed[user_id], f"{user_id}: erased without a strong 404 (P14)"
            if row and not row.bare and user_id in self.hashed and (was is None or was.bare):
                assert user_id not in hashed, f"{user_id}: forgotten, and something is known of them: {row} (P14)"

    def _hashes_are_lifted_rightly(self, lifted: set[str], theirs: set[str]) -> None:
        for user_id in lifted:
            assert not self.hashed[user_id], f"{user_id}: kept out means never (P14)"
            whose = theirs or {user_id}
            since = self.people.states[self._since[user_id] :]
            assert any(whose & users.keys() for _, users in since), (
                f"{user_id}: known again, though they were gone (P14)"
            )

    def _ended(self, eraser: Erasing, new: Rows) -> None:
        self.unfinished.pop(eraser.user_id, None)
        if eraser.ended == "erased":
            for one in eraser.whole - self.hashed.keys():
                alone = one in new and new[one].lives and eraser.user_id not in secondary_ids(new[one].profile)
                assert alone, f"{eraser.user_id} was forgotten, and {one}, who is the same person, was not (P14)"
            ids = eraser.whole & self.hashed.keys()
            left = self.left(ids, until=eraser.since)
            assert left == [], f"{eraser.user_id} was forgotten, and there is still {left} (P14)"
            self.erased |= ids
        eraser.ended = None

    def left(self, ids: set[str], *, until: datetime | None = None) -> list[str]:
        """Return what in the database speaks of these people, but the profiles of others.

        `until`: what has come since, and waits to be drained, does not count.
        """
        person = Mentions(ids)
        found = []
        with self.observer.connect() as connection:
            for table in metadata.tables:
                others = "WHERE NOT (deleted_at IS NULL AND synced_at IS NOT NULL AND NOT user_id = ANY(:ids))"
                rows = text(f'SELECT to_json(t)::text FROM "{table}" t {others if table == "users" else ""}')  # noqa: S608
                rows = rows.bindparams(ids=list(ids)) if table == "users" else rows
                said = connection.execute(rows).scalars()
                found += [f"{table}: {row}" for row in said if person.are_in(row.encode())]
            came_late = set(connection.execute(_CAME_LATE, {"until": until}).scalars())
            for body in inbox.bodies(connection, 0, rows=100_000):
                if body.id not in came_late and person.are_in(content := content_of(body)[0]):
                    found.append(f"{body.source} {body.id} {body.state}: {content!r}")
            for (record,) in connection.execute(text("SELECT record FROM parked")):
                found += [f"parked: {record!r}"] if person.are_in(bytes(record)) else []
        return found


def _whole(user_id: str, rows: Rows) -> set[str]:
    """Return the ids of the person whom an id stands for, by the profiles of who lives."""
    for row in rows.values():
        linked = {one for one in secondary_ids(row.profile) if one not in rows or not rows[one].lives}
        if row.lives and user_id in {row.user_id, *linked}:
            return {row.user_id, *linked}
    return {user_id}


_HASHED = text("""
SELECT person.id, forgotten.keep_out, forgotten.forgotten_at FROM unnest(CAST(:ids AS text[])) AS person (id)
JOIN forgotten ON forgotten.user_hash = user_hash(person.id)
""")
_CAME_LATE = text("SELECT id FROM inbox WHERE state = 'pending' AND received_at > CAST(:until AS timestamptz)")
