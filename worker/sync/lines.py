"""Lines of users, sorted by what PostgreSQL makes of them: those it takes as they are, the odd ones, and what is no user."""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from worker.domain.nesting import too_deep
from worker.domain.news import Unreadable, user_id as checked_id
from worker.domain.users import Profile
from worker.store import comparisons, plain
from worker.store.session import without_waiting
from worker.sync.answers import refuses_a_value

_PROFILE = msgspec.json.Decoder(dict[str, Any])


@dataclass(slots=True)
class Told:
    """What some lines told: `plain` as JSON text by id, `odd` decoded by id, `bad` as (reason, line)."""

    plain: dict[str, str] = field(default_factory=dict)
    odd: dict[str, Profile] = field(default_factory=dict)
    bad: list[tuple[str, bytes]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.plain) + len(self.odd)

    def leave_out(self, ids: Iterable[str]) -> None:
        """Leave these of them out."""
        for user_id in ids:
            self.plain.pop(user_id, None)
            self.odd.pop(user_id, None)

    def ids(self) -> Collection[str]:
        """Return everybody's id."""
        return (*self.plain, *self.odd)

    def profiles(self, ids: Iterable[str]) -> dict[str, Profile]:
        """Return the profiles of these of them, and of everybody odd; who has a number that nobody can read becomes bad."""
        found: dict[str, Profile] = {}
        for user_id in ids:
            if (line := self.plain.get(user_id)) is not None:
                try:
                    found[user_id] = _PROFILE.decode(line)
                except msgspec.DecodeError:
                    self.refuse(user_id, "a number in it is out of range")
        return found | self.odd

    def refuse(self, user_id: str, why: str) -> None:
        """Count one of them as bad."""
        line = self.plain[user_id] if user_id in self.plain else json.dumps(self.odd[user_id])
        self.bad.append((why, line.encode()))
        self.leave_out([user_id])


def without_alike(
    engine: Engine, run_id: int, lines: Sequence[bytes], covers: frozenset[str] | None
) -> Sequence[bytes]:
    """Note for a run whose lines say what we hold of them, and return the others' lines, which are to be read.

    Most lines need not be looked at here at all: PostgreSQL tells them apart. `covers`: see `plain.unlike`.
    """
    try:
        with engine.begin() as connection:
            without_waiting(connection)
            others = comparisons.note_alike(connection, run_id, lines, covers)
    except (DBAPIError, UnicodeError) as error:
        if not refuses_a_value(error):
            raise
        return lines  # one of them is odd, and only a look at each tells which
    return [lines[place] for place in others]


def read(lines: Iterable[bytes]) -> Told:
    """Sort lines; of one user's two, the later counts."""
    told = Told()
    for line in lines:
        if not _take_plain(told, line):
            _take_odd(told, line)
    return told


def _take_plain(told: Told, line: bytes) -> bool:
    found = plain.fitting(line)
    if found is None:
        return False
    user_id, text = found
    try:
        if checked_id(user_id) is None:
            return False
    except Unreadable:
        return False
    told.plain[user_id] = text
    told.odd.pop(user_id, None)
    return True


def _take_odd(told: Told, line: bytes) -> None:
    if too_deep(line):
        told.bad.append(("nested too deeply", line))
        return
    try:
        said = _PROFILE.decode(line)
        subject = checked_id(said.get("user_id"))
    except Unreadable as error:
        told.bad.append((str(error), line))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        told.bad.append(("a line of the export is no JSON object", line))
    else:
        if subject is None:
            told.bad.append(("a line of the export without a user's id", line))
            return
        told.plain.pop(subject, None)
        told.odd[subject] = said
