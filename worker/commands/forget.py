"""`understudy forget`: one person is erased, and what went is said."""

import sys
from collections import Counter
from typing import Annotated, Final

import typer

from worker.commands.process import lent_parts
from worker.logs import configure
from worker.sync.forget import StillThere

# What a person at a terminal reads, by what was counted: one, several.
_NAMES: Final = {
    "users": ("user's row", "users' rows"),
    "news": ("mark", "marks"),
    "records": ("record in the inbox", "records in the inbox"),
    "parked": ("parked record", "parked records"),
    "sessions": ("session", "sessions"),
    "user_data": ("favourite genre", "favourite genres"),
    "songs": ("song", "songs"),
    "playlists": ("playlist", "playlists"),
    "plays": ("play of their own", "plays of their own"),
    "plays_made_anonymous": ("play made anonymous", "plays made anonymous"),
    "play_days": ("count of a day's plays", "counts of a day's plays"),
    "wishes": ("wish", "wishes"),
    "pushes": ("push", "pushes"),
    "pushed": ("push that was done", "pushes that were done"),
    "exported": ("line of a comparison", "lines of a comparison"),
    "suspects": ("suspicion of a comparison", "suspicions of a comparison"),
    "sweep": ("place in the sweep", "places in the sweep"),
}


def forget(
    user_id: Annotated[str, typer.Argument(metavar="USER_ID")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would go.")] = False,
    keep_out: Annotated[
        bool,
        typer.Option("--keep-out", help="Though Auth0 has them, and for good: nothing of theirs is ever copied again."),
    ] = False,
) -> None:
    """Erase the person of USER_ID, linked identities included, from every table; run again, it goes on where it stopped.

    Refuses while Auth0 has them. For good: there is no way back but theirs, by signing up again.
    """
    with lent_parts() as parts:
        configure(parts.settings)
        erasure = parts.forget(lambda sentence: print(sentence, file=sys.stderr))
        if dry_run:
            gone, there = erasure.would_remove(user_id)
            print("would remove:", _listed(gone))
            if there and not keep_out:
                print("but Auth0 has this person: it would refuse without --keep-out")
            return
        try:
            print("removed:", _listed(erasure.run(user_id, keep_out=keep_out)))
        except StillThere:
            parts.doorbell.ring("refresh")
            raise


def _listed(gone: Counter[str]) -> str:
    return (
        ", ".join(f"{gone[one]:,} {names[gone[one] != 1]}" for one, names in _NAMES.items() if gone[one]) or "nothing"
    )
