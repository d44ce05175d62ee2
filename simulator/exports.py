"""User exports: every user into a file, one line each, read while the tenant goes on (Bulk User Exports, Auth0 docs)."""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
from msgspec import UNSET

from simulator.errors import invalid_body
from simulator.jobs import Job
from simulator.tenant import Tenant
from simulator.users import User

Column = tuple[str, Callable[[User], Any]]

_DEFAULT_FIELDS = ("user_id", "email", "name", "given_name", "family_name", "nickname", "picture", "email_verified", "phone_number", "phone_verified", "username", "created_at", "updated_at")  # fmt: skip
"""What is exported when nothing is asked for; Auth0 speaks of a predefined set and does not list it."""
MAX_CSV_FIELDS = 30
_WHOLE_OBJECTS = frozenset({"user_metadata", "app_metadata"})
_PATH = "/api/v2/jobs/users-exports"
_SPOILS_THE_FILE = frozenset({"fail", "truncate"})
_LOSES_A_USER = frozenset({"lose"})
_SLICE = 500
"""Users written between two turns of the event loop."""
_COMPRESSION = 1
_STEP = re.compile(r"(\w[\w-]*)|\[(\d+)\]|\[\"([^\"]+)\"\]")


def columns_of(fields: Any, format_: str) -> list[Column]:
    """What to write of each user, from the request's `fields`. ApiError 400 for what Auth0 would not take."""
    wanted = fields if fields is not None else [{"name": name} for name in _DEFAULT_FIELDS]
    if not isinstance(wanted, list) or not all(isinstance(f, dict) and isinstance(f.get("name"), str) for f in wanted):
        raise invalid_body("Invalid fields")
    if format_ == "csv" and (len(wanted) > MAX_CSV_FIELDS or any(f["name"] in _WHOLE_OBJECTS for f in wanted)):
        raise invalid_body(f"A CSV file has at most {MAX_CSV_FIELDS} fields, and no whole objects")
    return [(str(f.get("export_as") or f["name"]), _reader(f["name"])) for f in wanted]


async def export(tenant: Tenant, job: Job, columns: list[Column], *, connection: str | None, limit: int | None) -> None:
    """Write the file and complete the job; the users are those of its beginning, each as it is when it is read."""
    struck = {fault.kind for fault in tenant.faults.strike("export", "POST", _PATH, _SPOILS_THE_FILE)}
    compressed, format_ = tenant.jobs.pace.gzip, str(job.asked["format"])
    path = tenant.jobs.file_for(job, f".{format_}" + (".gz" if compressed else ""))
    user_ids = [user.user_id for user in tenant.users]
    job.total = len(user_ids)
    write = _csv_writer(columns) if format_ == "csv" else _json_writer(columns)
    loop = asyncio.get_running_loop()
    started, written = loop.time(), 0
    with _opened(path, compressed=compressed) as file:
        for start in range(0, len(user_ids), _SLICE):
            if "fail" in struck and start >= len(user_ids) // 2:
                break
            users = _present(tenant, user_ids[start : start + _SLICE], connection)
            users = users[: max(0, limit - written)] if limit is not None else users
            written += len(users)
            await asyncio.to_thread(file.write, write(users))
            job.done = min(job.total, start + _SLICE)
            await _keep_pace(started, tenant.jobs.pace.export_seconds * job.done / job.total)
        await _keep_pace(started, tenant.jobs.pace.export_seconds)
    if "fail" in struck:
        job.status, job.status_details = "failed", "The export could not be completed."
        return
    if "truncate" in struck:
        os.truncate(path, path.stat().st_size // 2)
    job.status = "completed"


def _present(tenant: Tenant, user_ids: list[str], connection: str | None) -> list[User]:
    found = [user for user_id in user_ids if (user := tenant.users.get(user_id)) is not None]
    if connection is not None:
        found = [user for user in found if any(i.connection == connection for i in user.identities)]
    return [user for user in found if not tenant.faults.strike("export", "GET", user.user_id, _LOSES_A_USER)]


async def _keep_pace(started: float, seconds: float) -> None:
    await asyncio.sleep(max(0.0, started + seconds - asyncio.get_running_loop().time()))


def _opened(path: Path, *, compressed: bool) -> BinaryIO | gzip.GzipFile:
    return gzip.open(path, "wb", _COMPRESSION) if compressed else path.open("wb")


def _json_writer(columns: list[Column]) -> Callable[[list[User]], bytes]:
    encode = msgspec.json.Encoder().encode

    def write(users: list[User]) -> bytes:
        lines = [
            encode({title: value for title, read in columns if (value := read(user)) is not UNSET}) for user in users
        ]
        return b"".join(line + b"\n" for line in lines)

    return write


def _csv_writer(columns: list[Column]) -> Callable[[list[User]], bytes]:
    """Strings begin with an apostrophe, so that no spreadsheet takes one for a formula."""
    titles = [title for title, _ in columns]

    def cell(value: Any) -> Any:
        shown = "" if value is UNSET else value if isinstance(value, str | bool | int) else msgspec.json.encode(value).decode()  # fmt: skip
        return f"'{shown}" if isinstance(shown, str) and shown else shown

    def write(users: list[User]) -> bytes:
        text = io.StringIO()
        lines = csv.writer(text)
        if titles:
            lines.writerow(titles)
            titles.clear()
        lines.writerows([cell(read(user)) for _, read in columns] for user in users)
        return text.getvalue().encode()

    return write


def _reader(name: str) -> Callable[[User], Any]:
    """Find what a field's name points at: `email`, `user_metadata.genre`, `identities[0].connection`."""
    steps: list[str | int] = [int(index) if index else word or quoted for word, index, quoted in _STEP.findall(name)]
    root = str(steps[0]) if steps else ""
    if root not in User.__struct_fields__:
        return lambda _: UNSET
    if len(steps) == 1:
        return lambda user: getattr(user, root)

    def read(user: User) -> Any:
        value = msgspec.to_builtins(getattr(user, root)) if root == "identities" else getattr(user, root)
        with suppress(KeyError, IndexError, TypeError):
            for step in steps[1:]:
                value = value[step]
            return value
        return UNSET

    return read
