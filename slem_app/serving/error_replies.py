"""Every error as an HTTP answer: the status that the error carries, and its text as JSON `{"error": kind,
"detail": text}`.

Exceptions that nobody foresaw are told by their kind alone: their text and the traceback go to the server's
log.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException

from slem_app.errors import BadSetting, SlemError

__all__ = ["answer", "install", "reply", "told"]

logger = logging.getLogger(__name__)

TOP = ("home", "root", "tmp", "var", "opt", "srv", "mnt", "media", "data", "usr", "etc", "work", "run", "dev")
LONGEST = 2000  # characters of an error's text
PLACE = re.compile(rf"(?<![\w:/.=\"])/(?:{'|'.join(TOP)})/(?:[^/\s'\",;:]+/)*")
"""The folders of a path of this machine; a route or an id does not begin like that."""
AGAIN = {503: {"Retry-After": "60"}}  # headers by status
PLAIN = {404: "no route {method} {path}", 405: "{path} does not know the method {method}"}


def install(app: FastAPI) -> None:
    """Register the handlers at `app`, which has not started yet."""
    app.exception_handler(SlemError)(_ours)
    app.exception_handler(json.JSONDecodeError)(_not_json)
    app.exception_handler(RequestValidationError)(_not_valid)
    app.exception_handler(HTTPException)(_http)
    app.exception_handler(Exception)(_unforeseen)


def answer(error: SlemError) -> JSONResponse:
    """An error of ours as an answer."""
    return reply(error.status, type(error).__name__, str(error))


def reply(status: int, kind: str, detail: object, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An error as an answer.

    Args:
        status: HTTP status.
        kind: name of the error.
        detail: its text.
        headers: more headers.
    """
    return JSONResponse(
        {"error": kind, "detail": told(detail) if isinstance(detail, str) else detail},
        status_code=status,
        headers={**AGAIN.get(status, {}), **(headers or {})},
    )


def told(text: str) -> str:
    """An error's text as a client may see it: not longer than a person reads, and without the places of the
    server's files, of which only the last part of each path is left.
    """
    text = text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 4 :]}"
    return PLACE.sub("", text)


async def _ours(request: Request, error: SlemError) -> JSONResponse:
    logger.warning("%s %s: %s: %s", request.method, request.url.path, type(error).__name__, error)
    return answer(error)


async def _not_json(request: Request, error: json.JSONDecodeError) -> JSONResponse:
    logger.warning("%s %s: %s", request.method, request.url.path, error)
    return reply(400, "BadSetting", f"the field `params` (or `info`) must be JSON: {error}")


async def _not_valid(request: Request, error: RequestValidationError) -> JSONResponse:
    wrong = [f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors()]
    return reply(422, "BadRequest", "; ".join(wrong))


async def _http(request: Request, error: HTTPException) -> JSONResponse:
    detail, headers = error.detail, error.headers
    if error.status_code == 500 and str(detail).startswith(
        "Neither Image"
    ):  # MONAI Label's word for a request without an image
        return reply(400, BadSetting.__name__, detail)
    if detail in ("Not Found", "Method Not Allowed"):  # the framework's own words
        detail = PLAIN[error.status_code].format(method=request.method, path=request.url.path)
    if error.status_code == 405:
        headers = {"Allow": ", ".join(_allowed_methods(request.app, request.url.path))}
    return reply(
        error.status_code,
        "HTTPException" if error.status_code not in PLAIN else "NotFound",
        detail,
        headers,
    )


def _allowed_methods(app: FastAPI, path: str) -> list[str]:
    """The methods that any route of an application knows for a path, in order."""
    found: set[str] = set()
    for one in iter_route_contexts(app.routes):
        regex = getattr(one, "path_regex", None)
        if regex is not None and regex.match(path):
            found |= set(one.methods or ())
    return sorted(found)


async def _unforeseen(request: Request, error: Exception) -> JSONResponse:
    return reply(
        500,
        "ServerError",
        f"{request.method} {request.url.path} failed inside the server ({type(error).__name__}): see its log",
    )
