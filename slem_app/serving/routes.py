"""What this server adds to MONAI Label's FastAPI application when it starts: plain errors, and routes that answer before its own.

`install` is called from the app's `on_init_complete`, that is during the start-up event, so no request has been answered yet and
`monailabel start_server` needs no option for it.
"""

from __future__ import annotations

from fastapi import APIRouter, FastAPI
from fastapi.responses import JSONResponse

from slem_app.serving import errors

__all__ = ["install"]

NO_TRAINING = "this server does not train: it segments cases and keeps the labels that you save, for training outside of it"

NO_WEIGHTS = "weights come to this server as a folder with a card, named in its settings; a client can neither replace nor remove them"

router = APIRouter()


@router.post("/train/", include_in_schema=False)
@router.post("/train/{model}", include_in_schema=False)
async def train(model: str = "") -> JSONResponse:
    """MONAI Label would start a process that fails a quarter of a minute later, unseen."""
    return _not_offered(NO_TRAINING)


@router.put("/model/{model}", include_in_schema=False)
@router.delete("/model/{model}", include_in_schema=False)
async def change_model(model: str) -> JSONResponse:
    """MONAI Label would let any client write over the weight file, whose card then refuses it."""
    return _not_offered(NO_WEIGHTS)


def _not_offered(why: str) -> JSONResponse:
    return JSONResponse({"error": "NotOffered", "detail": why}, status_code=501)


def install(app: FastAPI) -> None:
    """Put the routes of this module first, and the error handlers in place."""
    ahead = len(app.router.routes)
    app.include_router(router)
    app.router.routes[:] = app.router.routes[ahead:] + app.router.routes[:ahead]  # the first route that matches answers
    errors.install(app)
