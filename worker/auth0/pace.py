"""The budget: how many requests may go to Auth0 now, shared by every process through Redis.

Auth0 limits a tenant by token buckets, one per endpoint group or one for all. We keep one bucket of our
own for each of them, sized to our share, so that Auth0's never runs dry because of us. The rules live in pace.lua, which
Redis runs atomically with its own clock; nobody sleeps here: a refusal says when to come back.
"""

import json
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib.resources import files
from typing import Any, Final, Literal, NamedTuple, get_args

from redis import Redis
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
    OutOfMemoryError,
    ReadOnlyError,
    TimeoutError as RedisTimeoutError,
)

from worker.errors import BrokerDown, WrongSetting
from worker.settings import Plan, Settings

Group = Literal["read_users", "write_users", "delete_users", "read_logs", "other"]
Priority = Literal["now", "push", "settle", "mass"]

GLOBAL: Final = "global"
LONGEST_PAUSE: Final = 60.0
"""Seconds; a 429 or an outage never pauses for longer, whatever the answer says."""
LACKS_SCOPE: Final = "lacks scope"
TOKENS_THROTTLED: Final = "token requests throttled"

_PER_MINUTE: Final = 1 / 60
_BY_GROUP: Final[dict[str, tuple[float, float]]] = {
    "read_users": (40, 500 * _PER_MINUTE),
    "write_users": (20, 200 * _PER_MINUTE),
    "delete_users": (20, 200 * _PER_MINUTE),
    "read_logs": (10, 100 * _PER_MINUTE),
    "other": (10, 150 * _PER_MINUTE),
}
PRESETS: Final[dict[Plan, dict[str, tuple[float, float]]]] = {
    "free": {GLOBAL: (2, 2)},
    "essentials": _BY_GROUP,
    "professional": _BY_GROUP,
    "enterprise": {GLOBAL: (50, 16)},
    "enterprise-nonprod": {GLOBAL: (10, 2)},
    "private-cloud": {GLOBAL: (50, 50)},
}
"""Auth0's published limits per plan: {group: (burst, requests per second)}."""

# What each class is sure of (a share of the rate), and what it leaves in the bucket for those above it (a share of the
# burst). The shares add up to less than one: the rest goes to whoever waits highest.
_CLASSES: Final = (
    {"name": "now", "share": 0.35, "cushion": 0.0},  # strong reads of fresh news
    {"name": "push", "share": 0.2, "cushion": 0.1},  # what was earned or wished, on its way to Auth0
    {"name": "settle", "share": 0.3, "cushion": 0.2},  # pages, and strong reads that settle what pages left open
    {"name": "mass", "share": 0.1, "cushion": 0.5},  # backfill, reconcile, catch-up
)

SERVER_CLOCK: Final = "local t = redis.call('TIME'); local now = t[1] + t[2] / 1000000"
"""The Lua that sets `now`, in seconds: the clock all processes share."""


@dataclass(frozen=True, slots=True)
class Grant:
    """The answer to `take`: `granted` requests may be sent.

    `wait`: seconds until the next one could be granted (0 if all were). `paused`: seconds the group is paused for, 0 if
    it is not. `reason`: "" (all granted), "spent", or the pause's: "throttled", "outage", or what `pause` was given.
    """

    granted: int
    wait: float
    paused: float
    reason: str


@dataclass(frozen=True, slots=True)
class Look:
    """A bucket as it stands: tokens now, most tokens ever, tokens per second; the pause's seconds and reason."""

    level: float
    capacity: float
    rate: float
    paused: float
    reason: str
    failures: int


class _Known(NamedTuple):
    """A bucket as our last `take` left it, and when (monotonic)."""

    level: float
    failures: int
    at: float


class Budget:
    """The tenant's request budget. Every method is one round trip; all raise BrokerDown while Redis is unreachable."""

    def __init__(
        self,
        redis: Redis,
        settings: Settings,
        *,
        clock: str = SERVER_CLOCK,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._redis = redis
        self._limits = limits_of(settings)
        self._share = settings.auth0_budget_share
        self._prefix = f"understudy:{settings.auth0_domain}:budget"
        self._sizes = {bucket: _part(limit, self._share) for bucket, limit in self._limits.items()}
        self._terms = {bucket: _terms(*size) for bucket, size in self._sizes.items()}
        self._known: dict[str, _Known] = {}
        self._script = redis.register_script(clock + "\n" + files(__package__).joinpath("pace.lua").read_text())
        self._chance = chance

    def take(self, group: Group, priority: Priority, n: int = 1, *, keep_place: bool = True) -> Grant:
        """Take up to `n` tokens; fewer may be granted, down to none.

        Who gets none keeps a place in the queue: a token is held for them for 2 s beyond `wait`, others stand back. With
        `keep_place` false nothing is held (for a caller that will do something else instead).
        """
        granted, wait, paused, reason, level, failures = self._run(group, "take", group, priority, n, int(keep_place))
        self._known[self._bucket(group)] = _Known(float(level), int(failures), time.monotonic())
        return Grant(int(granted), float(wait), float(paused), _text(reason))

    def give_back(self, group: Group, priority: Priority, n: int) -> None:
        """Return granted tokens whose requests were not sent."""
        self._known.pop(self._bucket(group), None)
        self._run(group, "give_back", priority, n)

    def charge(self, group: Group, n: int = 1) -> None:
        """Book requests that were sent without a grant; the bucket may go below zero."""
        self._run(group, "charge", n, "unasked")

    def take_read_and_write(self, priority: Priority) -> Grant:
        """Take what a strong read and the PATCH after it need, both or nothing: between the two nobody may wait (P16).

        A write that is not needed after all is given back. Where one bucket serves both groups, the write is booked ahead,
        so that even a bucket of one token allows a push: whoever comes next waits a little longer.
        """
        read = self.take("read_users", priority)
        if not read.granted:
            return read
        if self._bucket("read_users") == self._bucket("write_users"):
            self._run("write_users", "charge", 1, priority)
            return read
        write = self.take("write_users", priority)
        if not write.granted:
            self.give_back("read_users", priority, 1)
        return write

    def look(self, group: Group) -> Look:
        """Look without taking, to choose between strong reads and pages."""
        level, capacity, rate, paused, reason, failures = self._run(group, "look", group)
        return Look(float(level), float(capacity), float(rate), float(paused), _text(reason), int(failures))

    def heard(self, group: Group, headers: Mapping[str, str]) -> None:
        """Correct the bucket by an answer's x-ratelimit headers, and end a series of failures.

        Our share of what Auth0 says remains is an upper bound of our level; a limit lower than expected lowers the
        burst for ten minutes. Nothing heard raises either. What cannot change anything costs no round trip.
        """
        remaining, limit = (self._ours(headers.get(f"x-ratelimit-{name}")) for name in ("remaining", "limit"))
        if self._would_change(self._bucket(group), remaining, limit):
            self._run(group, "heard", *("" if told is None else repr(told) for told in (remaining, limit)))

    def throttled(self, group: Group, headers: Mapping[str, str]) -> float:
        """Auth0 answered 429: pause the bucket for everyone, and return for how many seconds."""
        return self._back_off(group, "throttled", pause_from(headers))

    def failed(self, group: Group) -> float:
        """Auth0 is not itself (5xx, timeout, no JSON): pause for 1, 2, 4 … 60 s, and return for how long."""
        return self._back_off(group, "outage", None)

    def succeeded(self, group: Group) -> None:
        """End a series of failures where no headers tell more."""
        self.heard(group, {})

    def pause(self, group: Group, seconds: float, reason: str) -> float:
        """Pause one endpoint group (not its neighbours in the same bucket); a longer pause stands. Returns the seconds left."""
        return float(self._run(group, "pause", group, seconds, reason)[0])

    def pause_all(self, seconds: float, reason: str) -> None:
        """Pause every group: the credentials themselves are refused."""
        for group in get_args(Group):
            self.pause(group, seconds, reason)

    def forget_refusals(self) -> set[str]:
        """End the pauses of groups that were refused (credentials, scopes) and return why they were; those of 429s and outages stay."""
        return {_text(self._run(group, "resume", group, TOKENS_THROTTLED)[0]) for group in get_args(Group)} - {""}

    def counts(self) -> dict[str, dict[str, int]]:
        """Return {bucket: {"spent:now": 12, "heard:throttled": 1, …}} since Redis was last wiped."""
        with _broker():
            return {
                bucket: {
                    _text(name): int(count)
                    for name, count in self._redis.hgetall(self._key(bucket)).items()
                    if _text(name) != "state"
                }
                for bucket in (*self._limits, "token")
            }

    def count_token_request(self) -> None:
        """Count a request to /oauth/token, which no group's limit covers."""
        with _broker():
            self._redis.hincrby(self._key("token"), "spent:token", 1)

    def _back_off(self, group: Group, reason: str, seconds: float | None) -> float:
        told = "" if seconds is None else seconds
        self._known.pop(self._bucket(group), None)  # a series of failures begins, which the next answer ends
        return float(self._run(group, "back_off", told, self._chance(), reason, LONGEST_PAUSE)[0])

    def _ours(self, value: str | None) -> float | None:
        number = _number(value)
        return None if number is None else number * self._share

    def _would_change(self, bucket: str, remaining: float | None, limit: float | None) -> bool:
        """Whether an answer may be news: others only take from the level that our last `take` saw, and time adds to it."""
        known, burst, rate = self._known.get(bucket), *self._sizes[bucket]
        if known is None or known.failures or (limit is not None and limit < burst):
            return True
        level = min(burst, known.level + rate * (time.monotonic() - known.at))
        return remaining is not None and remaining < level

    def _bucket(self, group: Group) -> str:
        return group if group in self._limits else "other" if "other" in self._limits else GLOBAL

    def _run(self, group: Group, action: str, *arguments: float | str) -> list[Any]:
        bucket = self._bucket(group)
        with _broker():
            answer: list[Any] = self._script(keys=[self._key(bucket)], args=[action, self._terms[bucket], *arguments])
        return answer

    def _key(self, bucket: str) -> str:
        return f"{self._prefix}:{bucket}"


def pause_from(headers: Mapping[str, str]) -> float | None:
    """Return the seconds a 429 asks us to wait, None if it does not say.

    Retry-After where present; else x-ratelimit-reset (Unix seconds) less the answer's own Date: both by Auth0's clock,
    never by ours. At least one second, as both are whole ones.
    """
    seconds = _number(headers.get("retry-after"))
    if seconds is None:
        reset, date = _number(headers.get("x-ratelimit-reset")), _date(headers.get("date"))
        if reset is None or date is None:
            return None
        seconds = reset - date
    return min(max(seconds, 1.0), LONGEST_PAUSE)


def limits_of(settings: Settings) -> dict[str, tuple[float, float]]:
    """Return {group: (burst, requests per second)}: AUTH0_LIMITS over the plan's; raise WrongSetting where they make no sense."""
    explicit = settings.auth0_limits
    unknown = set(explicit) - {*get_args(Group), GLOBAL}
    if unknown:
        known = ", ".join((*get_args(Group), GLOBAL))
        raise WrongSetting(f"AUTH0_LIMITS names unknown groups ({', '.join(sorted(unknown))}); there are {known}")
    if any(burst <= 0 or rate <= 0 for burst, rate in explicit.values()):
        raise WrongSetting("AUTH0_LIMITS must be above zero")
    return dict(explicit) if GLOBAL in explicit else PRESETS[settings.auth0_plan] | explicit


def _part(limit: tuple[float, float], share: float) -> tuple[float, float]:
    burst, rate = limit
    return max(1.0, burst * share), rate * share


def _terms(burst: float, rate: float) -> str:
    return json.dumps({"burst": burst, "rate": rate, "classes": _CLASSES})


def _number(value: str | None) -> float | None:
    try:
        number = float(value) if value is not None else None
    except ValueError:
        return None
    return number if number is not None and 0 <= number < 1e12 else None  # neither negative, infinite nor NaN


def _date(value: str | None) -> float | None:
    try:
        return parsedate_to_datetime(value).timestamp() if value else None
    except ValueError:
        return None


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


class _broker:  # noqa: N801  # reads as a statement
    """Turn what Redis raises while it is away into BrokerDown; anything else is a bug and stays one."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, RedisConnectionError | RedisTimeoutError | ReadOnlyError | OutOfMemoryError):
            raise BrokerDown(f"Redis cannot be reached: {type(error).__name__}") from None
