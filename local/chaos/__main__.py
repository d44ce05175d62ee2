"""`make chaos`: plays a schedule of acts and faults, waits until it is over, and says whether the copy is right."""

from __future__ import annotations

import argparse
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from local.chaos.aftermath import Aftermath
from local.chaos.performance import Broken, Performance
from local.chaos.schedule import CROWD, Cast, Step, schedule
from local.chaos.stage import on_stage
from local.chaos.verdict import Finding, findings
from local.children import Children
from local.copy_watch import CopyWatch
from local.display import Phases
from local.processes import NotHealthy, ProcessDied, ending_on_signals, ending_with_parent
from local.servers import ServerError

_LATE = 120.0  # seconds that a lane may need after the end for what it still has to do
_SPAN, _LINES = 10, 10  # of the timeline: the seconds of one at least, and how many of them


def main(argv: Sequence[str] | None = None) -> int:
    """Run; return 0 when everything is right, 1 when something is not, 2 when it could not be played."""
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=0.4, help="how long things go wrong (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="the same seed makes the same schedule (default: one by chance)")
    parser.add_argument(
        "--log", type=Path, default=Path("build/chaos.log"), help="what happened (default: %(default)s)"
    )
    parser.add_argument("--plan", action="store_true", help="only print the schedule")
    parser.add_argument(
        "--exit-with-parent", action="store_true", help="end when the process that started this one does"
    )
    asked = parser.parse_args(argv)
    seed = random.randrange(1_000_000) if asked.seed is None else asked.seed  # noqa: S311 any will do
    seconds = asked.minutes * 60
    cast = Cast.of(seconds)
    steps = schedule(seed, seconds, cast)
    if asked.plan:
        print("\n".join(map(str, steps)))
        return 0
    if asked.exit_with_parent:
        ending_with_parent()
    print(f"seed {seed}: again with `make chaos MINUTES={asked.minutes:g} SEED={seed}`", flush=True)
    try:
        with ending_on_signals():
            return _Chaos(seed, cast, steps, asked.log).run()
    except KeyboardInterrupt:
        return 130
    except (Broken, NotHealthy, ProcessDied, ServerError) as error:
        print(f"chaos: {error}\nseed {seed}; what happened: {asked.log}", file=sys.stderr)
        return 1 if isinstance(error, NotHealthy | ProcessDied) else 2


class _Chaos:
    def __init__(self, seed: int, cast: Cast, steps: Sequence[Step], log: Path) -> None:
        self._seed, self._cast, self._steps, self._log_file = seed, cast, steps, log
        self._phases = Phases(Console())
        self._writing = threading.Lock()
        self._begun = time.monotonic()
        self._by_hand: list[str] = []

    def run(self) -> int:
        self._log_file.parent.mkdir(parents=True, exist_ok=True)
        self._log_file.write_text("")
        with ExitStack() as stack:
            with self._phases.phase("servers, wires, a tenant, web, worker and beat start"):
                children = stack.enter_context(Children())
                stage = stack.enter_context(on_stage(children, self._say, self._seed))
            play = Performance(stage, self._cast, lambda line: self._say("chaos", line))
            stack.callback(play.stop)
            with self._phases.phase(f"{self._cast.people} people sign up"):
                play.gather()
            self._print_timeline()
            with self._phases.phase("everything goes wrong"):
                play.play(self._steps)
            with self._phases.phase("the faults end, people have their answers"):
                play.finish(_LATE)
            # A new one: its connections would not have survived.
            watch = stack.enter_context(CopyWatch(stage.database_url, stage.tenant))
            after = Aftermath(stage, watch, self._note_by_hand)
            self._recover(after)
            found = findings(stage.database_url, list(stage.tenant.truth()), play.told, play.musicians)
            with self._phases.phase("understudy verify"):
                found.append(self._verified(after))
            stage.processes.check()
            self._report(play)
            return self._verdict(found)

    def _recover(self, after: Aftermath) -> None:
        """Play the rest: nobody does anything any more, and the tenant is well."""
        for title, act in (
            ("streams are started again and deliver", after.heal),
            ("one catch-up", after.catch_up),
            ("one reconcile", after.reconcile),
            ("the copy settles", after.settle),
        ):
            with self._phases.phase(title):
                act()

    def _verified(self, after: Aftermath) -> Finding:
        try:
            after.verify()
        except ProcessDied as error:
            return Finding("understudy verify agrees", str(error).splitlines())
        return Finding("understudy verify agrees", [])

    def _print_timeline(self) -> None:
        """Print the faults of the schedule, those of a while on one line."""
        end = max(step.at for step in self._steps)
        span = max(_SPAN, end / _LINES)
        for number in range(int(end / span) + 1):
            some = Counter(_in_short(step) for step in self._steps if step.at // span == number and _is_fault(step))
            said = ", ".join(what if count == 1 else f"{what} {count}x" for what, count in some.items())
            print(f"{number * span:>5.0f} s  {said}")
        sys.stdout.flush()

    def _report(self, play: Performance) -> None:
        told = play.told
        print()
        for name, counts in (("done", play.done), ("not possible", play.refused), ("answers to people", told.tries)):
            print(f"{name}: " + ", ".join(f"{what} {count}" for what, count in sorted(counts.items())))
        print(f"plays: {len(told.accepted)} accepted, {len(told.refused)} refused since the playlist was gone")
        for line in self._by_hand:
            print(f"by hand: {line}")
        print()

    def _verdict(self, found: Sequence[Finding]) -> int:
        for one in found:
            print("\n".join(one.lines()))
        wrong = sum(bool(one.wrong) for one in found)
        print(
            f"seed {self._seed}: " + (f"{wrong} of {len(found)} wrong, see {self._log_file}" if wrong else "all right")
        )
        return 1 if wrong else 0

    def _note_by_hand(self, line: str) -> None:
        self._by_hand.append(line)
        self._say("operator", line)

    def _say(self, name: str, line: str) -> None:
        with self._writing, self._log_file.open("a") as log:
            log.write(f"{time.monotonic() - self._begun:7.2f} {name:>10} | {line}\n")


def _is_fault(step: Step) -> bool:
    people = {*CROWD, "play", "name", "plan", "fault ends"}
    return step.do not in people and not step.do.startswith("ring ")


def _in_short(step: Step) -> str:
    say = step.details
    if step.do == "fault begins":
        return f"{say['where']} {say.get('status', say['kind'])}"
    return f"{step.do} {say.get('to', '')}".strip()


if __name__ == "__main__":
    sys.exit(main())
