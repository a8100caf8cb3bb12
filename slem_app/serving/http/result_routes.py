"""Routes to DICOM results: save what is shown, which OHIF's own panel cannot, and see to what could not be
stored.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from slem_app.serving.dicom.export import DICOM
from slem_app.serving.server import Serving

__all__ = ["result_router"]


def result_router(serving: Serving) -> APIRouter:
    """The routes over a server's results."""
    router = APIRouter(prefix="/slem", tags=["Results"])

    @router.post(
        "/save",
        summary=(
            "Save the segmentation that this server last gave you of a case, as a final label and a "
            "DICOM segmentation"
        ),
    )
    def save(image: str, client_id: str = "") -> dict[str, Any]:
        return serving.save_shown(image, client_id)

    @router.get(
        "/results/unsent",
        summary="Segmentations that are kept here and could not be stored yet, with the reasons",
    )
    def unsent() -> list[dict[str, Any]]:
        return [
            {"case": case, "tag": version.tag, "version": version.number, **version.meta[DICOM]}
            for case, version in serving.results.unsent()
        ]

    @router.post("/results/send", summary="Send them again now")
    def send() -> list[dict[str, Any]]:
        sent = [(case, version, serving.results.send(version)) for case, version in serving.results.unsent()]
        return [
            {"case": case, "tag": version.tag, "version": version.number, **told}
            for case, version, told in sent
        ]

    @router.post(
        "/results/fetch", summary="Make labels of the segmentations of a case that others have stored"
    )
    def fetch(image: str) -> dict[str, int]:
        case = serving.cases.find(image).id
        count = serving.results.collect(case)
        if count:
            serving.came(case)
        return {"new": count}

    return router
