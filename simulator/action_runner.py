"""Runs the code of Actions in node, each time in a process of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

_HOST = Path(__file__).with_name("action_host.js")
SECONDS = 20.0
"""Auth0 gives all Actions of one login so long together (Actions limitations)."""

NO_NODE = "This simulator runs Actions in node, and there is no node on its PATH"


@dataclass(frozen=True)
class Code:
    """A deployed Action as it is run."""

    name: str
    code: str
    secrets: dict[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Outcome:
    """What the Actions of one login asked for. `error`: one of them failed, or could not be run at all."""

    error: str | None = None
    denied: str | None = None
    access_claims: dict[str, Any] = field(default_factory=dict)
    id_claims: dict[str, Any] = field(default_factory=dict)
    app_metadata: dict[str, Any] = field(default_factory=dict)
    user_metadata: dict[str, Any] = field(default_factory=dict)
    console: list[str] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)


def find_node() -> str | None:
    return shutil.which("node")


async def check(code: str) -> str | None:
    """Compile a piece of code; what is wrong with it, if anything is."""
    return (await _ask({"check": code})).error


async def run(actions: list[Code], event: dict[str, Any], seconds: float = SECONDS) -> Outcome:
    """Run the Actions one after the other, until one fails or denies access."""
    return await _ask({"actions": actions, "event": event}, seconds)


async def _ask(asked: dict[str, Any], seconds: float = SECONDS) -> Outcome:
    node = find_node()
    if node is None:
        return Outcome(error=NO_NODE)
    process = await asyncio.create_subprocess_exec(
        node, str(_HOST), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ.get("PATH", "")},
    )  # fmt: skip
    try:
        async with asyncio.timeout(seconds):
            out, err = await process.communicate(msgspec.json.encode(asked))
    except TimeoutError:
        return Outcome(error=f"The Actions did not end within {seconds:g} seconds")
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    try:
        return msgspec.json.decode(out.rsplit(b"\n", 1)[-1], type=Outcome)
    except msgspec.DecodeError:
        last = err.decode(errors="replace").strip().splitlines()[-1:] or ["no answer"]
        return Outcome(error=f"node ended with {process.returncode}: {last[0]}")
