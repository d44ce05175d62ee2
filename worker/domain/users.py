"""What an answer from the tenant does to a row of the copy: docs/protocol.md's P2, P4, P6, P7, P9, P10 and P12 as pure functions.

Nothing here reads a clock or a database. `on_strong` and `on_search` look at a row, its mark and an answer, and return a
`Verdict`; `worker.sync.refresh` carries it out while it holds both rows locked.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import MAXYEAR, MINYEAR, datetime, timedelta
from enum import Enum
from typing import Any

from worker.domain.news import Unreadable, as_key

Profile = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Forgotten:
    """That an id was forgotten (P14): since when (ours), and whether its person stays out though the tenant has them."""

    since: datetime
    keep_out: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """What the copy knows of one user id. `profile` is None for a bare row (no snapshot yet) and for a tombstone."""

    user_id: str
    version: int
    profile: Profile | None = None
    deleted: bool = False
    deletion_seen_at: datetime | None = None  # Auth0's clock: the newest deletion, link or unlink record
    forgotten: Forgotten | None = None
    synced_at: datetime | None = None  # ours: when the tenant last confirmed it

    @property
    def bare(self) -> bool:
        """Whether nothing but the id is known: all there ever is of somebody forgotten."""
        return self.profile is None and not self.deleted


@dataclass(frozen=True, slots=True)
class Mark:
    """What is known of the news about one user (P5)."""

    number: int
    last_at: datetime  # ours: when the last of it arrived
    newest: datetime | None = None  # Auth0's: its newest date
    strong: bool = False
    deletion_seen_at: datetime | None = None  # Auth0's


@dataclass(frozen=True, slots=True)
class Read:
    """What was true when a read of one user began."""

    began_at: datetime  # ours
    version: int
    number: int


class Write(Enum):
    """What becomes of the row."""

    NOTHING = "nothing"
    CONFIRM = "confirm"  # the tenant said what we had: only the version moves (P4)
    SNAPSHOT = "snapshot"
    TOMBSTONE = "tombstone"
    ERASE = "erase"  # the bare row of somebody forgotten goes, its mark with it (P14)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do after an answer.

    `clear`: the mark has served. `ask`: this user needs a strong read. `ask_others`: so do these ids (P7), whose
    absence would be no surprise where they are in `expected_gone`. `lift`: somebody forgotten is back (P14).
    """

    write: Write = Write.NOTHING
    clear: bool = False
    ask: bool = False
    ask_others: frozenset[str] = frozenset()
    expected_gone: frozenset[str] = frozenset()
    lift: bool = False


@dataclass(frozen=True, slots=True)
class Tolerances:
    """How far Auth0's clocks and its search index may be off."""

    log_date_skew: timedelta
    search_settle: timedelta


def on_strong(row: Row, mark: Mark | None, read: Read, answer: Profile | None) -> Verdict:
    """Decide on a strong answer, a profile or None for Auth0's own 404 (P9).

    It is applied whatever its times say if the row is as it was when the read began; otherwise nothing is written.
    Somebody forgotten is left to their own rule (P14).
    """
    if row.forgotten is not None:
        return _on_forgotten(row, row.forgotten, mark, read, answer)
    return _on_strong(row, mark, read, answer)


def _on_forgotten(row: Row, forgotten: Forgotten, mark: Mark | None, read: Read, answer: Profile | None) -> Verdict:
    """Decide on a strong answer about somebody forgotten (P14): nothing is written unless it lifts that.

    What is not a bare row is about to be erased by whoever forgets them, who needs it for that.
    """
    if forgotten.keep_out:
        return _on_kept_out(row, mark, read)
    if answer is None:
        if not row.bare:
            return _on_strong(row, mark, read, answer)
        return Verdict(Write.ERASE) if _unmoved(row, mark, read) else Verdict()
    if read.began_at <= forgotten.since:
        return Verdict(ask=True)
    verdict = _on_strong(row, mark, read, answer)
    return replace(verdict, lift=verdict.write is not Write.NOTHING)


def _on_kept_out(row: Row, mark: Mark | None, read: Read) -> Verdict:
    """Decide on whatever the tenant says of somebody who stays out: their row goes; nobody is to ask again."""
    return Verdict(Write.ERASE) if row.bare else Verdict(clear=_unmoved(row, mark, read))


def _unmoved(row: Row, mark: Mark | None, read: Read) -> bool:
    return row.version == read.version and (mark is None or mark.number == read.number)


def _on_strong(row: Row, mark: Mark | None, read: Read, answer: Profile | None) -> Verdict:
    gained, lost = _identity_change(row, answer)
    others = gained | lost
    served = mark is not None and mark.number == read.number
    if row.version != read.version:
        if answer is not None and not row.deleted and same_content(row.profile, answer):
            return Verdict(clear=served, ask_others=others, expected_gone=gained)
        late = answer is not None and _older(answer, row.profile)
        return Verdict(ask=not late, ask_others=others, expected_gone=gained)
    if answer is None:
        write = Write.CONFIRM if row.deleted else Write.TOMBSTONE
        # Auth0 deletes the secondaries with their primary.
        return Verdict(write, clear=served, ask_others=others, expected_gone=others)
    unchanged = not row.deleted and same_content(row.profile, answer)
    return Verdict(
        Write.CONFIRM if unchanged else Write.SNAPSHOT, clear=served, ask_others=others, expected_gone=gained
    )


def on_search(row: Row, mark: Mark | None, read: Read, hit: Profile | None, tolerances: Tolerances) -> Verdict:
    """Decide on a search's answer, None for someone the search did not find (P10, P12).

    The index lags: a hit may improve the row, and clears the mark only once the news has settled.
    """
    settled = mark is not None and read.began_at >= mark.last_at + tolerances.search_settle
    if row.forgotten is not None and (hit is not None or row.forgotten.keep_out):  # else a strong read decides (P14)
        return _on_kept_out(row, mark, read) if row.forgotten.keep_out else Verdict(ask=True)
    if hit is None:
        return Verdict(ask=settled or row.deleted)
    gained, lost = _identity_change(row, hit)
    others, gone = gained | lost, gained
    if row.deleted or _unsettled_deletion(row, mark, hit, tolerances.log_date_skew):
        return Verdict(ask=True, ask_others=others, expected_gone=gone)
    updated_at = profile_time(hit.get("updated_at"))
    known_at = profile_time(row.profile.get("updated_at")) if row.profile else None
    if updated_at is None:
        return Verdict(ask=True, ask_others=others, expected_gone=gone)  # news, not a snapshot (P2)
    newer = row.profile is None or known_at is None or updated_at > known_at
    contradicts = not newer and updated_at == known_at and not same_content(row.profile, hit)
    if row.version != read.version or contradicts:
        return Verdict(ask=newer or contradicts, ask_others=others, expected_gone=gone)
    fresh = newer or updated_at == known_at
    reaches = mark is not None and (mark.newest is None or updated_at >= mark.newest - tolerances.log_date_skew)
    served = mark is not None and mark.number == read.number and not mark.strong
    return Verdict(
        Write.SNAPSHOT if newer else Write.NOTHING,
        clear=served and settled and fresh and reaches,
        ask=settled and not (fresh and reaches),
        ask_others=others,
        expected_gone=gone,
    )


def _unsettled_deletion(row: Row, mark: Mark | None, hit: Profile, skew: timedelta) -> bool:
    """P12: whether the hit is no later than the newest deletion, link or unlink that we heard of, plus the skew."""
    dates = [date for date in (row.deletion_seen_at, mark and mark.deletion_seen_at) if date]
    updated_at = profile_time(hit.get("updated_at"))
    return bool(dates) and (updated_at is None or updated_at <= max(dates) + skew)


def _identity_change(row: Row, answer: Profile | None) -> tuple[frozenset[str], frozenset[str]]:
    """Return the secondary ids that `answer` gains and loses against the row (P7)."""
    held = secondary_ids(row.profile)
    said = secondary_ids(answer)
    return said - held, held - said


def _older(answer: Profile, known: Profile | None) -> bool:
    said_at = profile_time(answer.get("updated_at"))
    known_at = profile_time(known.get("updated_at")) if known else None
    return said_at is not None and known_at is not None and said_at < known_at


def secondary_ids(profile: Profile | None) -> frozenset[str]:
    """Return the user ids of a profile's linked identities; the first identity is the user itself."""
    identities = profile.get("identities") if profile else None
    if not isinstance(identities, list):
        return frozenset()
    ids = (
        f"{identity['provider']}|{identity['user_id']}"
        for identity in identities[1:]
        if isinstance(identity, dict) and identity.get("provider") and identity.get("user_id") is not None
    )
    return frozenset(user_id for user_id in ids if _is_key(user_id))


def _is_key(user_id: str) -> bool:
    """Whether PostgreSQL can hold this as a key; what it cannot was never a user here, and is not asked for."""
    try:
        as_key(user_id)
    except Unreadable:
        return False
    return True


def same_content(known: Profile | None, said: Profile | None) -> bool:
    """Tell whether two snapshots say the same, in canonical form (P2)."""
    return known is not None and said is not None and canonical(known) == canonical(said)


_INSTANTS = ("created_at", "updated_at", "last_login", "last_password_reset")


def canonical(profile: Profile) -> dict[str, Any]:
    """Return a snapshot in the one form in which snapshots are compared (P2).

    Absent and null are the same, `isSocial` is false where absent, integer ids are text, times are instants; the order
    of keys never means anything.
    """
    form = {key: value for key, value in profile.items() if value is not None}
    for name in _INSTANTS:
        if name in form:
            form[name] = profile_time(form[name]) or form[name]
    if isinstance(form.get("identities"), list):
        form["identities"] = [_canonical_identity(identity) for identity in form["identities"]]
    return form


def _canonical_identity(identity: object) -> object:
    if not isinstance(identity, dict):
        return identity
    form = {key: value for key, value in identity.items() if value is not None}
    form["isSocial"] = bool(form.get("isSocial"))
    if "user_id" in form:
        form["user_id"] = str(form["user_id"])
    return form


def profile_time(value: object) -> datetime | None:
    """Read one of Auth0's times ("2025-02-02T17:56:01.573Z"); None for anything else, and at the ends of the calendar.

    There another offset names a moment that PostgreSQL holds and Python cannot read back.
    """
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str):
        return None
    try:
        read = datetime.fromisoformat(value)
    except ValueError:
        return None
    return read if read.tzinfo and MINYEAR < read.year < MAXYEAR else None
