"""A label map as a DICOM RT Structure Set (PS3.3 A.19): closed contours in the planes of the images, for
systems that read no SEG.

Contours come from scikit-image and run halfway between voxels in and out, so that the voxels whose centre
lies inside are exactly the label's. A hole is joined to the contour around it by a channel without width
(keyhole, PS3.3 C.8.8.6.3), which every reader fills alike.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import PYDICOM_IMPLEMENTATION_UID, UID, ImplicitVRLittleEndian, generate_uid
from skimage.measure import find_contours

from slem_app.errors import BadLabel
from slem_app.formats.checks import check_labels
from slem_app.formats.planes import Plane, Sources, ordered, planes_of
from slem_app.formats.provenance import (
    LONGEST,
    MANUFACTURER,
    MODEL_NAME,
    Provenance,
    save_dicom,
    study_fields,
)
from slem_app.labels import Code, Label, LabelSet
from slem_app.types import Grid

__all__ = ["make_rtstruct", "write_rtstruct"]

STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
STUDY = (
    "1.2.840.10008.3.1.2.3.1"  # retired, but the standard asks for it where a structure set refers to a study
)


def write_rtstruct(
    array: np.ndarray, grid: Grid, labels: LabelSet, sources: Sources, provenance: Provenance, path: Path
) -> Path:
    """Write a label map as an RTSTRUCT file, whole or not at all.

    Raises:
        As `make_rtstruct`; StorageFailed: the disk refused.
    """
    return save_dicom(make_rtstruct(array, grid, labels, sources, provenance), path)


def make_rtstruct(
    array: np.ndarray, grid: Grid, labels: LabelSet, sources: Sources, provenance: Provenance
) -> Dataset:
    """A label map as contours on the images it was made from.

    ROI n is label n of the LabelSet; a label without voxels stays named and has no contours.

    Args:
        array: (I, J, K) label values, 0 background.
        grid: its grid, which must be that of the series; its axes may run in any order and direction.
        labels: what the values mean.
        sources: the series that was segmented.
        provenance: how the segmentation came about.

    Returns:
        A new instance in a new series of the same study, ready to be stored.

    Raises:
        BadGrid: another grid than the series'.
        BadLabel: a value that `labels` lacks, or a label name that DICOM cannot hold.
        BadStudy: images of several series or volumes.
        BadVolume, NotFound: a source that is no slice, or is gone.
    """
    array = check_labels(array, grid, labels)
    planes = ordered(planes_of(sources), grid)
    rois = _new_instance(planes[0].image, provenance)
    rois.ReferencedFrameOfReferenceSequence = [_references(planes)]
    rois.StructureSetROISequence, rois.ROIContourSequence, rois.RTROIObservationsSequence = [], [], []
    pixels = [plane.pixels(array, grid) for plane in planes]
    for label in labels.labels:
        if len(label.name) > LONGEST or "\\" in label.name:
            raise BadLabel(
                f"label name {label.name!r} cannot be written to DICOM: at most {LONGEST} characters and no "
                "backslash"
            )
        roi, drawn, meaning = _roi(label, rois.FrameOfReferenceUID, provenance)
        contours = [
            _contour(plane, ring)
            for plane, values in zip(planes, pixels)
            for ring in rings(values == label.value)
        ]
        if contours:
            drawn.ContourSequence = contours
        rois.StructureSetROISequence.append(roi)
        rois.ROIContourSequence.append(drawn)
        rois.RTROIObservationsSequence.append(meaning)
    return rois


def rings(mask: np.ndarray) -> list[np.ndarray]:
    """Closed contours of a (rows, columns) mask: (n, 2) corners as (column, row), the last not the first
    again.

    Voxels that touch by a corner alone get contours of their own. Every corner lies halfway between the
    centres of two neighbours, one in and one out.
    """
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return []
    top, left = rows.min(), columns.min()
    part = np.pad(mask[top : rows.max() + 1, left : columns.max() + 1], 1).astype(np.float32)
    found = [contour[:-1] for contour in find_contours(part, 0.5, positive_orientation="low")]
    closed = [ring for ring in found if _area(ring) > 0]
    for hole in sorted((ring for ring in found if _area(ring) < 0), key=lambda ring: -ring[:, 1].max()):
        _join(hole, closed)
    return [_corners(ring)[:, ::-1] + [left - 1, top - 1] for ring in closed]


def _area(ring: np.ndarray) -> float:
    """Twice the area, above 0 for a contour around voxels, below 0 for one around a hole."""
    rows, columns = ring.T
    return float(columns @ np.roll(rows, -1) - rows @ np.roll(columns, -1))


def _join(hole: np.ndarray, closed: list[np.ndarray]) -> None:
    """Join a hole to the contour next to its rightmost corner; holes that reach further right have been
    joined before.

    In the row of that corner the voxels right of it belong to the label up to the next corner, which is
    therefore of the contour around this hole or of another hole in it.
    """
    at = int(hole[:, 1].argmax())
    row, column = hole[at]
    right = [
        (ring[k, 1], n, k)
        for n, ring in enumerate(closed)
        for k in np.flatnonzero((ring[:, 0] == row) & (ring[:, 1] > column))
    ]
    _, n, k = min(right)
    closed[n] = np.concatenate([closed[n][: k + 1], hole[at:], hole[: at + 1], closed[n][k:]])


def _corners(ring: np.ndarray) -> np.ndarray:
    """The ring without the points at which it only goes straight on."""
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    straight = (before[:, 0] * after[:, 1] == before[:, 1] * after[:, 0]) & ((before * after).sum(axis=1) > 0)
    return ring[~straight]


def _new_instance(image: Dataset, provenance: Provenance) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(STRUCTURE_SET)
    meta.MediaStorageSOPInstanceUID = generate_uid(prefix=None)
    # with explicit VR the points of one contour may take no more than 64 kB
    meta.TransferSyntaxUID = ImplicitVRLittleEndian
    meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    rois = FileDataset(
        "",
        study_fields(image),
        file_meta=meta,
        preamble=b"\0" * 128,
        is_implicit_VR=True,
        is_little_endian=True,
    )
    rois.pop("BodyPartExamined", None)  # no attribute of a structure set
    now = datetime.now()
    rois.SOPClassUID, rois.SOPInstanceUID = STRUCTURE_SET, meta.MediaStorageSOPInstanceUID
    rois.InstanceCreationDate = rois.StructureSetDate = rois.SeriesDate = now.strftime("%Y%m%d")
    rois.InstanceCreationTime = rois.StructureSetTime = rois.SeriesTime = now.strftime("%H%M%S")
    rois.Modality = "RTSTRUCT"
    rois.SeriesInstanceUID = generate_uid(prefix=None)
    rois.OperatorsName = provenance.creator_name
    rois.SeriesNumber = provenance.series_number
    rois.InstanceNumber = provenance.instance_number
    rois.SeriesDescription = provenance.description
    rois.Manufacturer = MANUFACTURER
    rois.ManufacturerModelName = MODEL_NAME
    rois.SoftwareVersions = provenance.software
    rois.StructureSetLabel = "SEGMENTATION"
    rois.StructureSetName = provenance.description
    rois.ApprovalStatus = "UNAPPROVED"
    return rois


def _references(planes: list[Plane]) -> Dataset:
    """The frame of reference, and below it the study, the series and its images."""
    image, series, study, frame = planes[0].image, Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = image.SeriesInstanceUID
    series.ContourImageSequence = [_image(plane) for plane in planes]
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = STUDY, image.StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = image.FrameOfReferenceUID, [study]
    return frame


def _image(plane: Plane) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = plane.image.SOPClassUID
    reference.ReferencedSOPInstanceUID = plane.image.SOPInstanceUID
    if plane.frame is not None:
        reference.ReferencedFrameNumber = plane.frame + 1
    return reference


def _code(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme, code.meaning
    return item


def _roi(label: Label, frame_of_reference: str, provenance: Provenance) -> tuple[Dataset, Dataset, Dataset]:
    """The three items of a label: what it is called, where it is drawn, what it means."""
    roi, drawn, meaning, code = Dataset(), Dataset(), Dataset(), _code(label.type)
    roi.ROINumber = label.value
    roi.ReferencedFrameOfReferenceUID = frame_of_reference
    roi.ROIName = label.name
    roi.ROIGenerationAlgorithm = provenance.kind
    if provenance.algorithm:
        roi.ROIGenerationDescription = f"{provenance.algorithm} {provenance.version}"[:LONGEST]
    drawn.ReferencedROINumber, drawn.ROIDisplayColor = label.value, list(label.color)
    meaning.ObservationNumber, meaning.ReferencedROINumber = label.value, label.value
    meaning.RTROIInterpretedType, meaning.ROIInterpreter = "", provenance.creator_name
    if label.modifiers:  # as a refinement of the type, PS3.3 C.8.8.8
        code.SegmentedPropertyTypeModifierCodeSequence = [_code(one) for one in label.modifiers]
    meaning.RTROIIdentificationCodeSequence = [code]
    return roi, drawn, meaning


def _contour(plane: Plane, ring: np.ndarray) -> Dataset:
    contour = Dataset()
    contour.ContourImageSequence = [_image(plane)]
    contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(ring)
    contour.ContourData = [f"{mm:.3f}" for mm in plane.to_lps(ring).ravel()]
    return contour
