"""Storing of segmentations over the web (STOW-RS, PS3.18 section 10.5) where there is no PACS: they go to the
server's own store of DICOM results.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from slem_app.errors import SlemError
from slem_app.serving.cases.catalogue import Cases
from slem_app.serving.dicom.stow_body import StowBody, received
from slem_app.store.dicom_results import DicomResults, parse_result
from slem_app.studies.dicom_json import elements

__all__ = ["stow_router"]

logger = logging.getLogger(__name__)

UNKNOWN_CLASS, WRONG_STUDY, CANNOT = 0x0122, 0xA900, 0xC000  # PS3.4 table CC.2.3-1, PS3.18 table I.2-2
REFERENCED, FAILED = "00081199", "00081198"  # ReferencedSOPSequence, FailedSOPSequence
JSON = "application/dicom+json"


def stow_router(cases: Cases, dicom_results: DicomResults, stored: Callable[[str], None]) -> APIRouter:
    """Routes that take segmentations of studies that are served here.

    Args:
        cases: whose studies they may be of.
        dicom_results: where they go.
        stored: told the case of what was stored.
    """
    router, desk = APIRouter(), StowService(cases, dicom_results, stored)
    one_at_a_time = asyncio.Semaphore(1)  # an instance is in memory, whole, while it is stored

    @router.post("/studies")
    @router.post("/studies/{study}")
    async def store(request: Request) -> JSONResponse:
        study = request.path_params.get("study", "")
        async with received(request) as body, one_at_a_time:
            return await run_in_threadpool(desk.answer, body, study, request.url.path)

    return router


@dataclass(frozen=True)
class StowService:
    """Takes instances in, and says of each whether it is stored."""

    cases: Cases
    """Whose studies they may be of."""
    dicom_results: DicomResults
    """Where they go."""
    stored: Callable[[str], None]
    """Told the case of what was stored."""

    def answer(self, body: StowBody, study: str, path: str) -> JSONResponse:
        """A request's answer.

        Args:
            body: its content.
            study: StudyInstanceUID of the path; '' without one.
            path: that it came to.

        Raises:
            BadSetting: no multipart body.
        """
        done, failed, cases = [], [], set()
        for part in body.instances():
            reference, found = self._take(part, study)
            if isinstance(found, str):
                done.append(reference)
                cases.add(found)
            else:
                failed.append(reference | elements({"FailureReason": [found]}))
        for case in sorted(cases):
            self.stored(case)
        answer: dict[str, Any] = elements({"RetrieveURL": [path]}) if study else {}
        answer |= {
            tag: {"vr": "SQ", "Value": found}
            for tag, found in ((REFERENCED, done), (FAILED, failed))
            if found
        }
        return JSONResponse(answer, 200 if not failed else 202 if done else 409, media_type=JSON)

    def _take(self, content: BinaryIO, study: str) -> tuple[dict[str, Any], str | int]:
        """Reference to an instance, and the case under which it is stored or the reason why it is not."""
        try:
            dataset = parse_result(content)
        except SlemError as error:
            logger.warning("nothing stored: %s", error)
            return {}, UNKNOWN_CLASS
        reference = elements(
            {
                "ReferencedSOPClassUID": [str(dataset.SOPClassUID)],
                "ReferencedSOPInstanceUID": [str(dataset.get("SOPInstanceUID", ""))],
            }
        )
        own = str(dataset.get("StudyInstanceUID", ""))
        case = self.cases.dicom_studies().get(own)
        if case is None or study not in ("", own) or self._patient(case) != str(dataset.get("PatientID", "")):
            logger.warning(
                (
                    "not stored: a segmentation of study %s, which is not served here, or of another patient "
                    "than its study"
                ),
                own,
            )
            return reference, WRONG_STUDY
        try:
            self.dicom_results.put(dataset)
        except SlemError as error:
            logger.warning("not stored: %s", error)
            return reference, CANNOT
        return reference, case

    def _patient(self, case: str) -> str:
        return self.cases.view(case).patient
