"""What this server adds to MONAI Label's FastAPI application when it starts: plain errors, and routes that answer before its own.

`install` is called from the app's `on_init_complete`, that is during the start-up event, so no request has been answered yet and
`monailabel start_server` needs no option for it.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from fastapi import APIRouter, BackgroundTasks, FastAPI
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import JSONResponse

from slem_app.errors import BadSetting
from slem_app.serving import dicomweb, errors, viewer
from slem_app.serving.cases import Cases
from slem_app.serving.readers import ASGIApp, ReaderMiddleware, Receive, Scope, Send

__all__ = ["install"]

NO_WEIGHTS = "weights come to this server as a folder with a card, named in its settings; a client can neither replace nor remove them"

Output = Literal["image", "json", "all"]
"""What a reply is made of."""

router = APIRouter()


@router.put("/model/{model}", include_in_schema=False)
@router.delete("/model/{model}", include_in_schema=False)
async def change_model(model: str) -> JSONResponse:
    """MONAI Label would let any client write over the weight file, whose card then refuses it."""
    return _not_offered(NO_WEIGHTS)


@router.post("/slem/{what}/{model}")
async def go_back(
    tasks: BackgroundTasks,
    what: Literal["undo", "start_over"],
    model: str,
    image: str = "",
    session_id: str = "",
    client_id: str = "",
    output: Output | None = None,
    compress: bool = True,
) -> Any:
    """Take a reader's last step on an image back, or all (which is a step itself, so that it can be undone too).

    Answers like `/infer/{model}`. `client_id` must be the one that the clicks came with; `compress` is of the label map in itself.
    """
    from monailabel.endpoints.infer import run_inference  # it imports the server's users, which warn of what they import

    if not image and not session_id:
        raise BadSetting("the request names no image: give `image=ID`, or `session_id=ID` of an upload that is still there")
    fields = {what: True, "result_compress": compress, **({"client_id": client_id} if client_id else {})}
    return run_inference(tasks, model, image, session_id, json.dumps(fields), None, None, output)


class PackMiddleware:
    """Compresses label maps on their way to clients that say they can read that: OHIF's are raw in themselves."""

    def __init__(self, app: ASGIApp) -> None:
        self.app, self.packed = app, GZipMiddleware(app, minimum_size=1024, compresslevel=1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = scope["type"] == "http" and scope["path"].startswith(("/infer/", "/slem/")) and b"output=image" in scope.get("query_string", b"")
        await (self.packed if raw else self.app)(scope, receive, send)


def _not_offered(why: str) -> JSONResponse:
    return JSONResponse({"error": "NotOffered", "detail": why}, status_code=501)


def install(app: FastAPI, cases: Cases | None = None) -> None:
    """Put this server's routes first, and the error handlers in place; with `cases` its DICOMweb too."""
    ahead = len(app.router.routes)
    app.include_router(router)
    app.include_router(viewer.router)
    if cases is not None:
        dicomweb.install(app, cases)
    app.router.routes[:] = app.router.routes[ahead:] + app.router.routes[:ahead]  # the first route that matches answers
    errors.install(app)  # first: it lets the server build its chain of middleware anew
    app.add_middleware(PackMiddleware)
    app.add_middleware(ReaderMiddleware)
