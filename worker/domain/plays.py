"""Which plays count, and for which day: docs/protocol.md's P25 as pure functions."""

from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import NamedTuple
from uuid import UUID


class Play(NamedTuple):
    """A play as its request settled it: who listened (an alias is its primary by now), and whose the playlist is."""

    playlist_id: int
    listener: str
    play_id: UUID  # made by the client, so that a retry is the same play
    owner: str
    received_at: datetime  # ours

    @property
    def may_count(self) -> bool:
        """Whether it counts if the day's cap allows: nobody plays himself into a role."""
        return self.listener != self.owner

    @property
    def day(self) -> date:
        """The day whose cap it counts against: the UTC day on which it arrived, wherever its people live."""
        return self.received_at.astimezone(UTC).date()


def once(plays: Iterable[Play]) -> list[Play]:
    """Return each play once, as it first arrived, in the order in which plays are kept: playlist, listener, id."""
    first: dict[tuple[int, str, UUID], Play] = {}
    for play in plays:
        held = first.setdefault(play[:3], play)
        if play.received_at < held.received_at:
            first[play[:3]] = play
    return [first[key] for key in sorted(first)]
