"""Errors as callers see them: RFC 9457 problem details, without anything of ours or of a user's in them."""

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response


def problem(
    status: int,
    detail: str | None = None,
    headers: Mapping[str, str] | None = None,
    errors: Sequence[Mapping[str, str]] = (),
) -> Response:
    """Return an `application/problem+json` response; `detail` is one sentence, `errors` say which fields are meant."""
    content: dict[str, object] = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    if detail is not None:
        content["detail"] = detail
    if errors:
        content["errors"] = [*errors]
    return Response(json.dumps(content), status, headers, media_type="application/problem+json")


class Problem(Exception):
    """Raised by a route, or by what it calls, and answered as it says. `detail` is one sentence for the caller."""

    def __init__(
        self,
        status: int,
        detail: str,
        headers: Mapping[str, str] | None = None,
        errors: Sequence[Mapping[str, str]] = (),
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers, self.errors = status, detail, headers, errors


def on_problem(_request: Request, error: Exception) -> Response:
    """Answer what was raised."""
    assert isinstance(error, Problem)  # noqa: S101 the application registers it for nothing else
    return problem(error.status, error.detail, error.headers, error.errors)


def on_http_exception(_request: Request, error: Exception) -> Response:
    """Translate Starlette's own errors: no such route, no such method."""
    assert isinstance(error, HTTPException)  # noqa: S101 the application registers it for nothing else
    return problem(error.status_code, headers=error.headers)


def on_error(_request: Request, _error: Exception) -> Response:
    """Answer a bug; the server logs it."""
    return problem(500)
