"""Every error as an HTTP answer: the status that the error carries, and its text as JSON `{"error": kind, "detail": text}`.

MONAI Label's own endpoints let exceptions through, which would reach the client as a bare 500. The handlers are registered at MONAI
Label's FastAPI application through FastAPI's own interface, when the server starts (`install`).
"""

from __future__ import annotations

import json
import logging

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from monailabel.interfaces.exception import MONAILabelError, MONAILabelException

from slem_app.errors import SlemError

__all__ = ["install"]

logger = logging.getLogger(__name__)

OF_MONAI_LABEL = {MONAILabelError.INVALID_INPUT: 400, MONAILabelError.APP_INIT_ERROR: 404, MONAILabelError.APP_ERROR: 404}


def install(app: FastAPI) -> None:
    """Register the handlers at `app`, which may have begun to start already."""
    app.add_exception_handler(SlemError, _ours)
    app.add_exception_handler(MONAILabelException, _monai_label)
    app.add_exception_handler(json.JSONDecodeError, _not_json)
    app.add_exception_handler(Exception, _unforeseen)
    app.middleware_stack = None  # built before the first start-up event; now it is built again, with the handlers, at the first request


def _answer(status: int, kind: str, detail: str) -> JSONResponse:
    return JSONResponse({"error": kind, "detail": detail}, status_code=status)


async def _ours(request: Request, error: SlemError) -> JSONResponse:
    logger.warning("%s %s: %s: %s", request.method, request.url.path, type(error).__name__, error)
    return _answer(error.status, type(error).__name__, str(error))


async def _monai_label(request: Request, error: MONAILabelException) -> JSONResponse:
    logger.warning("%s %s: %s", request.method, request.url.path, error.msg)
    return _answer(OF_MONAI_LABEL.get(error.error, 500), error.error.value, error.msg)


async def _not_json(request: Request, error: json.JSONDecodeError) -> JSONResponse:
    logger.warning("%s %s: %s", request.method, request.url.path, error)
    return _answer(400, "BadSetting", f"the field `params` (or `info`) must be JSON: {error}")


async def _unforeseen(request: Request, error: Exception) -> JSONResponse:
    # the server logs the traceback; the client gets no internals beyond the kind of error
    return _answer(500, "ServerError", f"{request.method} {request.url.path} failed inside the server ({type(error).__name__}): see its log")
