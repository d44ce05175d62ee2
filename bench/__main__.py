"""`python -m bench`: measures every figure, prints them beside what is to be reached, writes build/bench.json."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table

from bench import accept, calls, drain, heal, me, memory, plays, pushes, seen, whole_tenant
from bench.figures import FIGURES, Results
from bench.stage import LOG, Stage, stage
from local.processes import NotHealthy, ProcessDied, ending_on_signals
from local.product import CHECKOUT
from local.servers import ServerError

_MEASUREMENTS: dict[Callable[[Stage, Results], None], tuple[str, ...]] = {
    accept.accept: ("accept_vs_noop", "accept_one_vs_noop", "accept_vs_recipe"),
    calls.calls: ("calls_per_1000_logins",),
    drain.drain: ("drain_vs_bare", "drain_vs_recipe"),
    drain.large_table: ("drain_1m_vs_10k",),
    memory.memory: ("memory_100k_vs_1k",),
    seen.seen: ("seen_p99_vs_recipe", "seen_p99_10x"),
    me.me: ("me_vs_noop",),
    plays.plays: ("plays_vs_row_update", "plays_vs_row_update_hot"),
    pushes.pushes: ("pushes_per_1000_plays",),
    whole_tenant.whole_tenant: ("backfill_vs_copy", "verify_vs_backfill", "reconcile_idle_writes"),
    whole_tenant.whole_tenant_memory: ("backfill_memory_1m_vs_10k",),
    heal.heal: ("heal_calls_per_1000_lost",),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; return 0 whether or not the targets are reached, 2 when something could not run."""
    names = [figure.name for figure in FIGURES]
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("figures", nargs="*", metavar="NAME", help=f"only these figures: {', '.join(names)}")
    asked = set(parser.parse_args(argv).figures) or set(names)
    if asked - set(names):
        parser.error(f"there is no figure {', '.join(sorted(asked - set(names)))}")
    results = Results()
    begun = time.monotonic()
    try:
        with ending_on_signals(), stage() as built:
            for measure, figures in _MEASUREMENTS.items():
                if asked & set(figures):
                    print(f"{', '.join(figures)} …", flush=True)
                    measure(built, results)
    except KeyboardInterrupt:
        return 130
    except (ServerError, ProcessDied, NotHealthy) as error:
        print(f"bench: {error}\n(everything the processes said: {LOG})", file=sys.stderr)
        return 2
    _show(results, time.monotonic() - begun)
    if set(names) <= set(results.figures):
        _write(results)
    return 0


def _show(results: Results, seconds: float) -> None:
    table = Table("figure", "measured", "to reach", "what it compares", title=f"measured in {seconds / 60:.1f} minutes")
    for figure in FIGURES:
        if figure.name in results.figures:
            value = results.figures[figure.name]
            sign, colour = "≥" if figure.at_least else "≤", "green" if figure.reached(value) else "red"
            table.add_row(figure.name, f"[{colour}]{value:.3g}[/]", f"{sign} {figure.target:g}", figure.meaning)
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def _write(results: Results) -> None:
    path = CHECKOUT / "build" / "bench.json"
    figures = {figure.name: round(results.figures[figure.name], 4) for figure in FIGURES}
    path.write_text(json.dumps(figures, indent=2) + "\n")
    print(f"written to {path.relative_to(CHECKOUT)}")


if __name__ == "__main__":
    sys.exit(main())
