"""The route to the map of where a model's result is likely wrong."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Literal

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, Response
from starlette.background import BackgroundTask

from slem_app.formats.image import write_image
from slem_app.serving.auth.audit import about
from slem_app.serving.auth.identity import reader_of
from slem_app.serving.cases.models_for_case import fitting
from slem_app.serving.dicom.seg_reply import check_source, map_of_doubts
from slem_app.serving.http.file_replies import FILE
from slem_app.serving.models.interactive import InteractiveTask
from slem_app.serving.models.queue import Kind, RequestQueue
from slem_app.serving.server import Serving

__all__ = ["check_here_router"]


def check_here_router(serving: Serving, queue: RequestQueue) -> APIRouter:
    """The route over a server's models; `queue` is in front of them."""
    router = APIRouter(prefix="/slem", tags=["Infer"])

    @router.get("/check_here", summary="How doubtful each voxel of a model's result is", **FILE)
    async def check_here(
        request: Request,
        image: str,
        model: str = "",
        client_id: str = "",
        output: Literal["image", "dicom_seg"] = "image",
    ) -> Response:
        """`image` is a case, or CASE/SEQUENCE. The answer is NIfTI (float32, 0 sure to 1) or, with
        `output=dicom_seg`, a fractional DICOM segmentation with one segment `check here`.
        """
        reader = reader_of(client_id)
        return await queue.run(reader, _work(serving, image, model, reader, output), None, Kind.AUTOMATIC)

    return router


def _work(serving: Serving, image: str, model: str, reader: str, output: str) -> Callable[[], Response]:
    def work() -> Response:
        case = serving.cases.find(image)
        about(case.id)
        if output == "dicom_seg":
            check_source(case)
        task = serving.task(model or next(iter(fitting(case.grouping, serving.cards)), ""))
        automatic = task.automatic if isinstance(task, InteractiveTask) else task
        doubts, card = automatic.doubts(case, reader)
        if output == "dicom_seg":
            return Response(map_of_doubts(case, card, doubts.values), media_type="application/dicom")
        path = serving.folder / f"{uuid.uuid4().hex}.nii.gz"
        write_image(doubts.values, case.series.grid, path)
        gone = BackgroundTask(path.unlink, missing_ok=True)
        return FileResponse(
            path, media_type="application/gzip", filename="check_here.nii.gz", background=gone
        )

    return work
