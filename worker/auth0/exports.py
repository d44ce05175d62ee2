"""Exports of a whole tenant: a job is asked for, waited for, and its file read line by line, compressed or not.

Source: auth0.com/docs, "Bulk User Exports". A file's link is good for 60 seconds, so it is asked for right before it is
opened; a finished job is kept for a day.
"""

import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx
import msgspec

from worker.auth0.client import NO_RETRIES, Tenant
from worker.auth0.transport import Answer, NotUsable
from worker.errors import Permanent, TenantDown
from worker.settings import Settings
from worker.trust import trust

# What is asked for, and so what an export covers (P2): every root attribute that Auth0 documents.
FIELDS: Final = (
    *("user_id", "email", "email_verified", "username", "phone_number", "phone_verified"),
    *("name", "given_name", "family_name", "nickname", "picture", "blocked"),
    *("created_at", "updated_at", "last_login", "last_ip", "logins_count", "last_password_reset"),
    *("identities", "user_metadata", "app_metadata", "multifactor"),
)
COVERS: Final = frozenset(FIELDS)

# A profile is at most 10 KB, for old tenants more; a line of this many bytes is no profile.
LONGEST_LINE: Final = 16 * 1024 * 1024
_CHUNK: Final = 256 * 1024
_GZIP: Final = b"\x1f\x8b"


class JobGone(Permanent):
    """Auth0 has no such job any more: it keeps one for 24 hours."""


class NoExport(Permanent):
    """There is no export to be had: the plan, a scope or Auth0 itself refuses it."""


class FileLost(TenantDown):
    """The file of a complete export cannot be had, or not to its end: where it lies is not where the Management API is."""


class JobFailed(NoExport):
    """Auth0 gave the job up."""


@dataclass(frozen=True, slots=True)
class Job:
    """How far an export is; `location` once it is complete. The link is a secret: it opens the file for whoever has it."""

    id: str
    done: bool
    location: str
    percentage: float | None

    def __repr__(self) -> str:
        return f"<export {self.id}, {'complete' if self.done else 'under way'}>"


class Exports:
    """The export jobs of a tenant. Callers take from the budget before they ask: one token of "other" per method."""

    def __init__(self, tenant: Tenant, settings: Settings) -> None:
        self._tenant, self._settings = tenant, settings

    def begin(self) -> Job:
        """Ask for an export of all users; raises NoExport where Auth0 refuses it."""
        fields: Any = [{"name": name} for name in FIELDS]
        found = self._tenant.ask(
            "other",
            "read:users",
            lambda api: api.jobs.users_exports.create(format="json", fields=fields, request_options=NO_RETRIES),
            _read_job_or_refusal,
        )
        if isinstance(found, Answer):
            said = f"{found.status} {found.code('errorCode', 'error')}".rstrip()
            raise NoExport(f"Auth0 refuses to export this tenant's users ({said})")
        return found

    def look(self, job_id: str) -> Job:
        """Return how far a job is, with a new link if it is complete; raises JobGone or JobFailed."""
        found = self._tenant.ask(
            "other", "read:users", lambda api: api.jobs.get(job_id, request_options=NO_RETRIES), _read_job_or_none
        )
        if found is None:
            raise JobGone("Auth0 no longer has the export")
        return found

    def lines(self, job: Job) -> Generator[bytes, None, None]:
        """Yield the lines of a complete job's file, memory flat; raises FileLost where it cannot be read to its end."""
        try:
            with self._opened(job.location) as response:
                yield from _lines(_unpacked(response.iter_raw(_CHUNK)))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise FileLost(f"the export could not be read: {type(error).__name__}") from None

    @contextmanager
    def _opened(self, location: str) -> Iterator[httpx.Response]:
        # No bearer token goes there: the file lies elsewhere, and its link is all it takes.
        seconds = self._settings.auth0_timeout.total_seconds()
        with (
            httpx.Client(verify=trust(self._settings), timeout=max(seconds, 30.0)) as client,
            client.stream("GET", location, headers={"Accept-Encoding": "identity"}) as response,
        ):
            if response.status_code != 200:
                raise FileLost(f"the export's link answered {response.status_code}")
            yield response


def _unpacked(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Undo gzip if it is gzip: Auth0 does not say, and proxies change their minds. FileLost where it ends too early."""
    first = next(chunks, b"")
    if not first.startswith(_GZIP):
        yield first
        yield from chunks
        return
    unpacker = zlib.decompressobj(wbits=31)
    chunk: bytes | None = first
    try:
        while chunk is not None:
            pending = chunk
            while pending:
                yield unpacker.decompress(pending, _CHUNK * 8)
                pending = unpacker.unconsumed_tail
                if unpacker.eof and unpacker.unused_data:
                    pending, unpacker = unpacker.unused_data, zlib.decompressobj(wbits=31)
            chunk = next(chunks, None)
    except zlib.error:
        raise FileLost("the export's file is damaged") from None
    if not unpacker.eof:
        raise FileLost("the export's file ends too early")


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line for line in whole if line.strip())
        if len(rest) > LONGEST_LINE:
            raise FileLost("the export holds a line that is no profile")
    if rest.strip():
        if _torn(rest):
            raise FileLost("the export's file ends in the middle of a line")
        yield rest


def _torn(line: bytes) -> bool:
    try:
        msgspec.json.decode(line, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return True
    return False


def _read_job(answer: Answer) -> Job:
    body = answer.json_object()
    if answer.status not in (200, 201, 202) or body is None or not isinstance(body.get("id"), str):
        raise NotUsable
    status, location = body.get("status"), body.get("location")
    if status == "failed":
        raise JobFailed("Auth0 gave the export up (failed)")
    done = status == "completed" and isinstance(location, str)
    percentage = body.get("percentage_done")
    return Job(
        body["id"], done, str(location) if done else "", percentage if isinstance(percentage, int | float) else None
    )


def _read_job_or_refusal(answer: Answer) -> Job | Answer:
    """Return the job, or the answer where Auth0 itself refuses one: no reason to stop asking for anything else."""
    body = answer.json_object()
    refused = 400 <= answer.status < 500 and answer.status not in (401, 429)
    return answer if refused and body is not None and body.get("statusCode") == answer.status else _read_job(answer)


def _read_job_or_none(answer: Answer) -> Job | None:
    body = answer.json_object()
    if answer.status == 404 and body is not None and body.get("statusCode") == 404:
        return None
    return _read_job(answer)
