"""The files of finished exports, behind links that need no token and do not last."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from simulator.faults import Fault
from simulator.management import delayed_or_lost
from simulator.tenant import Tenant

_CHUNK_BYTES = 65_536
_SPOILS_THE_ANSWER = frozenset({"status", "expire", "hang", "drop", "delay"})


def routes(tenant: Tenant) -> list[Route]:
    return [Route("/exports/{name}", Download(tenant), methods=["GET", "HEAD"])]


class Download:
    """`GET /exports/{name}?key=…`: an ASGI application because faults may cut its connection."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        struck = self._tenant.faults.strike("export", request.method, request.url.path, _SPOILS_THE_ANSWER)
        kinds = {fault.kind: fault for fault in struck}
        waits = [fault for fault in struck if fault.kind == "hang"]
        with suppress(ClientDisconnect):
            if not await delayed_or_lost(waits, scope, receive):
                await self._response(request, kinds)(scope, receive, send)

    def _response(self, request: Request, kinds: dict[str, Fault]) -> Response:
        """Answer as a store of files behind signed links does, in XML when it refuses."""
        if "status" in kinds:
            return _refusal(kinds["status"].status, "InternalError", "A fault was set")
        if "authorization" in request.headers:
            return _refusal(400, "InvalidArgument", "Only one auth mechanism allowed")
        path = self._tenant.jobs.file_behind(request.query_params.get("key", ""))
        if path is None or path.name != request.path_params["name"] or "expire" in kinds:
            return _refusal(403, "AccessDenied", "Request has expired")
        if kinds.keys() & {"drop", "delay"}:
            return _Spoiled(path, kinds, request)
        return FileResponse(path, media_type="application/octet-stream")


class _Spoiled(StreamingResponse):
    """Sends a file slowly, or only the first half of it."""

    def __init__(self, path: Path, kinds: dict[str, Fault], request: Request) -> None:
        self._path = path
        self._kinds = kinds
        self._abort = request.scope["extensions"]["simulator.transport"]["abort"]
        length = {"Content-Length": str(path.stat().st_size)}
        super().__init__(self._chunks(), headers=length, media_type="application/octet-stream")

    async def _chunks(self) -> AsyncIterator[bytes]:
        half = self._path.stat().st_size // 2
        with self._path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                if "delay" in self._kinds:
                    await asyncio.sleep(self._kinds["delay"].seconds or 1)
                if "drop" in self._kinds and file.tell() >= half:
                    yield chunk[: len(chunk) // 2]
                    await asyncio.sleep(0)
                    self._abort()
                    await asyncio.sleep(1)  # the connection's end cuts this short
                    return
                yield chunk


def _refusal(status: int, code: str, message: str) -> Response:
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return Response(body, status, media_type="application/xml")
