"""GET /openapi.json: the music app's API as OpenAPI 3.1, made of the operations themselves."""

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.operations import Operation

_ABOUT: Final = """What a music app keeps for people who log in with Auth0: their songs, playlists and plays, and the names they go by.
Every operation takes an Auth0 access token. What is shown of a person is the local copy of their Auth0 profile."""
_EVERY: Final = (401, 403, 422, 503)
_WITH_BODY: Final = (400, 408, 413, 415)
_MEANING: Final = {
    400: "The body is no JSON",
    401: "The access token is missing or does not hold",
    403: "The token is a machine's, the person is blocked or deleted, or lacks a role",
    404: "There is no such thing, or it is somebody else's",
    408: "The body came too slowly",
    413: "The body is too large",
    415: "The body is not sent as JSON",
    422: "A field is not what it should be; `errors` names it",
    503: "A server behind this one cannot be reached; try again after `Retry-After` seconds",
}
_ID: Final = {"type": "integer", "minimum": 1, "maximum": 2**63 - 1}
_REF: Final = "#/components/schemas/{name}"
_PROBLEM: Final = {
    "type": "object",
    "description": "RFC 9457 problem details. `errors` names what was wrong: a JSON pointer into the body, or a parameter.",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["detail"],
                "properties": {
                    "detail": {"type": "string"},
                    "pointer": {"type": "string"},
                    "parameter": {"type": "string"},
                },
            },
        },
    },
}


def route(operations: Sequence[Operation[Any]]) -> Route:
    """Return the route that answers the document, to anybody: it says nothing of any person."""
    body = msgspec.json.encode(document(operations))

    async def endpoint(_request: Request) -> Response:
        return Response(body, headers={"Cache-Control": "public, max-age=300"}, media_type="application/json")

    return Route("/openapi.json", endpoint)


def document(operations: Sequence[Operation[Any]]) -> dict[str, Any]:
    """Return the document."""
    types = [kind for operation in operations for kind in (operation.takes, operation.answers) if kind is not None]
    schemas, components = msgspec.json.schema_components(list(dict.fromkeys(types)), ref_template=_REF)
    schema_of = dict(zip(dict.fromkeys(types), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, schema_of, components)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Understudy's music app", "version": "1", "description": _ABOUT},
        "security": [{"auth0": []}],
        "paths": paths,
        "components": {
            "schemas": {
                **{name: kind for name, kind in components.items() if kind.get("properties")},
                "Problem": _PROBLEM,
            },
            "securitySchemes": {"auth0": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _operation(operation: Operation[Any], schema_of: dict[Any, Any], components: dict[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {
        "operationId": "_".join([operation.method.lower(), *re.findall(r"\w+", operation.path)]),
        "summary": operation.summary,
        "responses": _responses(operation, schema_of),
    }
    parameters = (
        [{"name": operation.parameter, "in": "path", "required": True, "schema": _ID}] if operation.parameter else []
    )
    if operation.has_body:
        content = {"application/json": {"schema": schema_of[operation.takes]}}
        said["requestBody"] = {"required": True, "content": content}
    else:
        fields = components[operation.takes.__name__]["properties"]
        parameters += [{"name": name, "in": "query", "schema": field} for name, field in fields.items()]
    if parameters:
        said["parameters"] = parameters
    return said


def _responses(operation: Operation[Any], schema_of: dict[Any, Any]) -> dict[str, Any]:
    good: dict[str, Any] = {"description": HTTPStatus(operation.status).phrase}
    if operation.answers is not None:
        schema = schema_of[operation.answers]
        text = schema if operation.answers is int else {"type": "string"}
        media = operation.media or ("application/json",)
        good["content"] = {kind: {"schema": text if kind == "text/plain" else schema} for kind in media}
    responses = {str(operation.status): good}
    if operation.empty:
        responses["204"] = {"description": "There is none"}
    refusals = {*_EVERY, *operation.refuses, *(_WITH_BODY if operation.has_body else ())}
    problem = {"application/problem+json": {"schema": {"$ref": _REF.format(name="Problem")}}}
    return responses | {
        str(status): {"description": _MEANING[status], "content": problem} for status in sorted(refusals)
    }
