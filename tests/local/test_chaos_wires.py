"""A wire carries, breaks and stalls."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from local.chaos.wires import Wire


@pytest.fixture
def echo() -> Iterator[int]:
    """A server that answers what it hears; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    threading.Thread(target=answer, args=(connection,), daemon=True).start()

        def answer(connection: socket.socket) -> None:
            with suppress(OSError), connection:
                while data := connection.recv(1024):
                    connection.sendall(data)

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def connected(wire: Wire) -> socket.socket:
    return socket.create_connection(("127.0.0.1", wire.port), timeout=10)


def test_it_carries_both_ways_and_ends_when_one_side_does(echo: int) -> None:
    with Wire(echo) as wire, connected(wire) as one:
        one.sendall(b"hello")
        assert one.recv(10) == b"hello"
        one.shutdown(socket.SHUT_WR)
        assert one.recv(10) == b""


def test_cut_it_breaks_what_is_under_way_and_nothing_later(echo: int) -> None:
    with Wire(echo) as wire:
        with connected(wire) as one:
            one.sendall(b"hello")
            one.recv(10)
            wire.cut()
            with suppress(ConnectionResetError):
                assert one.recv(10) == b""
        with connected(wire) as other:
            other.sendall(b"again")
            assert other.recv(10) == b"again"


def test_stalled_it_answers_nothing_until_it_flows(echo: int) -> None:
    with Wire(echo) as wire:
        wire.stall()
        with connected(wire) as one:
            one.sendall(b"hello")
            one.settimeout(0.3)
            with pytest.raises(TimeoutError):
                one.recv(10)
            wire.flow()
            one.settimeout(10)
            assert one.recv(10) == b"hello"


def test_where_nobody_listens_a_connection_ends_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with Wire(port) as wire, connected(wire) as one, suppress(ConnectionResetError):
        assert one.recv(10) == b""
