"""What the tenant remembers of logins: unfinished ones, sessions, codes, refresh tokens, access tokens."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from simulator.authorize_request import AuthorizeRequest
from simulator.clock import Clock

SESSION_SECONDS = 3 * 86_400
CODE_SECONDS = 600
UNFINISHED_SECONDS = 3600
REFRESH_SECONDS = 30 * 86_400

T = TypeVar("T")


@dataclass(frozen=True)
class Session:
    """A single sign-on session: who logged in, through which identity, when (UNIX seconds)."""

    id: str
    user_id: str
    identity_id: str
    authenticated_at: int


@dataclass(frozen=True)
class Grant:
    """What a code or a refresh token stands for. The claims are those that Actions made."""

    request: AuthorizeRequest
    session: Session
    access_claims: dict[str, Any] = field(default_factory=dict)
    id_claims: dict[str, Any] = field(default_factory=dict)


class Tickets(Generic[T]):
    """Things under names that nobody can guess, each for so many seconds; the oldest give way to new ones."""

    def __init__(self, clock: Clock, seconds: float, most: int = 100_000) -> None:
        self._clock, self._seconds, self._most = clock, seconds, most
        self._held: OrderedDict[str, tuple[float, T]] = OrderedDict()

    def issue(self, thing: T, name: str | None = None) -> str:
        name = name or secrets.token_urlsafe(32)
        self._held[name] = (self._clock() + self._seconds, thing)
        while len(self._held) > self._most:
            self._held.popitem(last=False)
        return name

    def find(self, name: str) -> T | None:
        until, thing = self._held.get(name, (0.0, None))
        return thing if until > self._clock() else None

    def take(self, name: str) -> T | None:
        """Find it for the last time."""
        thing = self.find(name)
        self._held.pop(name, None)
        return thing


class Logins:
    """The memory of one tenant."""

    def __init__(self, clock: Clock) -> None:
        self.unfinished: Tickets[AuthorizeRequest] = Tickets(clock, UNFINISHED_SECONDS)
        self.sessions: Tickets[Session] = Tickets(clock, SESSION_SECONDS)
        self.codes: Tickets[Grant] = Tickets(clock, CODE_SECONDS)
        self.refresh_tokens: Tickets[Grant] = Tickets(clock, REFRESH_SECONDS)
        self.access_tokens: Tickets[Grant] = Tickets(clock, 30 * 86_400, most=10_000)
