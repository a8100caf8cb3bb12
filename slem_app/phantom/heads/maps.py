"""Label maps of whole heads: what tissue fills each voxel, and where the brain is.

The numbers are those of SynthSeg's training maps (Billot et al., Medical Image Analysis 2023): FreeSurfer's
for the brain, 502 to 530 for what lies around it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from slem_app.errors import BadVolume, NotFound
from slem_app.types import Grid, triple
from slem_app.volumes.geometry import bounding_box

__all__ = ["TISSUE_OF", "HeadMap", "label_maps", "read_map"]

TISSUE_OF: Mapping[str, tuple[int, ...]] = {
    "white": (2, 41, 7, 46, 16, 28, 60, 85, 77, 25, 57),
    "grey": (3, 42, 8, 47, 17, 18, 53, 54, 26, 58),
    "deep grey": (10, 49, 11, 50, 12, 51, 13, 52),
    "csf": (4, 43, 5, 44, 14, 15, 24, 72),
    "blood": (30, 62, 136, 137, 163, 164, 514),
    "cord": (512,),
    "muscle": (507,),
    "skin": (511,),
    "bone": (515,),
    "marrow": (516,),
    "eye": (502, 506),
    "mucosa": (508, 509, 530),
}
"""Tissue -> the numbers of label maps that are it."""
FAT = 600  # soft tissue under the skin, told from muscle by its depth
FAT_DEPTH = 9.0  # mm under the surface of the head
AROUND = ("cord", "muscle", "skin", "bone", "marrow", "eye", "mucosa")
GAP = 5.0  # mm of sulci that the brain's outline bridges
MARGIN = 6  # voxels of air kept around the head


@dataclass(frozen=True, eq=False)
class HeadMap:
    """One head."""

    name: str
    """Name of its file, without the ending."""
    codes: np.ndarray
    """(I, J, K) uint8 index into `numbers`; 0 is air."""
    numbers: tuple[int, ...]
    """The label map's number of each code; the first is 0."""
    tissues: tuple[str, ...]
    """Tissue of each code; the first is 'air'."""
    brain: np.ndarray
    """(I, J, K) bool: brain with its sulci and ventricles, without the fluid between it and the bone."""
    grid: Grid
    """Where it lies, RAS."""


def label_maps(folder: Path) -> tuple[Path, ...]:
    """The label maps of a folder, sorted.

    Raises:
        NotFound: there are none.
    """
    found = tuple(sorted(path for path in Path(folder).glob("*.nii*") if not path.name.startswith(".")))
    if not found:
        raise NotFound(f"no label maps (.nii.gz) in {folder}: give a folder of whole heads as label maps")
    return found


def read_map(path: Path) -> HeadMap:
    """Read a label map, cropped to the head.

    Raises:
        BadVolume: a number of no known tissue, or no brain.
    """
    image = nib.as_closest_canonical(nib.load(path))
    whole = np.asanyarray(image.dataobj).astype(np.int32)
    grid = Grid(whole.shape, image.affine)
    box = bounding_box(whole > 0)
    start = [max(0, one.start - MARGIN) for one in box]
    stop = [min(n, one.stop + MARGIN) for one, n in zip(box, whole.shape, strict=True)]
    labels = whole[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]
    if labels.size == 0:
        raise BadVolume(f"{path.name}: the label map is empty")
    labels = _with_fat(labels, grid.spacing)
    numbers = (0, *(int(n) for n in np.unique(labels) if n))
    tissues = ("air", *(_tissue(n, path.name) for n in numbers[1:]))
    table = np.zeros(numbers[-1] + 1, np.uint8)
    table[list(numbers)] = np.arange(len(numbers))
    codes = table[labels]
    here = grid.crop(tuple(start), codes.shape)
    return HeadMap(
        path.name.split(".")[0], codes, numbers, tissues, _brain(codes, tissues, here, path.name), here
    )


def _tissue(number: int, name: str) -> str:
    if number == FAT:
        return "fat"
    for tissue, numbers in TISSUE_OF.items():
        if number in numbers:
            return tissue
    raise BadVolume(
        f"{name}: no tissue is known for the label {number}: heads are read that are labelled as SynthSeg's "
        f"training maps are"
    )


def _with_fat(labels: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Soft tissue near the outside of the head becomes fat, as of the scalp."""
    head = ndimage.binary_fill_holes(ndimage.binary_closing(labels[::2, ::2, ::2] > 0, iterations=3))
    depth = ndimage.distance_transform_edt(np.pad(head, 1), sampling=2 * spacing)[1:-1, 1:-1, 1:-1]
    near = _doubled(depth < FAT_DEPTH, triple(labels.shape))
    return np.where((labels == 507) & near, FAT, labels)


def _doubled(half: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Each voxel eight times, cut to a shape."""
    return half.repeat(2, 0).repeat(2, 1).repeat(2, 2)[: shape[0], : shape[1], : shape[2]]


def _brain(codes: np.ndarray, tissues: tuple[str, ...], grid: Grid, name: str) -> np.ndarray:
    """The brain's tissue, closed over sulci, holes filled; the fluid on its surface stays outside."""
    solid = np.isin(codes, [n for n, t in enumerate(tissues) if t in ("white", "grey", "deep grey")])
    fluid = np.isin(codes, [n for n, t in enumerate(tissues) if t in ("csf", "blood")])
    if not solid.any():
        raise BadVolume(f"{name}: the label map holds no brain")
    box = tuple(slice(max(0, s.start - 8), s.stop + 8) for s in bounding_box(solid))
    part, allowed = solid[box], (solid | fluid)[box]
    radius = GAP / float(grid.spacing.mean()) / 2  # closed at half the resolution: much faster
    wide = ndimage.distance_transform_edt(~np.pad(part[::2, ::2, ::2], 4)) <= radius
    closed = _doubled(ndimage.distance_transform_edt(wide)[4:-4, 4:-4, 4:-4] > radius, triple(part.shape))
    filled = ndimage.binary_fill_holes(part | (closed & allowed))
    parts, count = ndimage.label(filled)
    if count > 1:
        filled = parts == np.bincount(parts.ravel())[1:].argmax() + 1
    brain = np.zeros(codes.shape, bool)
    brain[box] = filled
    return brain
