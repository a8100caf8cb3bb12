"""MONAI Label's own errors as HTTP answers."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from monailabel.interfaces.exception import MONAILabelError, MONAILabelException

from slem_app.serving.error_replies import reply

__all__ = ["install"]

logger = logging.getLogger(__name__)

STATUS = {
    MONAILabelError.INVALID_INPUT: 400,
    MONAILabelError.APP_INIT_ERROR: 404,
    MONAILabelError.APP_ERROR: 404,
}


def install(app: FastAPI) -> None:
    """Register the handler at `app`, which has not started yet."""
    app.add_exception_handler(MONAILabelException, _answer)


async def _answer(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, MONAILabelException):
        raise error
    logger.warning("%s %s: %s", request.method, request.url.path, error.msg)
    return reply(STATUS.get(error.error, 500), error.error.value, error.msg)
