"""A map of probabilities as a fractional DICOM Segmentation (PS3.3 A.51, C.8.20.2): one segment whose voxels
say how much, in 255 steps.

Viewers that know no parametric maps show it as a segmentation, and it hides no label.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import highdicom
import numpy as np
from pydicom import Dataset
from pydicom.sr.codedict import codes

from slem_app.errors import BadGrid, BadStudy
from slem_app.formats.dicom_code import dicom_code
from slem_app.formats.planes import Sources, ordered, planes_of
from slem_app.formats.provenance import MANUFACTURER, Provenance, save_dicom, study_fields
from slem_app.formats.seg import cielab, refer_to_frames, single_frames
from slem_app.labels import Label
from slem_app.studies.dicom_header import reason
from slem_app.types import Grid

__all__ = ["STEPS", "make_fractional_seg", "write_fractional_seg"]

STEPS = 255
"""Of a probability; less than half a step is 0."""


def write_fractional_seg(
    values: np.ndarray, grid: Grid, label: Label, sources: Sources, provenance: Provenance, path: Path
) -> Path:
    """Write a map as a DICOM file, whole or not at all.

    Raises:
        As `make_fractional_seg`; StorageFailed: the disk refused.
    """
    return save_dicom(make_fractional_seg(values, grid, label, sources, provenance), path)


def make_fractional_seg(
    values: np.ndarray, grid: Grid, label: Label, sources: Sources, provenance: Provenance
) -> Dataset:
    """A map of probabilities as a FRACTIONAL segmentation that refers to the images it was made from.

    Frames without a voxel above 0 are left out; a map that is empty gets two empty frames.

    Args:
        values: (I, J, K) float, 0 to 1.
        grid: its grid, which must be that of the series.
        label: what the values are of.
        sources: the series that was segmented.
        provenance: how the map came about; it names an algorithm.

    Returns:
        A new instance in a new series of the same study, ready to be stored.

    Raises:
        BadGrid: another grid than the series', or values outside 0 to 1.
        BadStudy: images of several series or volumes, or without what a segmentation must say of them.
        BadVolume, NotFound: a source that is no slice, or is gone.
    """
    if values.shape != grid.shape or not (
        np.isfinite(values).all() and 0 <= values.min() <= values.max() <= 1
    ):
        raise BadGrid(f"a map of {grid.shape} voxels from 0 to 1 is needed, got {values.shape}")
    planes = ordered(planes_of(sources), grid)
    about = study_fields(planes[0].image)
    images = single_frames(planes, grid)
    images[0].update(about)
    steps = np.round(values * STEPS).astype(np.uint8)
    pixels = np.stack([plane.pixels(steps, grid) for plane in planes]).astype(np.float32) / STEPS
    empty = not pixels.any()
    algorithm = highdicom.AlgorithmIdentificationSequence(
        provenance.algorithm,
        cast(Any, codes).cid7162.ArtificialIntelligence,
        provenance.version,
        MANUFACTURER,
    )
    segment = highdicom.seg.SegmentDescription(
        1, label.name, dicom_code(label.category), dicom_code(label.type), provenance.kind, algorithm
    )
    segment.RecommendedDisplayCIELabValue = cielab(label.color)
    if provenance.remarks:
        segment.SegmentDescription = provenance.remarks
    first = [highdicom.PlanePositionSequence("PATIENT", plane.position) for plane in planes[:2]]
    try:
        seg = highdicom.seg.Segmentation(
            source_images=images,
            pixel_array=pixels[:2] if empty else pixels,
            plane_positions=first if empty else None,
            omit_empty_frames=not empty,
            segmentation_type="FRACTIONAL",
            fractional_type="PROBABILITY",
            max_fractional_value=STEPS,
            segment_descriptions=[segment],
            **provenance.new_instance(),
            device_serial_number="1",  # must be there; a program has none
            content_label="CHECK_HERE",
            content_description=provenance.description,
            content_creator_name=provenance.creator_name or None,
        )
    except (AttributeError, TypeError, ValueError, KeyError) as error:
        raise BadStudy(
            f"the source series cannot be referred to by a segmentation ({reason(error)}): correct its "
            f"headers, or write NIfTI instead"
        ) from error
    seg.update(about)
    refer_to_frames(seg, {image.SOPInstanceUID: plane for image, plane in zip(images, planes, strict=True)})
    return seg
