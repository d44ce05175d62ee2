"""The least a load of an export can do: gunzip, parse, and COPY into `users` with its columns and indexes, in one transaction.

A process of its own: `python -m bench.copy FILE ANSWER`: an export, and a file where the seconds it took go. Nothing is
compared, checked or resumable; the columns are those that the backfill fills.
"""

import gzip
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psycopg

from worker.store.users import COLUMNS

_JSON = ("identities", "user_metadata", "app_metadata", "multifactor")
_SCALARS = tuple(name for name in COLUMNS if name not in (*_JSON, "profile"))
# The parser reads what the columns need and leaves the rest as it is: nothing is decoded to be encoded again.
_Profile = msgspec.defstruct(
    "_Profile",
    [
        ("user_id", str),
        *((name, Any, None) for name in _SCALARS),
        *((name, msgspec.Raw, msgspec.Raw(b"")) for name in _JSON),
    ],
    gc=False,
)
_DECODER = msgspec.json.Decoder(_Profile)
_COPY = f"COPY users (user_id, {', '.join((*_SCALARS, *_JSON))}, profile, version, synced_at) FROM STDIN"


def main() -> None:
    """Load the file and say how many seconds it took."""
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        begun = time.perf_counter()
        with gzip.open(sys.argv[1]) as lines, connection.cursor().copy(_COPY) as copy:
            for row in _rows(lines):
                copy.write_row(row)
        connection.commit()
        Path(sys.argv[2]).write_text(str(time.perf_counter() - begun))


def _rows(lines: Any) -> Iterator[list[Any]]:
    for line in lines:
        said: Any = _DECODER.decode(line)
        row = [said.user_id, *(getattr(said, name) for name in _SCALARS)]
        row += [bytes(raw).decode() if (raw := getattr(said, name)) else None for name in _JSON]
        yield [*row, line.decode(), 1, "now"]


if __name__ == "__main__":
    main()
