"""A route of the music app's API, declared once: routing, decoding and openapi.json are all made of an `Operation`."""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any, Final, Generic, TypeVar

import msgspec
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from api.bodies import Disconnected, Oversize, Room, SlowSender, read_body
from api.fields import MAX_BODY_BYTES, Body, Query, read_body as decode_body, read_query
from api.problems import Problem, problem
from api.tokens import Verifier
from worker.errors import Error, Transient
from worker.music import Caller, Callers, Database, Mirror, Standing, WasForgotten
from worker.music.plays import Plays
from worker.queue import Doorbell

Given = TypeVar("Given", bound=Body | Query)

# Whatever is about a person is for that person alone.
GONE: Final = "This account no longer exists."
_PRIVATE: Final = {"Cache-Control": "no-store"}
_ID: Final = re.compile(r"[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class Music:
    """What the routes reach for; it lives as long as the application."""

    verifier: Verifier
    database: Database
    callers: Callers
    mirror: Mirror
    plays: Plays
    doorbell: Doorbell
    default_name: str


@dataclass(frozen=True, slots=True)
class Call(Generic[Given]):
    """A request with a good token: whose, the `id` in its path (0 where it has none), and what it gave, decoded."""

    music: Music
    subject: str
    id: int
    given: Given
    accept: str

    async def caller(self) -> Caller:
        """Return who calls; raises Problem 403 for somebody deleted or blocked, and what `Callers.find` raises."""
        return admitted(await self.music.callers.find(self.subject))


@dataclass(frozen=True)
class Operation(Generic[Given]):
    """What a method does at a path.

    `takes` is the type of the body or of the query, `answers` that of the JSON answered with `status`; None for an answer
    without a body, or one that `act` makes itself (`media` says of which types). `refuses`: the statuses beside those that
    every operation has.
    """

    method: str
    path: str
    act: Callable[[Call[Given]], Awaitable[object]]
    summary: str
    takes: type[Given]
    answers: Any = None
    status: int = 200
    media: tuple[str, ...] = ()
    refuses: tuple[int, ...] = ()
    empty: bool = False  # may also answer 204

    @cached_property
    def has_body(self) -> bool:
        """Whether it takes a body, rather than a query."""
        return issubclass(self.takes, Body)

    @cached_property
    def nothing(self) -> Response:
        """What it answers without a body; one for all, as nothing in it changes."""
        return Response(status_code=self.status, headers=_PRIVATE)

    @cached_property
    def parameter(self) -> str:
        """The name of the id in its path, "" where it has none."""
        found = re.search(r"\{(\w+)\}", self.path)
        return found[1] if found else ""


class Resource:
    """What is at one path, as an ASGI application: finds the operation of the method, decodes, acts, answers."""

    def __init__(self, operations: Sequence[Operation[Any]], music: Music, room: Room) -> None:
        self._operations = {operation.method: operation for operation in operations}
        if "GET" in self._operations:
            self._operations["HEAD"] = self._operations["GET"]
        self._allow = ", ".join(sorted({*self._operations, "OPTIONS"}))
        self._music, self._room = music, room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, refusals and PostgreSQL's absence too; only a bug gets through."""
        operation = self._operations.get(scope["method"])
        if operation is not None:
            try:
                response = await self._answer(operation, scope, receive)
            except Disconnected:
                return
            except Problem as error:
                response = problem(error.status, error.detail, error.headers, error.errors)
            except WasForgotten:
                response = problem(403, GONE)
            except Transient as error:
                response = problem(503, f"{error}: try again.", {"Retry-After": "5"})
            except Error:  # the log says which; the caller can do nothing about it
                response = problem(503, "This service needs its operator.", {"Retry-After": "60"})
        elif scope["method"] == "OPTIONS":
            response = Response(status_code=204, headers={"Allow": self._allow})
        else:
            response = problem(405, headers={"Allow": self._allow})
        await response(scope, receive, send)

    async def _answer(self, operation: Operation[Any], scope: Scope, receive: Receive) -> Response:
        claims = await self._music.verifier.authenticate(scope)
        accept, content_type, encoding = _headers(scope)
        if operation.has_body:
            given = decode_body(operation.takes, await self._body(receive, content_type, encoding))
        else:
            given = read_query(operation.takes, scope["query_string"])
        number = path_id(scope["path_params"][operation.parameter]) if operation.parameter else 0
        answer = await operation.act(Call(self._music, claims.user_id, number, given, accept))
        if isinstance(answer, Response):
            return answer
        if answer is None:
            return operation.nothing
        return Response(msgspec.json.encode(answer), operation.status, _PRIVATE, "application/json")

    async def _body(self, receive: Receive, content_type: str, encoding: str) -> bytes:
        if content_type.partition(";")[0].strip().lower() != "application/json":
            raise Problem(415, "The body must be sent as Content-Type: application/json.")
        if encoding not in ("", "identity"):
            raise Problem(415, "The body must be sent without a Content-Encoding.")
        try:
            return await read_body(receive, MAX_BODY_BYTES, self._room)
        except Oversize:
            raise Problem(413, f"The body is larger than {MAX_BODY_BYTES} bytes.") from None
        except SlowSender:
            raise Problem(408, "The body came too slowly.", {"Connection": "close"}) from None


def routes(operations: Sequence[Operation[Any]], music: Music) -> list[Route]:
    """Return the routes, one for each path; paths that are alike come in the order of the operations."""
    room = Room()
    paths = list(dict.fromkeys(operation.path for operation in operations))
    ordered = sorted(operations, key=lambda operation: paths.index(operation.path))
    return [
        Route(path, Resource(list(found), music, room))
        for path, found in groupby(ordered, key=lambda operation: operation.path)
    ]


def admitted(caller: Caller) -> Caller:
    """Return a caller who may go on; raises Problem 403 for the others."""
    if caller.standing is Standing.GONE:
        raise Problem(403, GONE)
    if caller.standing is Standing.BLOCKED:
        raise Problem(403, "This account is blocked.")
    return caller


def missing(what: str) -> Problem:
    """Return the 404 for what is not there, or not the caller's: the two look alike."""
    return Problem(404, f"There is no such {what}.")


def _headers(scope: Scope) -> tuple[str, str, str]:
    """Return Accept, Content-Type and Content-Encoding, "" where there is none."""
    accept = content_type = encoding = ""
    for name, value in scope["headers"]:
        if name == b"accept":
            accept = value.decode("latin-1")
        elif name == b"content-type":
            content_type = value.decode("latin-1")
        elif name == b"content-encoding":
            encoding = value.decode("latin-1").strip().lower()
    return accept, content_type, encoding


def path_id(text: str) -> int:
    """Return the id in a path; raises Problem 404 for what cannot be one."""
    if not _ID.fullmatch(text) or int(text) >= 2**63:
        raise Problem(404, "There is nothing of this id.")
    return int(text)
