"""Routes to DICOM results: save what is shown, which OHIF's own panel cannot, and see to what could not be
stored.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from slem_app.serving.dicom.seg_status import SegStatus
from slem_app.serving.few_at_once import FewAtOnce
from slem_app.serving.server import Serving
from slem_app.store.labels import LabelVersion

__all__ = ["result_router"]

EXCHANGES = 32  # requests at once


def result_router(serving: Serving) -> APIRouter:
    """The routes over a server's results."""
    router = APIRouter(prefix="/slem", tags=["Results"])
    exchanges = FewAtOnce(1, EXCHANGES, "the exchange of results")  # as slow as the PACS

    @router.post(
        "/save",
        summary=(
            "Save the segmentation that this server last gave you of a case, as a final label and a "
            "DICOM segmentation"
        ),
    )
    def save(image: str, client_id: str = "") -> dict[str, Any]:
        saved = serving.saving.save_shown(image, client_id)
        status = saved.segmentation
        return {
            "case": saved.label.case,
            "version": saved.label.version.number,
            "dicom": {} if status is None else status.to_json(),
            "message": saved.message,
        }

    @router.get(
        "/results/unsent",
        summary="Segmentations that are kept here and could not be stored yet, with the reasons",
    )
    def unsent() -> list[dict[str, Any]]:
        left = serving.results.unsent()
        return [_told(case, version, serving.results.status(version)) for case, version in left]

    @router.post("/results/send", summary="Send them again now")
    async def send() -> list[dict[str, Any]]:
        return await exchanges.run(lambda: _send(serving))

    @router.post(
        "/results/fetch", summary="Make labels of the segmentations of a case that others have stored"
    )
    async def fetch(image: str) -> dict[str, int]:
        return {"new": await exchanges.run(lambda: _fetch(serving, image))}

    return router


def _send(serving: Serving) -> list[dict[str, Any]]:
    left = serving.results.unsent()
    return [_told(case, version, serving.results.send(version)) for case, version in left]


def _fetch(serving: Serving, image: str) -> int:
    case = serving.cases.find(image).id
    count = serving.results.collect(case)
    if count:
        serving.came(case)
    return count


def _told(case: str, version: LabelVersion, status: SegStatus | None) -> dict[str, Any]:
    """A version and what became of its segmentation."""
    known = {} if status is None else status.to_json()
    return {"case": case, "tag": version.tag, "version": version.number, **known}
