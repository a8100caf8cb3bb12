"""A label map as a DICOM Segmentation (PS3.3 A.51), and back.

Invariant: segment n is label n of the LabelSet, whichever labels the map holds: a label without voxels stays
described and has no frames, so that no name, code or colour ever moves to another segment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import highdicom
import numpy as np
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as DicomCode
from pydicom.valuerep import DSfloat
from skimage.color import rgb2lab

from slem_app.errors import BadGrid, BadLabel, BadStudy, BadVolume
from slem_app.formats.checks import check_labels
from slem_app.formats.planes import (
    BROKEN,
    Plane,
    Sources,
    frame_plane,
    group_value,
    open_dicom,
    ordered,
    planes_of,
)
from slem_app.formats.provenance import (
    LONGEST,
    MANUFACTURER,
    Provenance,
    save_dicom,
    study_fields,
)
from slem_app.labels import Code, Label, LabelSet
from slem_app.studies.dicom_header import reason
from slem_app.types import Grid
from slem_app.volumes.decoder import Decoder

# highdicom 0.22, the last one for pydicom 2, asks for two names that NumPy 2 has under others alone.
vars(np).setdefault("float_", np.float64)
vars(np).setdefault("row_stack", np.vstack)

__all__ = ["dicom_code", "make_seg", "read_seg", "referenced_series", "write_seg"]

ARTIFICIAL_INTELLIGENCE = cast(Any, codes).cid7162.ArtificialIntelligence
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
SOURCE_FIELDS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "Modality",
    "Rows",
    "Columns",
)
UID_LENGTH = 64  # characters (PS3.5 section 9.1)
LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"  # a frame holds segment numbers instead of one segment's bits


def write_seg(
    array: np.ndarray, grid: Grid, labels: LabelSet, sources: Sources, provenance: Provenance, path: Path
) -> Path:
    """Write a label map as a DICOM SEG file, whole or not at all.

    Raises:
        As `make_seg`; StorageFailed: the disk refused.
    """
    return save_dicom(make_seg(array, grid, labels, sources, provenance), path)


def make_seg(
    array: np.ndarray, grid: Grid, labels: LabelSet, sources: Sources, provenance: Provenance
) -> Dataset:
    """A label map as a BINARY segmentation that refers to the images it was made from.

    Frames without voxels are left out. At least one frame must be stored, so a map without any voxel gets two
    empty slices of every label (of one slice alone dcmqi cannot tell the spacing).

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
        BadStudy: images of several series or volumes, or without what a segmentation must say of them.
        BadVolume, NotFound: a source that is no slice, or is gone.
    """
    array = check_labels(array, grid, labels)
    planes = ordered(planes_of(sources), grid)
    about = study_fields(planes[0].image)  # as text in UTF-8, and what highdicom leaves out
    images = _images(planes, grid)
    images[0].update(about)
    pixels = np.stack([plane.pixels(array, grid) for plane in planes])
    empty = not pixels.any()
    try:
        seg = highdicom.seg.Segmentation(
            source_images=images,
            pixel_array=pixels[:2] if empty else pixels,
            plane_positions=[
                highdicom.PlanePositionSequence("PATIENT", plane.position) for plane in planes[:2]
            ]
            if empty
            else None,
            omit_empty_frames=not empty,
            segmentation_type="BINARY",
            segment_descriptions=[_segment(label, provenance) for label in labels.labels],
            **provenance.new_instance(),
            device_serial_number="1",  # must be there; a program has none
            content_label="SEGMENTATION",
            content_description=provenance.description,
            content_creator_name=provenance.creator_name or None,
        )
    except (AttributeError, TypeError, ValueError, KeyError) as error:
        raise BadStudy(
            f"the source series cannot be referred to by a segmentation ({reason(error)}): mend its "
            f"headers, or write NIfTI instead"
        ) from error
    seg.update(about)
    _refer(seg, {image.SOPInstanceUID: plane for image, plane in zip(images, planes)})
    return seg


def _images(planes: Sequence[Plane], grid: Grid) -> list[Dataset]:
    """What highdicom reads of the source images: one single-frame image a slice.

    Made anew, since headers lack fields that it demands, and their SpacingBetweenSlices is often not the
    distance of the slices. A frame of a multi-frame file, which may hold other volumes too, goes under a
    stand-in UID until `_refer`.
    """
    across = int(np.flatnonzero(~planes[0].placed(grid)[1].any(axis=1))[0])
    images = []
    for n, plane in enumerate(planes, 1):
        image = _measures(plane, float(grid.spacing[across]))
        for key in SOURCE_FIELDS:
            setattr(image, key, plane.image.get(key))
        if plane.frame is not None:
            image.SOPInstanceUID = f"2.25.{n}"
        if plane.image.get("LossyImageCompression") == "01":
            image.LossyImageCompression = "01"
            image.LossyImageCompressionRatio = plane.image.get("LossyImageCompressionRatio", 1)
            image.LossyImageCompressionMethod = plane.image.get("LossyImageCompressionMethod", "")
        image.ImagePositionPatient, image.ImageOrientationPatient = [*plane.position], [*plane.orientation]
        images.append(image)
    return images


def _refer(seg: Dataset, planes: Mapping[str, Plane]) -> None:
    """Let stand-in UIDs become references to the frames of their files."""
    files: dict[str, list[Plane]] = {}
    for plane in planes.values():
        files.setdefault(plane.image.SOPInstanceUID, []).append(plane)
    if all(plane.frame is None for plane in planes.values()):
        return
    seg.SourceImageSequence = [_reference(used[0]) for used in files.values()]
    seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence = [
        _reference(used[0]) for used in files.values()
    ]
    for reference, used in zip(seg.SourceImageSequence, files.values()):
        if len(used) < int(used[0].image.get("NumberOfFrames") or 1):
            reference.ReferencedFrameNumber = sorted((plane.frame or 0) + 1 for plane in used)
    for frame in seg.PerFrameFunctionalGroupsSequence:
        for derivation in frame.DerivationImageSequence:
            for reference in derivation.SourceImageSequence:
                plane = planes[reference.ReferencedSOPInstanceUID]
                reference.update(_reference(plane))
                if plane.frame is not None:
                    reference.ReferencedFrameNumber = plane.frame + 1


def _reference(plane: Plane) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = plane.image.SOPClassUID
    reference.ReferencedSOPInstanceUID = plane.image.SOPInstanceUID
    return reference


def _measures(plane: Plane, step: float) -> Dataset:
    measures = Dataset()
    measures.PixelSpacing = [*plane.spacing]
    measures.SliceThickness = DSfloat(
        float(cast(float, group_value(plane.image, plane.frame or 0, "SliceThickness")) or step),
        auto_format=True,
    )
    measures.SpacingBetweenSlices = DSfloat(step, auto_format=True)
    return measures


def _segment(label: Label, provenance: Provenance) -> highdicom.seg.SegmentDescription:
    if len(label.name) > LONGEST or "\\" in label.name:
        raise BadLabel(
            f"label name {label.name!r} cannot be written to DICOM: at most {LONGEST} characters and no "
            f"backslash"
        )
    algorithm = None
    if provenance.algorithm:
        algorithm = highdicom.AlgorithmIdentificationSequence(
            provenance.algorithm, ARTIFICIAL_INTELLIGENCE, provenance.version, MANUFACTURER
        )
    segment = highdicom.seg.SegmentDescription(
        label.value,
        label.name,
        dicom_code(label.category),
        dicom_code(label.type),
        provenance.kind,
        algorithm,
    )
    if provenance.remarks:
        segment.SegmentDescription = provenance.remarks
    segment.RecommendedDisplayCIELabValue = cielab(label.color)
    if label.modifiers:  # PS3.3 C.8.20.4: within the type that they qualify
        segment.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [
            highdicom.sr.CodedConcept(code.value, code.scheme, code.meaning) for code in label.modifiers
        ]
    return segment


def dicom_code(code: Code) -> DicomCode:
    """A code as highdicom takes it."""
    return DicomCode(code.value, code.scheme, code.meaning)


def cielab(color: tuple[int, int, int]) -> list[int]:
    """A colour, sRGB 0-255, as the three unsigned 16 bit numbers of PS3.3 C.10.7.1.1.

    With the white point D65, as DCMTK, 3D Slicer and OHIF turn them back, not the D50 of the standard: so
    they show exactly this colour.
    """
    lab = rgb2lab(np.array(color, dtype=np.float64) / 255)
    return (
        np.round((lab + np.array([0, 128, 128])) / [100, 255, 255] * 65535)
        .clip(0, 65535)
        .astype(int)
        .tolist()
    )


def referenced_series(source: Dataset | Path) -> tuple[str, ...]:
    """SeriesInstanceUIDs of the images that a segmentation was made from; the first is the one to lay it on.

    Raises:
        NotFound, BadVolume: no such file, or no DICOM file.
    """
    return tuple(
        str(item.SeriesInstanceUID)
        for item in open_dicom(source).get("ReferencedSeriesSequence") or ()
        if item.get("SeriesInstanceUID")
    )


def read_seg(
    source: Dataset | Path, grid: Grid, labels: LabelSet, frame_of_reference: str = ""
) -> np.ndarray:
    """Read a segmentation of any software as a label map on the grid of its image.

    A segment is a label by its name (letter case aside), else by the code of its type, old SNOMED codes
    included. Several segments of one label are united. A segment that is no label is passed over if it has no
    voxels. Nothing is interpolated.

    Args:
        source: the file, or a dataset with its pixels.
        grid: of the image.
        labels: what the segments may be.
        frame_of_reference: FrameOfReferenceUID of the image, if it is to be compared.

    Returns:
        (I, J, K) uint8.

    Raises:
        NotFound: no such file.
        BadVolume: not a segmentation, damaged, or of fractions.
        BadGrid: other voxels than the image's, or of another frame of reference.
        BadLabel: an unknown segment, one whose name and code contradict each other, or voxels in two segments
            of different labels.
    """
    dataset = open_dicom(source, pixels=True)
    what = Path(str(getattr(dataset, "filename", None) or "the segmentation")).name
    try:
        _check_kind(dataset, frame_of_reference, what)
        return _laid(dataset, grid, labels, what)
    except BROKEN as error:
        raise BadVolume(
            f"{what}: this segmentation cannot be read ({reason(error)}): export it again"
        ) from error


def _check_kind(dataset: Dataset, frame_of_reference: str, what: str) -> None:
    kind = str(dataset.get("SOPClassUID", "none"))
    if kind not in (SEGMENTATION, LABEL_MAP):
        raise BadVolume(
            f"{what} is no DICOM segmentation (SOP class {kind[:UID_LENGTH]}): choose a file of modality SEG"
        )
    own = str(dataset.get("FrameOfReferenceUID") or "")
    if frame_of_reference and own and own != frame_of_reference:
        raise BadGrid(
            f"{what} belongs to images of another frame of reference ({own[:UID_LENGTH]}, the image has "
            f"{frame_of_reference}): it is the label of another image"
        )


def _laid(dataset: Dataset, grid: Grid, labels: LabelSet, what: str) -> np.ndarray:
    result = np.zeros(grid.shape, dtype=np.uint8)
    segments = {int(item.SegmentNumber): item for item in dataset.get("SegmentSequence") or ()}
    values: dict[int, int] = {}
    for number, frame, mask in _masks(dataset, what):
        if number not in segments:
            raise BadVolume(
                f"{what}: frame {frame + 1} is of segment {number}, which is not described: export it again"
            )
        if number not in values:
            values[number] = label_of(segments[number], labels, what)
        index = _voxels(frame_plane(dataset, frame), mask, grid, what)
        there = result[index]
        if other := np.unique(there[(there != 0) & (there != values[number])]).tolist():
            names = " and ".join(repr(labels.names[value - 1]) for value in (*other, values[number]))
            raise BadLabel(
                f"{what}: the segments {names} overlap: a label map has one label a voxel, remove the "
                f"overlap and save again"
            )
        result[index] = values[number]
    return result


def _masks(dataset: Dataset, what: str) -> Iterator[tuple[int, int, np.ndarray]]:
    """(segment number, frame, (rows, columns) bool) of everything that is not empty."""
    with Decoder() as decoder:
        pixels = decoder.pixels(dataset, what).reshape(-1, dataset.Rows, dataset.Columns)
    if dataset.SOPClassUID == LABEL_MAP:
        for frame, plane in enumerate(pixels):
            yield from ((int(number), frame, plane == number) for number in np.unique(plane) if number)
        return
    full = int(dataset.get("MaximumFractionalValue", 1)) if dataset.SegmentationType == "FRACTIONAL" else 1
    for frame, plane in enumerate(pixels):
        if not plane.any():
            continue
        if not np.isin(plane, (0, full)).all():
            raise BadVolume(f"{what} holds fractions or probabilities: save it as a BINARY segmentation")
        own = dataset.PerFrameFunctionalGroupsSequence[frame].get("SegmentIdentificationSequence")
        yield (
            int(
                (own or dataset.SharedFunctionalGroupsSequence[0].SegmentIdentificationSequence)[
                    0
                ].ReferencedSegmentNumber
            ),
            frame,
            plane != 0,
        )


def _voxels(plane: Plane, mask: np.ndarray, grid: Grid, what: str) -> tuple[np.ndarray, ...]:
    """Index of the mask's pixels in an array on `grid`."""
    where = plane.on(grid)
    if where is None:
        raise BadGrid(
            f"{what}: its voxels are not those of the image ({grid}): it belongs to another series, or "
            f"was resampled; save it on the image's grid"
        )
    start, steps = where
    rows, columns = np.nonzero(mask)
    index = start[:, None] + steps @ np.stack([columns, rows])
    if outside := int(((index < 0) | (index >= np.array(grid.shape)[:, None])).any(axis=0).sum()):
        raise BadGrid(
            f"{what}: {outside} labelled voxels of a slice lie outside the image ({grid}): it is "
            f"probably "
            f"the label of another image"
        )
    return tuple(index)


def label_of(segment: Dataset, labels: LabelSet, what: str) -> int:
    """The label value that a segment means, see `read_seg`.

    Raises:
        BadLabel: none, or two.
    """
    name = str(segment.get("SegmentLabel", "")).strip()
    named = [label.value for label in labels.labels if label.name.casefold() == name.casefold()]
    code = next(iter(segment.get("SegmentedPropertyTypeCodeSequence") or ()), None)
    coded = [
        label.value
        for label in labels.labels
        if code is not None and dicom_code(label.type) == _read_code(code) and _same_side(label, code)
    ]
    if len(coded) > 1:  # the code does not tell these labels apart
        coded = [value for value in coded if value in named]
    if named and coded and named != coded:
        raise BadLabel(
            f"{what}: segment {segment.SegmentNumber} is called {name!r} but its type is coded as that of "
            f"{labels.names[coded[0] - 1]!r}: "
            "correct its name or its terminology and save again"
        )
    if not named and not coded:
        meaning = (
            "without a code"
            if code is None
            else f"coded {code.get('CodeValue', '?')} {code.get('CodeMeaning', '')!r}"
        )
        known = ", ".join(labels.names)
        raise BadLabel(
            f"{what}: segment {segment.SegmentNumber}, {name!r}, {meaning}, is none of the labels "
            f"{known}: rename it and save again"
        )
    return (named or coded)[0]


def _same_side(label: Label, code: Dataset) -> bool:
    """Whether the modifiers of a type fit the label's; a type without any fits every side."""
    given = {_read_code(item) for item in code.get("SegmentedPropertyTypeModifierCodeSequence") or ()}
    return not given or not label.modifiers or bool(given & {dicom_code(one) for one in label.modifiers})


def _read_code(item: Dataset) -> DicomCode:
    value = item.get("CodeValue") or item.get("LongCodeValue") or item.get("URNCodeValue") or ""
    return DicomCode(
        str(value), str(item.get("CodingSchemeDesignator", "")), str(item.get("CodeMeaning", ""))
    )
