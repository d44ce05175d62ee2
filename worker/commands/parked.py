"""`understudy parked`: look at what could not be understood, give it another try, or drop it."""

import json
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from worker.bootstrap import Parts
from worker.commands.process import lent_parts
from worker.errors import BadValue
from worker.store import parked as store
from worker.store.parked import Waiting
from worker.sync.replay import Replayed, replay as replay_all

commands = typer.Typer(no_args_is_help=True, help="What could not be understood, and waits for a human.")

Source = Annotated[
    str | None,
    typer.Option(
        "--source", help='Only what came from "logs", "events", "pulled", "pulled_events", "plays" or "export".'
    ),
]
Name = Annotated[str, typer.Argument(metavar="ID", help="As `understudy parked list` shows it: r12, d7.")]


@commands.command("list")
def show_list(
    source: Source = None,
    most: Annotated[int, typer.Option("--most", min=1, help="Show this many, the longest waiting first.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="The same, for programs.")] = False,
) -> None:
    """List what is parked: r… is a single record, d… a whole delivery. Its bytes are shown by `show` alone."""
    with lent_parts() as parts, parts.engine.connect() as connection:
        found, total = store.waiting(connection, source=source, most=most)
        pushes = store.pushes(connection) if source is None else 0
    if pushes:  # not among the rest: they have no bytes, and are tried again by themselves
        print(
            f"{pushes:,} pushes are parked, since Auth0 does not take them: the table pushes says why", file=sys.stderr
        )
    if as_json:
        print(json.dumps([_as_dict(one) for one in found], indent=2))
        return
    if not found:
        print("nothing else is parked" if pushes else "nothing is parked")
        return
    table = Table("ID", "source", "since", "bytes", "why", box=None, pad_edge=False)
    for one in found:
        table.add_row(one.name, one.source, f"{one.since:%Y-%m-%d %H:%M:%S}", f"{one.size:,}", one.reason)
    Console(soft_wrap=True, markup=False, highlight=False).print(table)
    if total > len(found):
        print(f"and {total - len(found):,} more: --most {total} shows them all")


@commands.command()
def show(name: Name) -> None:
    """Print the bytes of one, as they came: personal data. Everything else about it goes to standard error."""
    with lent_parts() as parts, parts.engine.connect() as connection:
        one = store.find(connection, name)
        print(f"{one.name} from {one.source}, since {one.since:%Y-%m-%d %H:%M:%S}: {one.reason}", file=sys.stderr)
        content = store.content(connection, one)
    if sys.stdout.isatty():
        print(_harmless(content))
    else:
        sys.stdout.buffer.write(content)


@commands.command()
def replay(
    names: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="As `list` shows them.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that is parked.")] = False,
    source: Source = None,
) -> None:
    """Give it another try, after a release or a setting that mends the cause; what is still bad is parked again."""
    if sum((bool(names), everything, source is not None)) != 1:
        raise BadValue("say what to replay: its ID, --source, or --all")
    with lent_parts() as parts:
        with parts.engine.connect() as connection:
            chosen = [store.find(connection, name) for name in names or ()]
            chosen = chosen or store.waiting(connection, source=source)[0]
        done = replay_all(parts.engine, chosen)
        _ring(parts, done)
    print(f"{done.pending} will be drained again")
    if done.asked or done.still_bad:
        print(f"{done.asked} users of an export will be asked for, {done.still_bad} of its lines are still bad")
    if done.not_kept:
        print(
            f"{done.not_kept} were too large to keep, so there is nothing to replay: raise MAX_DELIVERY_BYTES, then drop them"
        )


@commands.command()
def drop(name: Name) -> None:
    """Delete one, with its bytes: it was looked at, and nothing is to be done about it."""
    with lent_parts() as parts, parts.engine.begin() as connection:
        store.drop(connection, store.find(connection, name))
    print(f"{name} is dropped")


def _ring(parts: Parts, done: Replayed) -> None:
    if done.pending:
        parts.doorbell.ring("drain")
    if done.asked:
        parts.doorbell.ring("refresh")


def _as_dict(one: Waiting) -> dict[str, object]:
    return {
        "id": one.name,
        "source": one.source,
        "since": one.since.isoformat(),
        "bytes": one.size,
        "why": one.reason,
        "kept": one.kept,
    }


def _harmless(content: bytes) -> str:
    """Return it with whatever could command a terminal spelled out."""
    said = content.decode("utf-8", "backslashreplace")
    return "".join(letter if letter.isprintable() or letter in "\n\t" else ascii(letter)[1:-1] for letter in said)
