"""The route to the label of a patient's earlier visit on the image of a later one."""

from __future__ import annotations

import json
import uuid
from urllib.parse import quote

from fastapi import APIRouter
from fastapi.responses import FileResponse
from starlette.background import BackgroundTask

from slem_app.formats import write_nifti
from slem_app.serving.auth.audit import about
from slem_app.serving.cases.models_for_case import fitting
from slem_app.serving.few_at_once import FewAtOnce
from slem_app.serving.http.file_replies import FILE
from slem_app.serving.server import Serving

__all__ = ["prior_router"]

VISITS = 32  # requests at once


def prior_router(serving: Serving) -> APIRouter:
    """The route over a server's cases."""
    router = APIRouter(prefix="/slem", tags=["Datastore"])
    visits = FewAtOnce(1, VISITS, "earlier visits")  # laying one on another takes a core for seconds

    @router.get("/prior", summary="The earlier visit's final label, laid on an image: NIfTI", **FILE)
    async def prior(image: str, model: str = "") -> FileResponse:
        """`image` is the later case, or CASE/SEQUENCE; `model` says whose values the label has. The header
        `Slem-Prior` tells which label it is and how the visits were laid on each other (JSON,
        percent-encoded).
        """
        return await visits.run(lambda: _prior(serving, image, model))

    return router


def _prior(serving: Serving, image: str, model: str) -> FileResponse:
    case = serving.cases.find(image)
    about(case.id)
    name = model or next(iter(fitting(case.grouping, serving.cards)), "")
    labels = serving.task(name).predictor.card.labels
    found = serving.priors.of(case, labels)
    path = serving.folder / f"{uuid.uuid4().hex}.nii.gz"
    write_nifti(found.array, case.series.grid, labels, path)
    told = {
        "label": found.label,
        "date": found.visit.date,
        "label_names": {label.name: label.value for label in labels.labels},
        "registration": found.move.table(),
        "doubts": list(found.doubts),
    }
    return FileResponse(
        path,
        media_type="application/gzip",
        filename="prior.nii.gz",
        headers={"Slem-Prior": quote(json.dumps(told))},
        background=BackgroundTask(path.unlink, missing_ok=True),
    )
