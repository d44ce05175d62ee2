"""How plays travel through the inbox: one line of JSON each, written by the route, read by drain."""

from typing import Annotated, NamedTuple
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

from worker.domain import news

SOURCE = "plays"
# After a play, ring for drain with this countdown, in seconds: nobody waits for the count, and what arrives meanwhile is
# counted with it, for a tenth of the work.
COUNTED_WITHIN = 0.2


class Play(Struct, frozen=True, gc=False):
    """One play of a playlist. Who listened and whose the playlist is were settled when the request arrived (P25).

    `listener` and `owner` are ids with aliases already resolved to their primaries; `play_id` was made by the client.
    """

    listener: str
    owner: str
    playlist_id: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    play_id: UUID

    def __repr__(self) -> str:
        return f"<play of playlist {self.playlist_id}>"  # the rest is personal


class BadPlay(NamedTuple):
    """A line that is no play: its place in the body (from 0), why, and its own bytes. The reason holds no personal data."""

    position: int
    reason: str
    raw: bytes

    def __repr__(self) -> str:
        return f"<bad play {self.position}: {self.reason}>"


_PLAY = msgspec.json.Decoder(Play)


def encode(play: Play) -> bytes:
    """Return the body that `Inbox.put("plays", …)` takes."""
    return msgspec.json.encode(play)


def decode(body: bytes) -> tuple[list[tuple[int, Play]], list[BadPlay]]:
    """Return the plays of a body, each with its line's number, and the lines that are none; never raises."""
    plays: list[tuple[int, Play]] = []
    bad: list[BadPlay] = []
    for position, line in enumerate(body.split(b"\n")):
        if not line:
            continue
        try:
            plays.append((position, _valid(_PLAY.decode(line))))
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            bad.append(BadPlay(position, "no play as the route writes them", line))
        except news.Unreadable as error:
            bad.append(BadPlay(position, str(error), line))
    return plays, bad


def _valid(play: Play) -> Play:
    for user_id in (play.listener, play.owner):
        if news.user_id(user_id) is None:
            raise news.Unreadable("its listener or owner is no user's id")
    return play
