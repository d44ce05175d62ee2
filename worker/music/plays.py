"""Takes plays: those that arrive together are looked up by two queries and stored as one body."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from worker.music.callers import OWN, PRIMARY, Caller, Callers, Standing
from worker.music.database import Database, Overloaded
from worker.queue import Inbox, plays

# Bodies under way: one is looked up while another is stored. What arrives meanwhile waits for the next.
AT_ONCE = 2
# Plays of one body, and those that may wait.
MOST, MOST_WAITING = 500, 2000

_OWNERS = f"""
SELECT asked.playlist_id, {PRIMARY.format(id="p.user_id")}
FROM unnest(%(asked)b::int8[]) AS asked (playlist_id)
JOIN LATERAL (SELECT user_id FROM playlists WHERE playlists.playlist_id = asked.playlist_id LIMIT 1) AS p ON true
{OWN.format(id="p.user_id")}
"""  # noqa: S608 (constants)


@dataclass(frozen=True, slots=True)
class _Play:
    """A play whose request waits for what became of it: who listens, and whether there is such a playlist."""

    subject: str
    playlist_id: int
    play_id: UUID
    taken: asyncio.Future[tuple[Caller, bool]]


class Plays:
    """Settles who listens and whose the playlist is, stores plays durably, and rings for their count (P25)."""

    def __init__(self, database: Database, callers: Callers, inbox: Inbox, ring: Callable[[str, float], None]) -> None:
        self._database, self._callers, self._inbox, self._ring = database, callers, inbox, ring
        self._waiting: list[_Play] = []
        self._under_way: set[asyncio.Task[None]] = set()
        self._begins = False

    async def take(self, subject: str, playlist_id: int, play_id: UUID) -> tuple[Caller, bool]:
        """Return who listens, and whether there is such a playlist.

        The play is durable by then if there is, and if the listener is live; else it is not stored. Raises what
        `Callers.find`, `Database.read` and `Inbox.put` raise.
        """
        if len(self._waiting) >= MOST_WAITING:
            raise Overloaded("too many plays wait to be stored")
        loop = asyncio.get_running_loop()
        play = _Play(subject, playlist_id, play_id, loop.create_future())
        self._waiting.append(play)
        if not self._begins and len(self._under_way) < AT_ONCE:
            self._begins = True
            loop.call_soon(self._begin)  # after all that this turn of the event loop brings
        return await play.taken

    def _begin(self) -> None:
        self._begins = False
        together, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
        if together:
            task = asyncio.get_running_loop().create_task(self._answer(together))
            self._under_way.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if self._waiting and not self._begins:
            self._begin()

    async def _answer(self, together: Sequence[_Play]) -> None:
        """Store these plays and answer each; what fails, fails for all that wait: nobody waits for longer than it takes."""
        try:
            callers, owners = await asyncio.gather(
                self._callers.find_all({play.subject for play in together}),
                self._owners({play.playlist_id for play in together}),
            )
            lines = [
                plays.encode(plays.Play(callers[play.subject].user_id, owner, play.playlist_id, play.play_id))
                for play in together
                if (owner := owners.get(play.playlist_id)) and callers[play.subject].standing is Standing.LIVE
            ]
            if lines:
                await self._inbox.put(plays.SOURCE, b"\n".join(lines))
                self._ring("drain", plays.COUNTED_WITHIN)
        except Exception as error:  # noqa: BLE001 whatever it is, it is answered to those who asked
            failed, self._waiting = [*together, *self._waiting], []
            for play in failed:
                if not play.taken.done():
                    play.taken.set_exception(type(error)(*error.args))
            return
        for play in together:
            if not play.taken.done():
                play.taken.set_result((callers[play.subject], play.playlist_id in owners))

    async def _owners(self, playlists: Collection[int]) -> dict[int, str]:
        """Return whose these playlists are, an alias resolved to its primary."""
        return dict(await self._database.read(_OWNERS, {"asked": list(playlists)}))
