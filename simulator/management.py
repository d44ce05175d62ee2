"""The gate of the Management API: faults, tokens, rate limits, scopes, routing, and the `sapi` record of each write."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from simulator import forms, rate_limits
from simulator.errors import ApiError, insufficient_scope, invalid_body, no_such_user, too_many_requests
from simulator.faults import Fault
from simulator.journal import ApiRequest
from simulator.rate_limits import Grant
from simulator.tenant import Tenant

MAX_BODY_BYTES = 1_048_576
"""Auth0 takes 1 MB per request (Management API rate limit policy)."""

LOGIN_PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body><form>Log in</form></body></html>"


@dataclass
class Call:
    """One Management API call, taken apart."""

    method: str
    path: str
    template: str
    params: dict[str, str]
    query: dict[str, str]
    body: Any
    claims: dict[str, Any]
    pairs: list[tuple[str, str]] = field(default_factory=list)
    """The query with every repetition."""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Answer:
    """What a handler answers: anything msgspec encodes, or bytes of JSON as they are."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    response: Response | None = None
    """A response of its own kind, in place of JSON."""

    def encoded(self) -> bytes:
        if self.body is None:
            return b""
        return self.body if isinstance(self.body, bytes) else msgspec.json.encode(self.body)


@dataclass(frozen=True)
class Endpoint:
    """A method on a path template (`/api/v2/users/{id}`) and any scope that opens it."""

    method: str
    template: str
    scopes: tuple[str, ...]
    handle: Callable[[Call], Answer]

    @property
    def pattern(self) -> re.Pattern[str]:
        return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", self.template))


class ManagementApi:
    """An ASGI application that serves `/api/v2`."""

    def __init__(self, tenant: Tenant, endpoints: list[Endpoint]) -> None:
        self._tenant = tenant
        self._endpoints = [(endpoint, endpoint.pattern) for endpoint in endpoints]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        path = scope["raw_path"].decode("ascii", "replace").partition("?")[0]
        struck = self._tenant.faults.strike("api", request.method, path)
        with suppress(ClientDisconnect):  # whoever waited too long for a delayed answer
            if not await delayed_or_lost(struck, scope, receive):
                response = await self._answer(request, path, struck)
                await response(scope, receive, send)

    async def _answer(self, request: Request, path: str, struck: list[Fault]) -> Response:
        stats = self._tenant.stats
        endpoint, params = self._find(request.method, path)
        template = endpoint.template if endpoint is not None else path if len(path) < 40 else "/…"
        stats.api_calls[f"{request.method} {template}"] += 1
        group, grant = rate_limits.group_of(request.method, path), None
        try:
            claims = self._tenant.authority.verify(request.headers.get("authorization"))
            grant = self._tenant.limits.take(group)
            response = await self._granted(request, path, endpoint, params, claims, grant, struck)
        except ApiError as error:
            response = _json(error.status, msgspec.json.encode(error.body))
        grant = grant or self._tenant.limits.take(group, tokens=0)
        response.raw_headers.extend(grant.headers())
        stats.api_statuses[str(response.status_code)] += 1
        return response

    async def _granted(
        self, request: Request, path: str, endpoint: Endpoint | None, params: dict[str, str], claims: dict[str, Any],
        grant: Grant, struck: list[Fault],
    ) -> Response:  # fmt: skip
        self._tenant.note_grant(grant)
        if not grant.granted:
            raise too_many_requests()
        broken = broken_answer(struck)
        if broken is not None:
            return broken
        if endpoint is None:
            raise ApiError(404, "Not Found")
        if not set(endpoint.scopes) & set(claims["scope"].split()):
            raise insufficient_scope(endpoint.scopes)
        body = await _body_of(request)
        pairs = parse_qsl(request.url.query, keep_blank_values=True)
        call = Call(request.method, path, endpoint.template, params, dict(pairs), body, claims, pairs, request.headers)
        correlation = (request.headers.get("x-correlation-id") or "")[:64] or None
        try:
            answer = endpoint.handle(call)
        except ApiError as error:
            self._log(call, Answer(error.body, error.status), correlation)
            raise
        self._log(call, answer, correlation)
        return answer.response or _json(answer.status, answer.encoded(), answer.headers)

    def _find(self, method: str, path: str) -> tuple[Endpoint | None, dict[str, str]]:
        for endpoint, pattern in self._endpoints:
            if endpoint.method == method and (match := pattern.fullmatch(path)):
                return endpoint, {name: unquote(value) for name, value in match.groupdict().items()}
        return None, {}

    def _log(self, call: Call, answer: Answer, correlation: str | None) -> None:
        """Write the `sapi` of a write, or its `fapi`. Reads leave no record."""
        if call.method != "GET":
            asked = ApiRequest(call.method, call.template, call.path, call.body, call.query)
            self._tenant.journal.api_call(asked, answer.status, answer.body, call.claims, correlation)


async def _body_of(request: Request) -> Any:
    raw = b""
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > MAX_BODY_BYTES:
            raise ApiError(413, f"Payload content length greater than maximum allowed: {MAX_BODY_BYTES}")
    if not raw:
        return None
    content_type = request.headers.get("content-type", "")
    if forms.is_form(content_type):
        return forms.parts_of(content_type, raw)
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ApiError(400, "Invalid request payload JSON format") from None


def required_body(call: Call) -> dict[str, Any]:
    """Answer the call's body when it is an object. ApiError 400 otherwise."""
    if not isinstance(call.body, dict):
        raise invalid_body("Expected type object but found type undefined")
    return call.body


async def delayed_or_lost(struck: list[Fault], scope: Scope, receive: Receive) -> bool:
    """Carry out the faults that concern the connection; True when no answer is to be sent any more."""
    for fault in struck:
        if fault.kind == "delay":
            await asyncio.sleep(fault.seconds or 1)
        elif fault.kind == "drop":
            await _abort(scope, receive)
            return True
        elif fault.kind == "hang":
            await _until_disconnected(receive, fault.seconds or 60)
            await _abort(scope, receive)
            return True
    return False


async def _abort(scope: Scope, receive: Receive) -> None:
    scope["extensions"]["simulator.transport"]["abort"]()
    await _until_disconnected(receive, 1)


async def _until_disconnected(receive: Receive, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            while (await receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        pass


def broken_answer(struck: list[Fault]) -> Response | None:
    """Make the answer that a fault puts in place of the real one."""
    for fault in struck:
        if fault.kind == "missing_user":
            return _json(404, msgspec.json.encode(no_such_user().body))
        if fault.kind == "html":
            return Response(LOGIN_PAGE, fault.status if fault.status != 500 else 200, media_type="text/html")
        if fault.kind == "status":
            error = (
                too_many_requests()
                if fault.status == 429
                else ApiError(fault.status, fault.message or "A fault was set")
            )
            return _json(fault.status, msgspec.json.encode(error.body))
    return None


def _json(status: int, body: bytes, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, headers, media_type="application/json; charset=utf-8")
