"""Writes a batch of deliveries in one statement, with as little of the event loop's time as there is.

A cursor's Python costs twice what libpq's own calls do, and single-event deliveries feel it: docs/performance.md has the figure.
"""

import struct
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import errors, generators, pq

Connection = psycopg.AsyncConnection[Any]

# Few columns are arrays: each element has its price. What compression made smaller is zstd.
_INSERT = b"""
INSERT INTO inbox (source, state, error, encoding, size, body)
SELECT $1::text, $2::text, $3::text, CASE WHEN octet_length(body) < size THEN 'zstd' ELSE 'identity' END, size, body
FROM unnest($4::int4[], $5::bytea[]) AS delivery (size, body)
"""
_NAME = b"insert_deliveries"

_INT4, _BYTEA = psycopg.adapters.types["int4"].oid, psycopg.adapters.types["bytea"].oid
# PostgreSQL's binary format of an array of one dimension: dimensions, whether there are nulls, the elements' type, how many, the first
# index; then each element after its length in bytes, null as -1.
_HEAD, _LENGTH, _NUMBER = struct.Struct("!iiIii"), struct.Struct("!i"), struct.Struct("!ii")
_NULL = _LENGTH.pack(-1)


async def prepare(connection: Connection) -> None:
    """Prepare the statement, once for each connection."""
    connection.pgconn.send_prepare(_NAME, _INSERT)
    await _finish(connection)


async def insert(
    connection: Connection,
    source: str,
    state: str,
    error: str | None,
    sizes: Sequence[int],
    bodies: Sequence[bytes | None],
) -> None:
    """Insert deliveries that differ in size and body alone; committed when it returns. Raises psycopg.Error."""
    texts = [source.encode(), state.encode(), None if error is None else error.encode()]
    numbers = _array(_INT4, [_NUMBER.pack(4, size) for size in sizes], nulls=False)
    values = [_NULL if body is None else _LENGTH.pack(len(body)) + body for body in bodies]
    parameters = [*texts, numbers, _array(_BYTEA, values, nulls=None in bodies)]
    connection.pgconn.send_query_prepared(_NAME, parameters, [pq.Format.BINARY] * len(parameters))
    await _finish(connection)


def _array(oid: int, elements: Sequence[bytes], *, nulls: bool) -> bytes:
    return _HEAD.pack(1, nulls, oid, len(elements), 1) + b"".join(elements)


async def _finish(connection: Connection) -> None:
    [result] = await connection.wait(generators.execute(connection.pgconn))
    if result.status != pq.ExecStatus.COMMAND_OK:
        raise errors.error_from_result(result)
