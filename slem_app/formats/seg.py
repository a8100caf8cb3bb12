"""A label map as a DICOM Segmentation (PS3.3 A.51); `seg_reader` reads it back.

Invariant: segment n is label n of the LabelSet, whichever labels the map holds: a label without voxels stays
described and has no frames, so that no name, code or colour ever moves to another segment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import highdicom
import numpy as np
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.valuerep import DSfloat
from skimage.color import rgb2lab

from slem_app.errors import BadLabel, BadStudy
from slem_app.formats.checks import check_labels
from slem_app.formats.dicom_code import dicom_code
from slem_app.formats.planes import (
    Plane,
    Sources,
    group_value,
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
from slem_app.labels import Label, LabelSet
from slem_app.studies.dicom_header import reason
from slem_app.types import Grid

# highdicom 0.22, the last one for pydicom 2, asks for two names that NumPy 2 has under others alone.
vars(np).setdefault("float_", np.float64)
vars(np).setdefault("row_stack", np.vstack)

__all__ = ["cielab", "make_seg", "refer_to_frames", "single_frames", "write_seg"]

ARTIFICIAL_INTELLIGENCE = cast(Any, codes).cid7162.ArtificialIntelligence
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
    images = single_frames(planes, grid)
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
            f"the source series cannot be referred to by a segmentation ({reason(error)}): correct its "
            f"headers, or write NIfTI instead"
        ) from error
    seg.update(about)
    refer_to_frames(seg, {image.SOPInstanceUID: plane for image, plane in zip(images, planes)})
    return seg


def single_frames(planes: Sequence[Plane], grid: Grid) -> list[Dataset]:
    """What highdicom reads of the source images: one single-frame image a slice.

    Made anew, since headers lack fields that it demands, and their SpacingBetweenSlices is often not the
    distance of the slices. A frame of a multi-frame file, which may hold other volumes too, goes under a
    stand-in UID until `refer_to_frames`.
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


def refer_to_frames(seg: Dataset, planes: Mapping[str, Plane]) -> None:
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
