"""What of a PACS a viewer may see and store through this server: the studies that are served here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

from slem_app.errors import BadStudy, NotFound, SlemError
from slem_app.serving.cases.catalogue import Cases
from slem_app.studies.dicom_file import read_file
from slem_app.studies.dicom_header import BROKEN, reason
from slem_app.studies.pacs import Pacs

__all__ = ["ServedStudies"]

STUDY = "0020000D"  # StudyInstanceUID
RESULTS = {  # SOP classes of what is drawn or measured on images (PS3.4 annex B.5)
    "1.2.840.10008.5.1.4.1.1.66.4": "segmentation",
    "1.2.840.10008.5.1.4.1.1.66.7": "label map segmentation",
    "1.2.840.10008.5.1.4.1.1.481.3": "RT structure set",
    "1.2.840.10008.5.1.4.1.1.88.11": "basic text SR",
    "1.2.840.10008.5.1.4.1.1.88.22": "enhanced SR",
    "1.2.840.10008.5.1.4.1.1.88.33": "comprehensive SR",
    "1.2.840.10008.5.1.4.1.1.88.34": "comprehensive 3D SR",
}


class ServedStudies:
    """The studies of a PACS that are cases of this server.

    Args:
        cases: of the server.
        pacs: where they are.
    """

    def __init__(self, cases: Cases, pacs: Pacs) -> None:
        self.cases, self.pacs = cases, pacs

    def check(self, study: str) -> None:
        """Refuse a study that is not served.

        Raises:
            NotFound: it is not.
        """
        if self.cases.pacs is not None and study in self.cases.pacs.uids():
            return
        self.cases.has(study)  # it may have come since they were listed
        if study not in self.cases.dicom_studies():
            raise NotFound(f"no study {study[:64]!r} is served here")

    def listed(self, found: Sequence[Mapping[str, Any]], study: str = "") -> list[Mapping[str, Any]]:
        """Those answers of a search that are of served studies.

        Args:
            found: the answers, in the DICOM JSON model.
            study: where the search was below a study, that study, which its answers need not name.
        """
        known = self.cases.dicom_studies()
        return [one for one in found if str((one.get(STUDY, {}).get("Value") or [study])[0]) in known]

    def check_stored(self, content: bytes | BinaryIO, study: str = "") -> None:
        """Refuse an instance that is no result of a served study and of its patient.

        Args:
            content: the DICOM file, or its bytes.
            study: the study of the address that it came to; '' for none.

        Raises:
            BadStudy: another kind of instance, or of another study, patient or frame of reference.
            NotFound: of a study that is not served.
            TooLarge, TookTooLong: as `read_file`.
        """
        try:
            dataset, _ = read_file(content, pixels=False)
            kind, own = str(dataset.get("SOPClassUID", "")), str(dataset.get("StudyInstanceUID", ""))
            patient = (str(dataset.get("PatientID") or ""), _plain(str(dataset.get("PatientName") or "")))
            frames = _frames(dataset)
        except BROKEN as error:
            raise BadStudy(f"this is not a readable DICOM file ({reason(error)}): send it again") from error
        if kind not in RESULTS:
            raise BadStudy(
                f"only results can be stored here ({', '.join(RESULTS.values())}), but this has the SOP "
                f"class {kind[:64] or 'none'}: send images to the PACS itself"
            )
        if study not in ("", own):
            raise BadStudy("the instance belongs to another study than the one in the address")
        self.check(own)
        there = self.pacs.patient(own)
        if patient != (there[0], _plain(there[1])):
            raise BadStudy(f"the instance names another patient than its study {own}: export it again")
        if strange := frames - self._frames_of(own):
            raise BadStudy(
                f"the instance lies in a frame of reference ({strange.pop()[:64]}) that study {own} lacks"
            )

    def _frames_of(self, study: str) -> set[str]:
        found = set()
        for series in self.cases.study(self.cases.dicom_studies()[study]).series:
            try:
                found.add(str(series.header.get("FrameOfReferenceUID", "")))
            except SlemError:  # a series that cannot be read is no reason to refuse another's result
                continue
        return found


def _frames(dataset: Any) -> set[str]:
    """The frames of reference that an instance names; none is named by many SR."""
    items = (dataset, *(dataset.get("ReferencedFrameOfReferenceSequence") or ()))
    return {str(item.FrameOfReferenceUID) for item in items if item.get("FrameOfReferenceUID")}


def _plain(name: str) -> str:
    """The alphabetic group of a person's name, as it counts."""
    return " ".join(name.partition("=")[0].rstrip("^ ").casefold().split())
