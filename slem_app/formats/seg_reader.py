"""A DICOM Segmentation (PS3.3 A.51) of any software as a label map.

Nothing is interpolated: a segmentation whose voxels are not those of the image is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydicom import Dataset

from slem_app.errors import BadGrid, BadLabel, BadVolume
from slem_app.formats.dicom_code import dicom_code, read_code
from slem_app.formats.planes import BROKEN, Plane, frame_plane, open_dicom
from slem_app.labels import Label, LabelSet
from slem_app.studies.dicom_header import reason
from slem_app.types import Grid
from slem_app.volumes.decoder import PixelDecoder

__all__ = ["LABEL_MAP", "SEGMENTATION", "read_seg", "referenced_series"]

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"  # a frame holds segment numbers instead of one segment's bits
UID_LENGTH = 64  # characters (PS3.5 section 9.1)


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
            f"{what} is not a DICOM segmentation (SOP class {kind[:UID_LENGTH]}): choose a file "
            "of modality SEG"
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
    with PixelDecoder() as decoder:
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
            f"{what}: {outside} labelled voxels of a slice lie outside the image ({grid}): it is probably "
            "the label of another image"
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
        if code is not None and dicom_code(label.type) == read_code(code) and _same_side(label, code)
    ]
    if len(coded) > 1:  # the code does not tell these labels apart
        coded = [value for value in coded if value in named]
    if named and coded and named != coded:
        raise BadLabel(
            f"{what}: segment {segment.SegmentNumber} is called {name!r} but its type is coded as that of "
            f"{labels.names[coded[0] - 1]!r}: correct its name or its terminology and save again"
        )
    if not named and not coded:
        meaning = (
            "without a code"
            if code is None
            else f"coded {code.get('CodeValue', '?')} {code.get('CodeMeaning', '')!r}"
        )
        known = ", ".join(labels.names)
        raise BadLabel(
            f"{what}: segment {segment.SegmentNumber}, {name!r}, {meaning}, is not one of the labels "
            f"{known}: rename it and save again"
        )
    return (named or coded)[0]


def _same_side(label: Label, code: Dataset) -> bool:
    """Whether the modifiers of a type fit the label's; a type without any fits every side."""
    given = {read_code(item) for item in code.get("SegmentedPropertyTypeModifierCodeSequence") or ()}
    return not given or not label.modifiers or bool(given & {dicom_code(one) for one in label.modifiers})
