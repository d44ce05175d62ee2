"""Reads a request's body within bounds of size, time and memory, and undoes its encoding."""

import asyncio
import zlib
from collections.abc import Iterator
from typing import Self

from starlette.types import Receive

from worker.errors import Transient

# A sender has so many seconds, and one more for each 50 KB that came. In all fewer than the process has after SIGTERM (the
# Procfile's 23 s, of Heroku's 30), storing included: whoever sends then still gets an answer.
GRACE, SLOWEST, LONGEST = 5.0, 50_000, 20.0
# Bodies being received at once, in bytes for the whole process.
MOST_BYTES = 64 * 1024 * 1024
# A packed body this large is unpacked in a thread: it could become a thousand times as much, and would hold up everyone
# else for milliseconds. Each such thread may hold two bodies of the largest size.
LARGE, UNPACKING = 4 * 1024, 2
_STEP = 256 * 1024


class Disconnected(Exception):
    """The client left before its body was complete."""


class SlowSender(Exception):
    """The body came too slowly."""


class Oversize(Exception):
    """The body is larger than may be kept: `size` bytes were seen of it; the text says so."""

    def __init__(self, size: int, text: str) -> None:
        super().__init__(text)
        self.size = size


class NoRoom(Transient):
    """Too many bodies are being received at once."""


class Undecodable(Exception):
    """The body is not what its Content-Encoding says, or that is one we do not know."""


class Room:
    """The bytes of bodies that are being received, or wait to be unpacked; shared by all requests of a route."""

    def __init__(self, most: int = MOST_BYTES) -> None:
        self._left = most
        self.unpacking = asyncio.Semaphore(UNPACKING)

    def take(self, size: int) -> None:
        """Raise NoRoom if there is no room for `size` more bytes."""
        if size > self._left:
            raise NoRoom("too many deliveries are being received at once")
        self._left -= size

    def give_back(self, size: int) -> None:
        """Bytes that were taken are free again."""
        self._left += size


async def read_body(receive: Receive, limit: int, room: Room) -> bytes:
    """Return the body as it came, at most `limit` bytes. An oversize one is read to its end, and forgotten.

    Raises Oversize, SlowSender, Disconnected, NoRoom.
    """
    chunks: list[bytes] = []
    size = held = 0
    try:
        with _Deadline() as deadline:
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise Disconnected
                chunk: bytes = message.get("body", b"")
                size += len(chunk)
                if size <= limit:
                    room.take(len(chunk))
                    held += len(chunk)
                    chunks.append(chunk)
                elif chunks:
                    chunks.clear()
                    room.give_back(held)
                    held = 0
                if not message.get("more_body", False):
                    break
                deadline.move(min(GRACE + size / SLOWEST, LONGEST))
    except TimeoutError:
        if size > limit:  # seen enough of it; refusing would only make the sender repeat it
            raise _oversize(size) from None
        raise SlowSender from None
    finally:
        room.give_back(held)
    if size > limit:
        raise _oversize(size)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


class _Deadline:
    """Raises TimeoutError inside its `with` after GRACE. `asyncio.timeout` does the same for three times the price.

    Nearly every body is there before it is asked for: then the timer is all that reading it costs (docs/performance.md).
    """

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task(self._loop)
        self._late = False
        self._start = self._loop.time()
        self._timer = self._loop.call_at(self._start + GRACE, self._give_up)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._timer.cancel()
        if self._late and self._task is not None and self._task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise TimeoutError

    def move(self, seconds: float) -> None:
        """Let it be so many seconds after the start."""
        self._timer.cancel()
        self._timer = self._loop.call_at(self._start + seconds, self._give_up)

    def _give_up(self) -> None:
        self._late = True
        if self._task is not None:
            self._task.cancel()


def _oversize(size: int) -> Oversize:
    return Oversize(size, f"oversize, not kept, {size} bytes")


async def undo(encoding: str, body: bytes, limit: int, room: Room) -> bytes:
    """Return `body`, just read, without its Content-Encoding, never making more than `limit` bytes of it.

    Raises Undecodable, or Oversize where it is larger than that.
    """
    if len(body) < LARGE:
        return _undo(encoding, body, limit)
    room.take(len(body))  # what `read_body` has just given back, so there is room
    try:
        async with room.unpacking:
            return await asyncio.to_thread(_undo, encoding, body, limit)
    finally:
        room.give_back(len(body))


def _undo(encoding: str, body: bytes, limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    try:
        for chunk in _unpack(encoding, body):
            size += len(chunk)
            if size > limit:
                raise Oversize(
                    size, f"oversize, not kept, {len(body)} bytes of {encoding} that unpack to more than {limit} bytes"
                )
            chunks.append(chunk)
    except zlib.error:
        raise Undecodable from None
    return b"".join(chunks)


def _unpack(encoding: str, body: bytes) -> Iterator[bytes]:
    if encoding in ("gzip", "x-gzip"):
        window = 16 + zlib.MAX_WBITS
    elif encoding == "deflate":
        # RFC 9110 means zlib's wrapping; some senders leave it out.
        window = zlib.MAX_WBITS if body[:1] and body[0] & 0x0F == 8 else -zlib.MAX_WBITS
    else:
        raise Undecodable
    while body:  # gzip allows several members after each other
        unpacker = zlib.decompressobj(window)
        while body and not unpacker.eof:
            yield unpacker.decompress(body, _STEP)
            body = unpacker.unconsumed_tail or unpacker.unused_data
        if not unpacker.eof:
            raise Undecodable
