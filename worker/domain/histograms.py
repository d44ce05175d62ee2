"""How long things took, as numbers that add up over processes: how many fell between two bounds, and their sum.

Each number is a row of `counters`; `worker.metrics` makes Prometheus's histograms of them.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

# From the event, by Auth0's clock, until what it says is committed here; in seconds. Deliveries are late by seconds, pulls by hours.
FRESHNESS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0, 86400.0)
# One run of a loop, in seconds; most are over in milliseconds, a slice is five seconds.
LOOP = (0.01, 0.05, 0.25, 1.0, 5.0, 15.0, 60.0)

_BEYOND = "more"


def observed(name: str, seconds: Iterable[float], bounds: tuple[float, ...]) -> dict[str, int]:
    """Return what to add to the counters of the histogram `name`. What lies before zero (a clock is ahead) counts as zero."""
    spellings = [*map(str, bounds), _BEYOND]
    taken = [max(one, 0.0) for one in seconds]
    if not taken:
        return {}
    found = Counter(bisect_left(bounds, one) for one in taken)
    counts = {f"{name}:{spellings[place]}": count for place, count in found.items()}
    return counts | {f"{name}:ms": round(sum(taken) * 1000)}


def read(counters: Mapping[str, int], name: str, bounds: tuple[float, ...]) -> tuple[list[tuple[str, float]], float]:
    """Return a histogram as Prometheus has it, of the counters that `observed` wrote: [(upper bound, how many up to it)], sum."""
    return list(_cumulated(counters, name, bounds)), counters.get(f"{name}:ms", 0) / 1000


def _cumulated(counters: Mapping[str, int], name: str, bounds: tuple[float, ...]) -> Iterator[tuple[str, float]]:
    total = 0
    for bound in bounds:
        total += counters.get(f"{name}:{bound}", 0)
        yield str(bound), total
    yield "+Inf", total + counters.get(f"{name}:{_BEYOND}", 0)
