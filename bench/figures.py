"""The figures: their names, what each compares, what is to be reached; and how rounds become one number."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Figure:
    """A ratio (or a number) and its target; `at_least` says on which side of it the good is."""

    name: str
    meaning: str
    target: float
    at_least: bool

    def reached(self, value: float) -> bool:
        """Say whether this value is good enough."""
        return value >= self.target if self.at_least else value <= self.target


FIGURES = (
    Figure("accept_vs_noop", "deliveries of 100 events accepted/s : an endpoint that does nothing", 0.35, True),
    Figure("accept_one_vs_noop", "the same for deliveries of one event", 0.4, True),
    Figure("accept_vs_recipe", "events accepted/s : the recipe's", 20, True),
    Figure("drain_vs_bare", "events/s of one worker process : COPY-and-upsert of the decoded rows", 0.6, True),
    Figure("drain_vs_recipe", "the same : the recipe's worker", 40, True),
    Figure("calls_per_1000_logins", "Management API calls for 1,000 users' logins within 10 s, 2 calls/s", 40, False),
    Figure("drain_1m_vs_10k", "drain rate with 1,000,000 users in the table : with 10,000", 0.8, True),
    Figure("memory_100k_vs_1k", "worker's peak memory, 100,000 deliveries waiting : 1,000", 1.3, False),
    Figure("seen_p99_vs_recipe", "p99 sent → visible at half the recipe's capacity : the recipe's", 1, False),
    Figure("seen_p99_10x", "the same p99 at ten times the recipe's capacity : at half of it", 10, False),
    Figure("me_vs_noop", "GET /me with real tokens/s : a route answering the same bytes, no token", 0.35, True),
    Figure("plays_vs_row_update", "plays accepted and counted/s, 1,000 playlists : UPDATE plays + 1", 3, True),
    Figure("plays_vs_row_update_hot", "the same, all on one playlist", 5, True),
    Figure("pushes_per_1000_plays", "PATCH calls for 1,000 plays of one owner that cross one threshold", 1, False),
    Figure("backfill_vs_copy", "users/s of a backfill : gunzip, parse and COPY of the same file", 0.5, True),
    Figure("backfill_memory_1m_vs_10k", "a backfill's peak memory, 1,000,000 users : 10,000", 1.2, False),
    Figure("verify_vs_backfill", "users/s of a verify with 1 % drift : of the backfill", 1, True),
    Figure("heal_calls_per_1000_lost", "API calls until nothing is left after 1,000 lost log records", 50, False),
    Figure("reconcile_idle_writes", "rows of users and app tables that a reconcile writes for nothing", 0, False),
)


@dataclass
class Results:
    """What was measured: the figures by name, and what is reported beside them."""

    figures: dict[str, float] = field(default_factory=dict)
    beside: list[tuple[str, str]] = field(default_factory=list)

    def note(self, what: str, said: str) -> None:
        """Report something beside the figures."""
        self.beside.append((what, said))
        print(f"  {what}: {said}", flush=True)


def alternate(rounds: int, **peers: Callable[[], float]) -> dict[str, list[float]]:
    """Run each peer once per round, the order turned from round to round, so that a noisy minute hits all; return their numbers."""
    numbers: dict[str, list[float]] = {name: [] for name in peers}
    names = list(peers)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            numbers[name].append(peers[name]())
    return numbers


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of the rounds' ratios: what was measured side by side is compared side by side."""
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))


def rates(numbers: Sequence[float]) -> str:
    """Show the rounds' rates: their median, and the lowest and highest."""
    return f"{statistics.median(numbers):,.0f}/s ({min(numbers):,.0f} to {max(numbers):,.0f})"


def quantile(numbers: Sequence[float], share: float) -> float:
    """Return the quantile, the largest at 1; NaN of nothing."""
    ordered = sorted(numbers)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")
