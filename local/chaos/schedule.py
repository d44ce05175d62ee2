"""What happens when: the acts of people and the faults, chosen by the seed alone, before anything runs."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

Details = Mapping[str, Any]

# Acts of people whom nothing of the music app depends on, in a second: how often each is chosen, as the simulator's own mix.
CROWD: Final = {
    "signup": 12,
    "login": 40,
    "failed_login": 3,
    "noise": 3,
    "change_email": 3,
    "change_name": 5,
    "change_username": 1,
    "change_phone": 1,
    "verify_email": 3,
    "metadata": 5,
    "block": 2,
    "unblock": 2,
    "delete": 5,
    "recreate": 4,
    "admin_create": 2,
    "link": 4,
    "unlink": 3,
    "brute_force": 1,
    "scim": 1,
}
_ACTS_PER_SECOND: Final = 5.0
_PLAYS_PER_SECOND: Final = 12.0
# The last part of a run has no new faults but the tenant's, so that they have time to do harm together with what follows.
_UNTIL: Final = 0.9


@dataclass(frozen=True, order=True)
class Step:
    """One thing that happens `at` so many seconds; what happens in one lane happens one after the other."""

    at: float
    lane: str
    do: str
    details: Details = field(default_factory=dict, compare=False)

    def __str__(self) -> str:
        said = " ".join(f"{name}={_short(value)}" for name, value in self.details.items())
        return f"{self.at:7.2f} s  {self.do}" + (f"  {said}" if said else "")


@dataclass(frozen=True)
class Cast:
    """How many there are: of `musicians` nobody is deleted, linked or blocked, so what they are owed is known exactly."""

    musicians: int
    restless: int
    crowd: int
    lanes: int = 6

    @property
    def people(self) -> int:
        """How many sign up before anything goes wrong."""
        return self.musicians + self.restless + self.crowd

    @classmethod
    def of(cls, seconds: float) -> Cast:
        """Return a larger one for a longer run: a day's limits hold for each of them."""
        minutes = seconds / 60
        return cls(musicians=10 + int(3 * minutes), restless=6 + int(2 * minutes), crowd=40 + int(6 * minutes))


def schedule(seed: int, seconds: float, cast: Cast) -> list[Step]:
    """Return the whole run, in order of time: the same for the same arguments."""
    made: list[Step] = []
    for name, scene in _SCENES.items():
        # Each has a generator of its own, so that a change to one leaves the others of the same seed as they were.
        made += scene(random.Random(f"{seed} {name}"), seconds, cast)  # noqa: S311 to be the same again is the point
    return sorted(made, key=lambda step: (step.at, step.lane, step.do))


def _crowd(rng: random.Random, seconds: float, _cast: Cast) -> Iterator[Step]:
    for at in _moments(rng, seconds, _ACTS_PER_SECOND):
        act = rng.choices(list(CROWD), list(CROWD.values()))[0]
        yield Step(at, "crowd", act, {"who": rng.random(), "other": rng.random()})
    for at in _some_times(rng, seconds, every=120):
        yield Step(at, "crowd", "import", {"count": rng.randrange(1, 6)})


def _plays(rng: random.Random, seconds: float, cast: Cast) -> Iterator[Step]:
    """Let musicians play each other's and the restless' playlists, few of them most of the time."""
    owners = cast.musicians + cast.restless
    for at in _moments(rng, seconds, _PLAYS_PER_SECOND):
        listener = rng.randrange(cast.musicians)
        playlist = min(int(rng.expovariate(3 / owners)), owners - 1)
        details = {
            "listener": listener,
            "playlist": playlist,
            "play_id": str(UUID(int=rng.getrandbits(128), version=4)),
        }
        yield Step(at, f"people {listener % cast.lanes}", "play", details)


def _wishes(rng: random.Random, seconds: float, cast: Cast) -> Iterator[Step]:
    """Have each musician choose a name now and then, some get a plan, and some lose a role by hand in Auth0.

    At most six a person: more than ten pushes in a day would be taken for a fight with somebody else (P18).
    """
    for person in range(cast.musicians):
        for _ in range(rng.randrange(3)):
            name = f"{rng.choice(('Ada', 'Fado', 'Nocturne', 'Ünder'))} {rng.randrange(1000)}"
            yield Step(_any(rng, seconds), f"people {person % cast.lanes}", "name", {"person": person, "name": name})
        if rng.random() < 0.4:
            yield Step(_any(rng, seconds), "crowd", "role by hand", {"person": person})
    for _ in range(max(1, int(seconds / 60))):
        plan = rng.choice(("pro", "team", "free"))
        yield Step(_any(rng, seconds), "operator", "plan", {"person": rng.randrange(cast.musicians), "plan": plan})
    for number in range(2):  # each takes plays from somebody, and perhaps a role: few, or the brake would stop it (P19)
        yield Step(seconds * (0.4 + 0.2 * number), f"people {number % cast.lanes}", "drop playlist", {"person": number})


def _killing(rng: random.Random, seconds: float, _cast: Cast) -> Iterator[Step]:
    for process, every in (("worker", 20.0), ("web", 30.0), ("beat", 45.0)):
        for at in _some_times(rng, seconds, every):
            yield Step(at, "processes", f"kill {process}", {"away": round(rng.uniform(0.1, 3), 1)})
    for at in _some_times(rng, seconds, every=20):
        yield Step(at, "processes", "kill a child of the worker", {"which": rng.random()})
    for at in _some_times(rng, seconds, every=60):
        yield Step(at, "processes", "restart worker", {})


def _servers(rng: random.Random, seconds: float, _cast: Cast) -> Iterator[Step]:
    for at in _some_times(rng, seconds, every=15):
        yield Step(at, "redis", "wipe redis", {})
    for at in _some_times(rng, seconds, every=45):
        yield Step(at, "redis", "kill redis", {"away": round(rng.uniform(0, 3), 1)})
    for at in _some_times(rng, seconds, every=90):
        yield Step(at, "redis", "freeze redis", {"away": round(rng.uniform(1, 4), 1)})
    for at in _some_times(rng, seconds, every=60):
        how = rng.choice(("restart", "crash"))
        yield Step(at, "postgres", f"{how} postgres", {"away": round(rng.uniform(0, 3), 1)})


def _wires(rng: random.Random, seconds: float, _cast: Cast) -> Iterator[Step]:
    for wire in ("postgres", "redis", "web"):
        for at in _some_times(rng, seconds, every=12):
            yield Step(at, f"wire {wire}", "cut connections", {"to": wire})
        for at in _some_times(rng, seconds, every=45):
            yield Step(at, f"wire {wire}", "stall connections", {"to": wire, "away": round(rng.uniform(0.5, 4), 1)})


_FAULTS: Final[tuple[dict[str, Any], ...]] = (
    {"where": "stream", "kind": "duplicate", "probability": 0.4},
    {"where": "stream", "kind": "reorder", "probability": 0.8},
    {"where": "stream", "kind": "mask_pii", "probability": 0.5},
    {"where": "stream", "kind": "status", "status": 500, "probability": 0.3},
    {"where": "stream", "kind": "delay", "seconds": 2, "probability": 0.3},
    {"where": "stream", "kind": "hang", "seconds": 1, "probability": 0.2},
    {"where": "event", "kind": "duplicate", "probability": 0.4},
    {"where": "event", "kind": "reorder", "seconds": 2, "probability": 0.6},
    {"where": "event", "kind": "lose", "probability": 0.2},
    {"where": "event", "kind": "status", "status": 400, "probability": 0.2},
    {"where": "event", "kind": "drop", "probability": 0.6},
    {"where": "pull", "kind": "drop", "probability": 0.1},
    {"where": "pull", "kind": "duplicate", "probability": 0.3},
    {"where": "pull", "kind": "error", "message": "internal_error", "probability": 0.05},
    {"where": "export", "kind": "drop", "probability": 0.5},
    {"where": "export", "kind": "truncate", "probability": 0.3},
    {"where": "export", "kind": "expire", "probability": 0.5},
    {"where": "export", "kind": "fail", "probability": 0.3},
    {"where": "api", "kind": "status", "status": 429, "probability": 0.3},
    {"where": "api", "kind": "status", "status": 500, "probability": 0.3},
    {"where": "api", "kind": "status", "status": 503, "probability": 0.3},
    {"where": "api", "kind": "html", "status": 502, "probability": 0.3},
    {"where": "api", "kind": "drop", "probability": 0.2},
    {"where": "api", "kind": "hang", "seconds": 5, "probability": 0.1},
    {"where": "api", "kind": "delay", "seconds": 1, "probability": 0.3},
    {"where": "token", "kind": "status", "status": 503, "probability": 0.7},
    {"where": "jwks", "kind": "status", "status": 500, "probability": 0.7},
)


def _tenant(rng: random.Random, seconds: float, _cast: Cast) -> Iterator[Step]:
    """Let each fault of the tenant hold for a while, some of them at the same time."""
    for number, fault in enumerate(_FAULTS):
        for at in _some_times(rng, seconds, every=60):
            name = f"{number}"
            yield Step(at, "tenant", "fault begins", {"name": name, **fault})
            yield Step(min(seconds, at + rng.uniform(2, 8)), "tenant", "fault ends", {"name": name, **fault})


def _streams(rng: random.Random, seconds: float, _cast: Cast) -> Iterator[Step]:
    """Stop the streams, which the product must notice and mend; lose what pulls go on from; rotate the tokens."""
    for at in _some_times(rng, seconds, every=60):
        yield Step(at, "tenant", "pause log stream", {"status": rng.choice(("paused", "suspended"))})
    for at in _some_times(rng, seconds, every=60):
        yield Step(at, "tenant", "disable event stream", {})
    for task, every in (("heal", 25), ("catch_up", 20), ("listen", 20), ("reconcile", 30)):
        for at in _some_times(rng, seconds, every):
            yield Step(at, "ring", f"ring {task}", {})
    for what in ("logs", "events"):
        for at in _some_times(rng, seconds, every=120):
            yield Step(at, "tenant", f"{what} age out", {"keep": rng.randrange(20)})
    for at in _some_times(rng, seconds, every=60):  # each takes several starts of processes, so one or the other
        if rng.random() < 0.5:
            yield Step(at, "processes", "wrong tokens", {"away": round(rng.uniform(1, 3), 1)})
        else:
            yield Step(at, "processes", "rotate tokens", {})


_SCENES: Final[Mapping[str, Callable[[random.Random, float, Cast], Iterator[Step]]]] = {
    "crowd": _crowd,
    "plays": _plays,
    "wishes": _wishes,
    "killing": _killing,
    "servers": _servers,
    "wires": _wires,
    "tenant": _tenant,
    "streams": _streams,
}


def _moments(rng: random.Random, seconds: float, per_second: float) -> Iterator[float]:
    at = rng.expovariate(per_second)
    while at < seconds:
        yield at
        at += rng.expovariate(per_second)


def _some_times(rng: random.Random, seconds: float, every: float) -> Iterator[float]:
    """Yield a moment in each of so many equal parts of the run, at least one."""
    parts = max(1, round(seconds / every))
    for part in range(parts):
        yield seconds * _UNTIL * (part + rng.random()) / parts


def _any(rng: random.Random, seconds: float) -> float:
    return rng.uniform(0, seconds)


def _short(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
