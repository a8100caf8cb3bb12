"""Every error as an HTTP answer: the status that the error carries, and its text as JSON `{"error": kind,
"detail": text}`.

Exceptions that nobody foresaw are told by their kind alone: their text and the traceback go to the server's
log.
"""

from __future__ import annotations

import json
import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from monailabel.interfaces.exception import MONAILabelError, MONAILabelException
from starlette.exceptions import HTTPException

from slem_app.errors import BadSetting, SlemError

__all__ = ["answer", "install"]

logger = logging.getLogger(__name__)

OF_MONAI_LABEL = {
    MONAILabelError.INVALID_INPUT: 400,
    MONAILabelError.APP_INIT_ERROR: 404,
    MONAILabelError.APP_ERROR: 404,
}
AGAIN = {503: {"Retry-After": "60"}}  # headers by status
PLAIN = {404: "no route {method} {path}", 405: "{path} does not know the method {method}"}


def install(app: FastAPI) -> None:
    """Register the handlers at `app`, which has not started yet."""
    app.add_exception_handler(SlemError, _ours)
    app.add_exception_handler(MONAILabelException, _monai_label)
    app.add_exception_handler(json.JSONDecodeError, _not_json)
    app.add_exception_handler(RequestValidationError, _not_valid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unforeseen)


def answer(error: SlemError) -> JSONResponse:
    """An error of ours as an answer."""
    return _answer(error.status, type(error).__name__, str(error))


def _answer(status: int, kind: str, detail: object, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(
        {"error": kind, "detail": detail},
        status_code=status,
        headers={**AGAIN.get(status, {}), **(headers or {})},
    )


async def _ours(request: Request, error: SlemError) -> JSONResponse:
    logger.warning("%s %s: %s: %s", request.method, request.url.path, type(error).__name__, error)
    return answer(error)


async def _monai_label(request: Request, error: MONAILabelException) -> JSONResponse:
    logger.warning("%s %s: %s", request.method, request.url.path, error.msg)
    return _answer(OF_MONAI_LABEL.get(error.error, 500), error.error.value, error.msg)


async def _not_json(request: Request, error: json.JSONDecodeError) -> JSONResponse:
    logger.warning("%s %s: %s", request.method, request.url.path, error)
    return _answer(400, "BadSetting", f"the field `params` (or `info`) must be JSON: {error}")


async def _not_valid(request: Request, error: RequestValidationError) -> JSONResponse:
    wrong = [f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors()]
    return _answer(422, "BadRequest", "; ".join(wrong))


async def _http(request: Request, error: HTTPException) -> JSONResponse:
    detail = error.detail
    if error.status_code == 500 and str(detail).startswith(
        "Neither Image"
    ):  # MONAI Label's word for a request without an image
        return _answer(400, BadSetting.__name__, detail)
    if detail in ("Not Found", "Method Not Allowed"):  # the framework's own words
        detail = PLAIN[error.status_code].format(method=request.method, path=request.url.path)
    return _answer(
        error.status_code,
        "HTTPException" if error.status_code not in PLAIN else "NotFound",
        detail,
        error.headers,
    )


async def _unforeseen(request: Request, error: Exception) -> JSONResponse:
    return _answer(
        500,
        "ServerError",
        f"{request.method} {request.url.path} failed inside the server ({type(error).__name__}): see its log",
    )
