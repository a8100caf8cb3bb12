"""What the server says of its routes, at `/openapi.json`: what they truly answer.

FastAPI describes the errors that it would send itself. Here every error is the same kind of JSON
(`error_replies`), whatever its status, and that is described instead. A route that an earlier one answers
for is not described.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import RouteContext, iter_route_contexts

from slem_app.serving.auth.access import COOKIE
from slem_app.serving.auth.roles import PUBLIC

__all__ = ["describe"]

ERROR = {
    "type": "object",
    "title": "Error",
    "required": ["error", "detail"],
    "additionalProperties": False,
    "properties": {
        "error": {"type": "string", "title": "Kind of the error"},
        "detail": {"type": "string", "title": "What was wrong, and what to do"},
    },
}
REFUSED = {
    "description": "An error: what was wrong, and what to do",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
}
REPLACED = ("404", "422")
"""Statuses of errors as FastAPI and MONAI Label would describe them."""
SCHEMES = {
    "token": {"type": "http", "scheme": "bearer"},
    "cookie": {"type": "apiKey", "in": "cookie", "name": COOKIE},
}


def describe(app: FastAPI, login: bool) -> None:
    """Let an application tell this of itself.

    Args:
        app: with all its routes.
        login: whether readers must log in.
    """
    made: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not made:
            made.update(_description(app, login))
        return made

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to replace it


def _description(app: FastAPI, login: bool) -> dict[str, Any]:
    told = get_openapi(title=app.title, version=app.version, routes=_answering(app))
    for path, methods in told["paths"].items():
        for method, operation in methods.items():
            replies = operation["responses"]
            for status in REPLACED:
                replies.pop(status, None)
            replies["default"] = REFUSED if method != "head" else {"description": REFUSED["description"]}
            if login and not PUBLIC.fullmatch(path):
                operation["security"] = [{name: []} for name in SCHEMES]
    parts = told.setdefault("components", {})
    schemas = parts.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Error"] = ERROR
    if login:
        parts["securitySchemes"] = SCHEMES
    return told


def _answering(app: FastAPI) -> list[RouteContext]:
    """The routes that answer for their path and methods: of several the first."""
    seen: set[tuple[str, str]] = set()
    found = []
    for one in iter_route_contexts(app.routes):
        pairs = {(one.path_format or "", method) for method in one.methods or ()}
        if not pairs <= seen:
            found.append(one)
        seen |= pairs
    return found
