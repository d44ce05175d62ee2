"""The words drain thinks in: a log record as it is read, the news it brings, and what counts as a user's id or a date."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

# PostgreSQL's btree holds keys up to about 2,700 bytes; Auth0's own ids are some 30 bytes, an enterprise one a few hundred.
MAX_ID_BYTES = 1024

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
LATEST = datetime(2100, 1, 1, tzinfo=UTC)


class LogRecord(Protocol):
    """What is read of a record. Auth0 omits, nulls or empties what it does not know: all three mean the same here."""

    @property
    def type(self) -> str:
        """The code, such as "s" or "sapi"."""

    @property
    def date(self) -> object:
        """When it happened, by Auth0's clock; ISO 8601 text in all but odd records."""

    @property
    def user_id(self) -> object:
        """The subject, or for `sapi` the actor; on failures any text."""

    @property
    def description(self) -> object:
        """Free text."""

    @property
    def connection(self) -> object:
        """The connection's name."""

    @property
    def connection_id(self) -> object:
        """The connection's id."""

    @property
    def strategy(self) -> object:
        """The connection's kind, which is also the first part of its users' ids."""

    @property
    def details(self) -> object:
        """The decoded details; raises Unreadable where their bytes cannot be decoded."""


class Unreadable(ValueError):
    """A record that cannot be understood. The text is the reason, shown to the operator: it holds no personal data."""


class News(NamedTuple):
    """A reason to look at one user (P5). A NamedTuple: a frozen dataclass costs three times as much to make."""

    user_id: str
    date: datetime | None  # when it happened by Auth0's clock, in UTC; None where the record does not say
    login: bool = False  # the user was seen logging in at `date`
    strong: bool = False  # only a strong read will do (P7)
    severed: bool = False  # a deletion, link or unlink: snapshots no later than `date` do not win (P12)
    deletion: bool = False  # announces that this id is gone: not counted by the brake (P19)
    creates: bool = True  # an unknown id gets a row; False: only a row that is there is marked

    def __repr__(self) -> str:
        return "<news>"  # the id is personal


class Meaning(NamedTuple):
    """What follows from one record. Fields hold side by side: a record with a broken date marks its user and is parked."""

    news: tuple[News, ...] = ()
    reconcile: str | None = None  # the copy must be compared with the tenant, and why
    connection_gone: str | None = None  # the id of a deleted connection: its users went with it
    unknown: bool = False  # a code the table does not list: counted, never an error
    bad: str | None = None  # to be parked, and why


NOTHING = Meaning()


def changed(user: str, date: datetime | None) -> News:
    """Return the news that a profile has changed."""
    return News(user, date)


def is_plain_change(news: News) -> bool:
    """Tell whether this is the news that a profile has changed, and nothing else."""
    return news == News(news.user_id, news.date)


def severed(user: str, date: datetime | None) -> News:
    """Return the news that a user was linked to another, or freed again."""
    return News(user, date, strong=True, severed=True)


def gone(user: str, date: datetime | None) -> News:
    """Return the news that a user was deleted; as a link does to its secondary (P13)."""
    return News(user, date, strong=True, severed=True, deletion=True)


def news_date(value: object, latest: datetime = LATEST) -> datetime | None:
    """Return the moment `value` names, aware and in UTC; None where it names none between 2000 and `latest`.

    Text in ISO 8601 (without an offset: UTC), seconds or milliseconds since 1970, or an object that wraps one of these ("$date").
    """
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            moment = datetime.fromtimestamp(value / 1000 if value > 1e11 else value, UTC)
        elif isinstance(value, Mapping) and not isinstance(value.get("$date"), Mapping):
            return news_date(value.get("$date"), latest)
        else:
            return None
        if moment.tzinfo is not UTC:
            moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return moment if EARLIEST <= moment <= latest else None


def user_id(value: object) -> str | None:
    """Return `value` if it is a user's id (`strategy|id`), None if it is none; raise Unreadable if PostgreSQL cannot hold it.

    A machine's id (`…@clients`, an agent's) has no strategy, so it never becomes a user.
    """
    if not isinstance(value, str) or "|" not in value or value.endswith("@clients"):
        return None
    return as_key(value)


def as_key(value: str) -> str:
    """Return `value`; raise Unreadable if it cannot be a key in PostgreSQL."""
    try:
        size = len(value) if value.isascii() else len(value.encode())
    except UnicodeEncodeError:
        raise Unreadable("an id holds half a character (a lone surrogate, or bytes that are no UTF-8)") from None
    if size > MAX_ID_BYTES:
        raise Unreadable(f"an id is longer than {MAX_ID_BYTES} bytes")
    if "\0" in value:
        raise Unreadable("an id holds a NUL character")
    return value


def identity_id(provider: object, identity: object) -> str | None:
    """Return the id a user has, had or will have when this identity stands alone. `identity` is text or an integer."""
    if isinstance(identity, int) and not isinstance(identity, bool):
        identity = str(identity)
    if not isinstance(provider, str) or not provider or not isinstance(identity, str) or not identity:
        return None
    return user_id(identity if identity.startswith(provider + "|") else f"{provider}|{identity}")


def inside(value: object, *keys: str) -> object:
    """Return what is found by following `keys` into nested objects, None where one is missing."""
    for key in keys:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value
