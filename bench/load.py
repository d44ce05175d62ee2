"""Sends requests over many connections: `python -m bench.load PLAN ANSWER`, files; a process of its own, so that it costs the server little.

Plain asyncio streams of prepared bytes, keep-alive, one request at a time on each connection. PLAN (JSON): `port`, `token`, `connections`,
`seconds`, `bodies` (a file, each body after its length in 8 digits), `rate` (deliveries/s at fixed times; null: as fast as answers come). With
`status`, the bodies are whole requests and that is the answer that counts as accepted; else they are deliveries, answered 204. With `once`, each
is sent once, however long that takes.
ANSWER (JSON): `accepted`, `refused`, `begun` (UNIX), `seconds`, and with a rate `sent`, the time (UNIX) at which each body was due, in the order of the file.
"""

import asyncio
import itertools
import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvloop

# uvicorn closes a connection that is idle for 5 s.
_IDLE = 2.0
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


def main() -> None:
    """Carry out the plan."""
    plan = json.loads(Path(sys.argv[1]).read_text())
    bodies = list(read_bodies(Path(plan["bodies"])))
    requests = bodies if "status" in plan else [_request(plan["token"], body) for body in bodies]
    Path(sys.argv[2]).write_text(json.dumps(uvloop.run(_run(plan, requests))))


def write_bodies(path: Path, bodies: Iterator[bytes]) -> int:
    """Write bodies for a plan; return how many."""
    written = 0
    with path.open("wb") as file:
        for body in bodies:
            file.write(b"%08d" % len(body) + body)
            written += 1
    path.chmod(0o644)
    return written


def read_bodies(path: Path) -> Iterator[bytes]:
    """Yield what `write_bodies` wrote."""
    with path.open("rb") as file:
        while size := file.read(8):
            yield file.read(int(size))


def _request(token: str, body: bytes) -> bytes:
    head = f"POST /webhooks/auth0/logs HTTP/1.1\r\nHost: bench\r\nAuthorization: {token}\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def _connect(plan: dict[str, Any]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", plan["port"], limit=1 << 16)


async def _run(plan: dict[str, Any], requests: list[bytes]) -> dict[str, Any]:
    statuses: list[bool] = []
    rate = plan.get("rate")
    accepted = b"HTTP/1.1 %d" % plan.get("status", 204)
    begun, due = time.perf_counter(), time.time()
    end = begun + plan["seconds"]
    numbers = iter(range(max(2, int(rate * plan["seconds"])))) if rate else itertools.count()
    if plan.get("once"):
        numbers = iter(range(len(requests)))
    sent: list[float] = []

    async def send_on() -> None:
        reader, writer = await _connect(plan)
        answered = time.perf_counter()
        for number in numbers:
            if rate:
                sent.append(due + number / rate)
                await asyncio.sleep(begun + number / rate - time.perf_counter())
                if time.perf_counter() > answered + _IDLE:
                    writer.close()
                    reader, writer = await _connect(plan)
            elif time.perf_counter() > end and not plan.get("once"):
                break
            writer.write(requests[number % len(requests)])
            await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
            if length := _LENGTH.search(head):
                await reader.readexactly(int(length[1]))
            answered = time.perf_counter()
            statuses.append(head.startswith(accepted))
            if not statuses[-1]:
                break  # an error closes the connection; the count says so
        writer.close()

    await asyncio.gather(*(send_on() for _ in range(plan["connections"])))
    return {
        "accepted": sum(statuses),
        "refused": len(statuses) - sum(statuses),
        "begun": due,
        "seconds": time.perf_counter() - begun,
        "sent": sent,
    }


if __name__ == "__main__":
    main()
