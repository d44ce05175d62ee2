"""The refusals of the Management API and the token endpoint, with the bodies Auth0 gives them."""

from http import HTTPStatus
from typing import Any

_PHRASES = {413: "Request Entity Too Large", 414: "Request-URI Too Large"}
"""Where Auth0's phrase is not that of every Python's HTTPStatus."""


class ApiError(Exception):
    """A refused call: `status` and the JSON `body` that goes with it."""

    def __init__(self, status: int, message: str, code: str | None = None, **extra: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body: dict[str, Any] = {
            "statusCode": status,
            "error": _PHRASES.get(status) or HTTPStatus(status).phrase,
            "message": message,
            **({"errorCode": code} if code else {}),
            **extra,
        }


class OAuthError(Exception):
    """A refusal of the token endpoint: OAuth's body, not the Management API's."""

    def __init__(self, status: int, error: str, description: str) -> None:
        super().__init__(description)
        self.status = status
        self.body = {"error": error, "error_description": description}


def no_such_user() -> ApiError:
    """Make the one 404 that proves a user is gone."""
    return ApiError(404, "The user does not exist.", "inexistent_user")


def invalid_body(reason: str) -> ApiError:
    return ApiError(400, f"Payload validation error: '{reason}'.", "invalid_body")


def invalid_query(reason: str) -> ApiError:
    return ApiError(400, f"Query validation error: '{reason}'.", "invalid_query_string")


def insufficient_scope(scopes: tuple[str, ...]) -> ApiError:
    expected = ",".join(scopes)
    return ApiError(403, f"Insufficient scope, expected any of: {expected}", "insufficient_scope")


def too_many_requests() -> ApiError:
    return ApiError(429, "Global limit has been reached", "too_many_requests")
