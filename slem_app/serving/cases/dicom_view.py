"""A case as DICOM viewers know it: by the UIDs of its files, or, where it is no DICOM, by those of series
that exist only as answers (`formats.virtual_dicom`).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from slem_app.errors import SlemError
from slem_app.formats.planes import Sources
from slem_app.formats.virtual_dicom import VirtualSeries
from slem_app.grouping import Grouping
from slem_app.studies import Series, Study

__all__ = ["DicomView", "DicomViews", "dicom_view", "is_dicom"]

LAYOUTS = frozenset({"dicom", "dicomweb"})


@dataclass(frozen=True, eq=False)
class DicomView:
    """What a viewer asks a case by."""

    study: str
    """StudyInstanceUID; empty where no image of the case can be shown."""
    patient: str
    """PatientID."""
    virtual: Mapping[str, VirtualSeries] = field(default_factory=dict)
    """Series by their UIDs, in the order in which a viewer lists them; empty where the images are DICOM."""
    refused: tuple[str, ...] = ()
    """Why images of the case are not among them."""

    def of(self, series: Series) -> VirtualSeries | None:
        """An image of the case as virtual series; None where it is DICOM itself, or cannot be shown."""
        return next((one for one in self.virtual.values() if one.series.id == series.id), None)

    def sources(self, series: Series) -> Sources | None:
        """What a DICOM result on an image refers to; None where a viewer cannot see that image."""
        if not self.virtual:
            return series if series.format == "dicom" else None
        one = self.of(series)
        return one.headers() if one else None

    def series_uid(self, series: Series) -> str:
        """SeriesInstanceUID of an image; empty where a viewer cannot see it."""
        one = self.of(series)
        if one is not None:
            return one.uid
        return str(series.header.get("SeriesInstanceUID", "")) if series.format == "dicom" else ""

    def frame_uid(self, series: Series) -> str:
        """FrameOfReferenceUID of an image; empty where it has none."""
        one = self.of(series)
        return one.frame_uid if one else str(series.header.get("FrameOfReferenceUID", ""))

    def named(self, uids: tuple[str, ...], study: Study) -> list[Series]:
        """The images of a study that have these SeriesInstanceUIDs; several images may share one."""
        if self.virtual:
            return [self.virtual[uid].series for uid in uids if uid in self.virtual]
        return [
            one
            for uid in uids
            for one in study.series
            if uid in (one.id, one.header.get("SeriesInstanceUID"))
        ]


class DicomViews:
    """The views of the cases that were asked for lately.

    Args:
        most: how many are kept.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.guard = threading.Lock()
        self.views: dict[str, tuple[Grouping, DicomView]] = {}

    def of(self, case: str, grouping: Grouping) -> DicomView:
        """The view of a case, made anew when its files have changed."""
        known = self.views.get(case)
        if known is None or known[0] is not grouping:
            known = (grouping, dicom_view(grouping))
            with self.guard:
                self.views.pop(case, None)
                self.views[case] = known
                while len(self.views) > self.most:
                    del self.views[next(iter(self.views))]
        return known[1]


def is_dicom(study: Study) -> bool:
    """Whether the files of a study have UIDs that tell its images apart (those of CHAOS do not)."""
    return study.layout in LAYOUTS


def dicom_view(grouping: Grouping) -> DicomView:
    """How viewers know a case."""
    study = grouping.study
    if is_dicom(study):
        header = study.series[0].header
        return DicomView(str(header.get("StudyInstanceUID", "")), str(header.get("PatientID") or ""))
    virtual: dict[str, VirtualSeries] = {}
    refused = []
    for number, (series, description) in enumerate(_described(grouping), 1):
        one = VirtualSeries(study.id, series, number, description)
        try:
            virtual.setdefault(one.uid if one.layout else "", one)
        except (SlemError, OSError) as error:  # one image's trouble is not that of the others
            refused.append(str(error))
    first = next(iter(virtual.values()), None)
    return DicomView(
        first.study_uid if first else "", first.patient_id if first else "", virtual, tuple(refused)
    )


def _described(grouping: Grouping) -> list[tuple[Series, str]]:
    """Every image and what it is, the sequences first."""
    named = [
        (choice.series, choice.sequence)
        if choice.series.name.lower() == choice.sequence
        else (choice.series, f"{choice.sequence} ({choice.series.name})")
        for choice in grouping.choices
    ]
    chosen = {series.id for series, _ in named}
    return named + [(one, one.name) for one in grouping.study.series if one.id not in chosen]
