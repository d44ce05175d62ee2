"""What the demo's people do: they sign up, log in one by one while it is calm, and all at once while things go wrong."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from local.copy_watch import CopyWatch
from local.product import Product
from local.simulated_tenant import SimulatedTenant

_SAMPLED = 50
_WEB_AWAY = 4  # seconds
_UNSEEN_AFTER = 60.0  # seconds

_FAULTS = [
    {"where": "stream", "kind": "duplicate", "probability": 0.2},
    {"where": "stream", "kind": "reorder", "probability": 0.5},
    {"where": "stream", "kind": "status", "status": 500, "probability": 0.1},
    {"where": "api", "kind": "status", "status": 429, "probability": 0.1},
    {"where": "api", "kind": "status", "status": 500, "probability": 0.05},
    {"where": "api", "kind": "drop", "probability": 0.03},
]


@dataclass(frozen=True)
class Latencies:
    """Seconds from logins to rows; `unseen` of them never showed."""

    seconds: Sequence[float]
    unseen: int = 0

    def at(self, share: float) -> float:
        """Return the quantile, the slowest of them at 1."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")

    def __str__(self) -> str:
        unseen = f", {self.unseen} not within {_UNSEEN_AFTER:.0f} s" if self.unseen else ""
        return f"p50 {self.at(0.5) * 1000:,.0f} ms, p99 {self.at(0.99) * 1000:,.0f} ms ({len(self.seconds)} logins{unseen})"


def sign_everyone_up(tenant: SimulatedTenant, people: int) -> list[str]:
    """Sign up so many; return the ids of some who have not logged in yet, for `calm_logins`."""
    sampled = min(_SAMPLED, people // 2)
    left = people - sampled
    while left:
        some = min(100, left)
        tenant.control("POST", "people/signup", {"count": some})
        left -= some
    answer = tenant.control("POST", "people/signup", {"count": sampled, "login": False})
    return [str(user_id) for user_id in answer["user_ids"]]


def calm_logins(tenant: SimulatedTenant, watch: CopyWatch, user_ids: Sequence[str]) -> Latencies:
    """Log in one after the other, each when the one before shows."""
    return _latencies([one_login(tenant, watch, user_id) for user_id in user_ids])


def storm(tenant: SimulatedTenant, product: Product, watch: CopyWatch, *, people: int, seconds: float) -> Latencies:
    """Let everyone log in several times and live their lives while all the faults are on, then take these away."""
    end = time.monotonic() + seconds
    tenant.control("PUT", "faults", _FAULTS)
    with ThreadPoolExecutor(max_workers=4) as at_once:
        parts = [
            at_once.submit(
                tenant.control, "POST", "people/burst", {"logins": 4 * people, "users": people, "seconds": seconds}
            ),
            at_once.submit(_live, tenant, people, end),
            at_once.submit(_take_web_away, product, seconds / 4),
        ]
        sampling = at_once.submit(_sample, tenant, watch, end)
        for part in parts:
            part.result()
        tenant.control("DELETE", "faults")
        return sampling.result()


def _live(tenant: SimulatedTenant, people: int, end: float) -> None:
    """Do as many acts of all kinds as there are people, a tenth of them at a time."""
    for seed in range(10):
        tenant.control("POST", "people/live", {"actions": max(1, people // 10), "seed": seed})
        time.sleep(max(0.0, (end - time.monotonic()) / (10 - seed)))


def _take_web_away(product: Product, after: float) -> None:
    time.sleep(after)
    product.web.stop()
    time.sleep(_WEB_AWAY)
    product.web.start()


def _sample(tenant: SimulatedTenant, watch: CopyWatch, end: float) -> Latencies:
    """Let new people log in for the first time, several waiting at once so that a slow one does not thin the sample."""
    with ThreadPoolExecutor(max_workers=8) as waiting:
        begun = []
        while time.monotonic() < end:
            user_id = tenant.control("POST", "people/signup", {"count": 1, "login": False})["user_ids"][0]
            begun.append(waiting.submit(one_login, tenant, watch, str(user_id)))
            time.sleep(0.2)
        return _latencies([login.result() for login in begun])


def one_login(tenant: SimulatedTenant, watch: CopyWatch, user_id: str) -> list[float | None]:
    """Let somebody log in for the first time; return the seconds until it shows, None for never.

    Nothing is returned where the storm was faster: somebody deleted, blocked or linked away does not log in.
    """
    return [watch.time_to_see_login(user_id, _UNSEEN_AFTER)] if tenant.log_in(user_id) else []


def _latencies(logins: Iterable[list[float | None]]) -> Latencies:
    seen = [seconds for login in logins for seconds in login]
    return Latencies([seconds for seconds in seen if seconds is not None], sum(seconds is None for seconds in seen))
