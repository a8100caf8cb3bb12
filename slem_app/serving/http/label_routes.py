"""Routes to all versions of the labels: MONAI Label's own know but one label a case and tag."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import FileResponse

from slem_app.serving.labels.datastore import CaseDatastore
from slem_app.serving.labels.reviewing import Verdict
from slem_app.store.record import FINAL

__all__ = ["label_router"]


def label_router(datastore: CaseDatastore) -> APIRouter:
    """The routes over a server's labels."""
    router = APIRouter(prefix="/slem/labels", tags=["Datastore"])

    @router.get("", summary="Every version of one case's labels, or of all cases'")
    def history(image: str = "") -> list[dict[str, Any]]:
        there = set(datastore.list_images())
        cases = [image] if image else [case for case in datastore.store.cases() if case in there]
        return [one for case in cases for one in datastore.history(case)]

    @router.get(
        "/file",
        summary="The label map of one version, NIfTI",
        response_class=FileResponse,
        responses={200: {"content": {"application/gzip": {}}}},
    )
    def file(image: str, tag: str, version: int) -> FileResponse:
        found = datastore.version(image, tag, version)
        return FileResponse(
            found.label, media_type="application/gzip", filename=f"label-{tag}-{version}.nii.gz"
        )

    @router.post("/decide", summary="Approve or reject a version of a label; only reviewers may")
    def decide(
        image: str,
        version: Annotated[int, Query(ge=1)],
        state: str,
        tag: str = FINAL,
        why: str = "",
        level: str = "",
        client_id: str = "",
    ) -> dict[str, Any]:
        """`state` is approved, rejected, or empty to take a decision back; a rejection needs `why`."""
        return datastore.decide(image, tag, version, Verdict(state, why, level, client_id))

    return router
