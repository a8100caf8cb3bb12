"""Routes to all versions of the labels: MONAI Label's own know but one label a case and tag."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import FileResponse

from slem_app.errors import NotFound
from slem_app.serving.labels.datastore import CaseDatastore

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
        case, _ = datastore.cases.split(image)
        found = [one for one in datastore.store.versions(case, tag) if one.number == version]
        if not found:
            raise NotFound(
                f"case {case!r} has no version {version} of a label with tag {tag!r}: GET "
                f"/slem/labels?image={image} lists those that there are"
            )
        return FileResponse(
            found[0].label, media_type="application/gzip", filename=f"label-{tag}-{version}.nii.gz"
        )

    return router
