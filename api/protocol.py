"""HTTP/1.1 as uvicorn speaks it, but not for ever: whoever does not finish a request's head is cut off."""

from asyncio import Transport
from asyncio.events import TimerHandle

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# From the connection, or a head's first byte, to the head's end, in seconds. uvicorn bounds only the silence between two
# requests, so a client that sends a byte a minute would hold its connection, and a long header line the memory.
PATIENCE = 10.0
MOST_BYTES = 64 * 1024


class HeadInTime(HttpToolsProtocol):
    """The protocol of one connection; `uvicorn --http api.protocol:HeadInTime`."""

    _whole = False  # the head of the request that began last
    _served = False  # whether there was one before
    _size = 0
    _due: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first head."""
        super().connection_made(transport)
        self._due = self.loop.call_later(PATIENCE, self._cut_off)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any longer."""
        self._stop_waiting()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Note that a request begins."""
        self._whole = False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Note that its head is there."""
        self._whole = self._served = True
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Read on; a head that comes in one piece, as nearly all do, costs no timer."""
        super().data_received(data)
        if not self._waits():
            self._stop_waiting()
            return
        self._size += 0 if self._whole else len(data)  # not the rest of a body that was refused
        if self._size > MOST_BYTES:
            self.transport.close()
        elif self._due is None:
            self._due = self.loop.call_later(PATIENCE, self._cut_off)

    def _waits(self) -> bool:
        """Whether a head is due: one has begun, or what came belongs to no request that is still to be answered."""
        return not self._whole or self.cycle.response_complete

    def _stop_waiting(self) -> None:
        self._size = 0
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _cut_off(self) -> None:
        self._due = None
        if self._served and not self.cycle.response_complete:  # the one before it is still being answered
            self._due = self.loop.call_later(PATIENCE, self._cut_off)
        else:
            self.transport.close()
