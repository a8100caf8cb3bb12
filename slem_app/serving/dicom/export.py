"""Labels as DICOM segmentations: every saved version becomes one, in the PACS or in the server's own
store, and every one that others have stored becomes a version.

The version on disk comes first and never depends on the PACS: its SEG lies beside it (`result.dcm`) before it
is sent, and what could not be sent is sent again, the same instance, so that nothing is lost or stored twice.
What a version's SEG is, and whether it arrived, stands in its meta under `dicom`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from slem_app.errors import BadStudy, NotFound, SlemError, StorageFailed
from slem_app.formats import read_label_file
from slem_app.formats.provenance import LONGEST, Provenance, made_by, remarks, save_dicom
from slem_app.formats.seg_reader import read_seg, referenced_series
from slem_app.labels import LabelSet
from slem_app.serving.cases.case import Case
from slem_app.serving.cases.dicom_view import DicomView
from slem_app.serving.dicom.seg_status import DICOM, SegStatus
from slem_app.serving.labels.datastore import CaseDatastore
from slem_app.serving.models.last_result import AUTOMATIC, MANUAL, ResultOrigin
from slem_app.store.dicom_results import parse_result
from slem_app.store.labels import LabelVersion
from slem_app.store.record import DRAFT, FINAL, LabelRecord
from slem_app.studies import Series, Study
from slem_app.studies.dicomweb import DicomWebSource
from slem_app.volumes.report import PreparationReport

__all__ = ["PacsResults", "ResultExchange", "ResultStore"]

logger = logging.getLogger(__name__)

FILE = "result.dcm"
REFUSED = 5000  # segmentations that are no label here, the latest: they are not read again
SERIES_NUMBER = 1000  # of version 0: viewers list results last
WORDS = {AUTOMATIC: "automatic", "SEMIAUTOMATIC": "corrected", MANUAL: "drawn by hand"}


class ResultStore(Protocol):
    """Where DICOM results are."""

    def put(self, dataset: Any) -> None:
        """Store an instance; the same one again does no harm."""

    def results(self, study: str) -> list[tuple[str, str]]:
        """(series, instance) of every segmentation of a study."""

    def get(self, study: str, series: str, instance: str) -> Any:
        """One of them."""


@dataclass(frozen=True)
class PacsResults:
    """Results of a PACS."""

    source: DicomWebSource
    """Its studies."""

    def put(self, dataset: Any) -> None:
        self.source.pacs.store(dataset)
        self.source.forget(str(dataset.StudyInstanceUID))

    def results(self, study: str) -> list[tuple[str, str]]:
        return [
            (series, instance)
            for series in self.source.segmentations(study)
            for instance in self.source.pacs.instances(study, series)
        ]

    def get(self, study: str, series: str, instance: str) -> Any:
        return parse_result(self.source.pacs.instance(study, series, instance))


@dataclass(frozen=True)
class UnsentResult:
    """A version whose SEG is made and not stored."""

    case: str
    """Case id."""
    version: LabelVersion
    """The version."""
    status: SegStatus
    """What is known of its SEG, also where the disk refused to keep that."""


class ResultExchange:
    """The way between label versions and DICOM.

    Args:
        datastore: of the versions.
        home: where the results are.
    """

    def __init__(self, datastore: CaseDatastore, home: ResultStore) -> None:
        self.datastore = datastore
        self.home = home
        self.refused: dict[str, None] = {}  # instances that are no label here, the latest last
        self.taking = threading.Lock()
        self.guard = threading.Lock()
        self.waiting: dict[Path, UnsentResult] = {}  # folder of a version -> what is still to be sent
        self.searched = False  # the store was looked through for what an earlier server has left

    # out

    def export(self, version: LabelVersion, case: Case, making: ResultOrigin) -> SegStatus | None:
        """Make the SEG of a version and store it.

        Args:
            version: a label version.
            case: the image on whose grid it lies.
            making: how it came about.

        Returns:
            What is known of it; None where no DICOM viewer can see the image.
        """
        sources = case.view.sources(case.series)
        if sources is None:
            return None
        from slem_app.formats.seg import make_seg  # slow to import; a server starts without it

        labels = next(one for one in self.datastore.labels.values() if one.names == version.names)
        status = SegStatus(making.kind, stored=False, at=time.time())
        try:
            how = _provenance(version, making)
            array, grid, _ = read_label_file(version.label)
            seg = make_seg(array, grid, labels, sources, how)
            save_dicom(seg, version.folder / FILE)
            status = replace(
                status,
                instance=str(seg.SOPInstanceUID),
                series=str(seg.SeriesInstanceUID),
                description=how.description,
                reason="not sent yet",
            )
        except SlemError as error:
            status = replace(status, reason=str(error))
            logger.warning(
                "version %d of case %s is no DICOM segmentation: %s", version.number, case.id, error
            )
        self._note(case.id, version, status)
        return self.send(version) if status.instance else status

    def send(self, version: LabelVersion) -> SegStatus:
        """Store a version's SEG, the first time or again; what is known of it then.

        Raises:
            NotFound: none was made.
        """
        status = self.status(version)
        if status is None:
            raise NotFound(f"no DICOM segmentation was made of version {version.number} in {version.folder}")
        try:
            self.home.put(parse_result((version.folder / FILE).read_bytes()))
            status = replace(status, stored=True, reason="", at=time.time())
        except (SlemError, FileNotFoundError) as error:
            status = replace(status, reason=str(error), at=time.time())
            logger.warning("the segmentation %s is kept here and not stored yet: %s", status.instance, error)
        with self.guard:
            known = self.waiting.get(version.folder)
        self._note(known.case if known else "", version, status)
        return status

    def status(self, version: LabelVersion) -> SegStatus | None:
        """What is known of a version's SEG; None where none was to be made."""
        with self.guard:
            known = self.waiting.get(version.folder)
        return known.status if known else SegStatus.of(version.meta)

    def unsent(self) -> list[tuple[str, LabelVersion]]:
        """(case, version) of every SEG that is made and not stored. The store is looked through once, for
        what was left by a server before this one.
        """
        if not self.searched:
            left = self._left()
            with self.guard:
                self.waiting = left | self.waiting
                self.searched = True
        with self.guard:
            self.waiting = {
                folder: one for folder, one in self.waiting.items() if folder.is_dir()
            }  # the others were taken away by somebody
            return [(one.case, one.version) for one in self.waiting.values()]

    def _left(self) -> dict[Path, UnsentResult]:
        """What the store says is made and not stored."""
        store, found = self.datastore.store, dict[Path, UnsentResult]()
        for case in store.cases():
            for version in store.history(case):
                status = SegStatus.of(version.meta)
                if status is not None and status.unsent:
                    found[version.folder] = UnsentResult(case, version, status)
        return found

    def _note(self, case: str, version: LabelVersion, status: SegStatus) -> None:
        """Keep what is known of a version's SEG. The label itself is saved, so a disk that refuses this is no
        reason to tell the reader that saving failed.
        """
        with self.guard:
            self.waiting.pop(version.folder, None)
            if status.unsent:
                self.waiting[version.folder] = UnsentResult(case, version, status)
        try:
            self.datastore.store.annotate(version, {DICOM: status.to_json()})
        except StorageFailed as error:
            logger.warning(
                "what became of the segmentation of version %d is known until the server stops only: %s",
                version.number,
                error,
            )

    # in

    def collect(self, case: str) -> int:
        """Make versions of segmentations of a case that others have stored; how many new ones there were.

        A segmentation that no reader had a hand in is a draft, any other a final label.

        Raises:
            NotFound: no such case.
            PacsFailed: the PACS does not answer.
        """
        study, view = self.datastore.cases.study(case), self.datastore.cases.view(case)
        count = 0
        with self.taking:
            told = (SegStatus.of(version.meta) for version in self.datastore.store.history(case))
            known = {status.instance for status in told if status is not None}
            for series, instance in self.home.results(view.study):
                if instance in known or instance in self.refused:
                    continue
                try:
                    self._take(study, view, series, instance)
                    count += 1
                except SlemError as error:
                    if error.status >= 500:  # the PACS's or the disk's trouble, which may pass
                        raise
                    self._refuse(instance)
                    logger.warning(
                        "the segmentation %s of case %s is no label here: %s", instance, case, error
                    )
        return count

    def _refuse(self, instance: str) -> None:
        self.refused[instance] = None
        for old in list(self.refused)[:-REFUSED]:
            del self.refused[old]

    def _take(self, study: Study, view: DicomView, series: str, instance: str) -> None:
        seg = self.home.get(view.study, series, instance)
        sources = view.named(referenced_series(seg), study)
        if not sources:
            raise BadStudy(
                "it refers to no series of its study: export it from the image that it was drawn on"
            )
        source, array, labels = self._read(seg, sources, view)
        case = self.datastore.cases.find(f"{study.id}/{source.id}")
        how = made_by(seg)
        record = LabelRecord(
            time.time(),
            how.creator,
            how.software,
            how.algorithm,
            how.version,
            automatic=how.kind == AUTOMATIC,
        )
        status = SegStatus(how.kind, True, time.time(), instance, series, how.description, "")
        info = {DICOM: status.to_json(), **record.to_meta()}
        self.datastore.writer.keep(case, DRAFT if how.kind == AUTOMATIC else FINAL, array, labels, info)

    def _read(
        self, seg: Any, sources: Sequence[Series], view: DicomView
    ) -> tuple[Series, np.ndarray, LabelSet]:
        """The label map on the grid of its image (several may have one UID), in the labels of the first model
        that knows its segments.
        """
        refusals = []
        for source in sources:
            frame = view.frame_uid(source)
            for labels in dict.fromkeys(self.datastore.labels.values()):
                try:
                    return source, read_seg(seg, source.grid, labels, frame), labels
                except SlemError as error:
                    refusals.append(error)
        raise refusals[0]


def _provenance(version: LabelVersion, making: ResultOrigin) -> Provenance:
    """What the SEG tells of itself."""
    name = f"{making.model} {making.version}, " if making.model else ""
    reader = str(version.meta.get("client_id") or "")
    creator = (
        reader
        if reader.isprintable() and "\\" not in reader and len(reader) <= 64 and making.kind != AUTOMATIC
        else ""
    )
    description = f"Segmentation {version.number}: {name}{WORDS[making.kind]}"
    report = PreparationReport.of_table(making.preparation)
    longer = f"{description}; {report.brief}"
    if report.brief and len(longer) <= LONGEST:
        description = longer
    return Provenance(
        making.kind,
        making.model,
        making.version,
        description,
        SERIES_NUMBER + version.number,
        remarks=remarks(making.warnings or report.warnings(), report.notes()),
        creator=creator,
    )
