"""Skull, skin and face of a label map, put around the brain of a stripped case."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from slem_app.phantom.heads.contrast import GROUPS
from slem_app.phantom.heads.maps import HeadMap
from slem_app.types import Grid, triple
from slem_app.volumes.geometry import resample

__all__ = ["Surroundings", "surroundings"]

FLUID = 1.5  # mm more between the brain and the bone than the map has
NECK = 50.0  # mm that are kept below the brain
INSIDE = ("white", "grey", "deep grey", "csf", "blood")
"""Tissues of a map that become fluid where the case has no brain."""
BINS = (18, 36)  # directions from the middle of a brain: from above to below, and around
SMOOTH = 1.5  # of them, the standard deviation of the smoothing
MOST = 1.2  # times that a map is stretched in any direction more than in the mean
WIDER = 1.1  # times the map's field of view, into which it may be stretched
POINTS = 200_000  # of a brain that are looked at


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What lies around a brain."""

    tissues: np.ndarray
    """(I, J, K) uint8, index into `GROUPS`; what it says inside `brain` means nothing."""
    brain: np.ndarray
    """(I, J, K) bool, where the case has brain."""
    grid: Grid
    """Where both lie: the lattice of the case."""


def surroundings(brain: np.ndarray, grid: Grid, head: HeadMap) -> Surroundings:
    """Fit a head around a brain: its own brain is stretched along R, A and S until it has the case's extent,
    then in every direction from its middle until the surfaces of both lie on each other, and is taken out.

    Args:
        brain: (I, J, K) bool of a stripped case.
        grid: where it lies.
        head: the label map.
    """
    points, own_points = _points(brain, grid), _points(head.brain, head.grid)
    low, high = np.percentile(points, (0.5, 99.5), axis=0)
    own_low, own_high = np.percentile(own_points, (0.5, 99.5), axis=0)
    scale = (own_high - own_low) / (high - low)
    into = np.diag([*scale, 1.0])  # the case's world to the map's
    into[:3, 3] = (own_low + own_high) / 2 - scale * (low + high) / 2
    back = np.linalg.inv(into)
    middle = (low + high) / 2
    corners = Grid(head.grid.shape, back @ head.grid.affine).corners()
    whole = _covering(middle + WIDER * (corners - middle), grid, float(low[2] - NECK))
    own_radii = _radii(own_points @ back[:3, :3].T + back[:3, 3] - middle)
    stretch = np.clip(own_radii / (_radii(points - middle) + FLUID), 1 / MOST, MOST)
    codes = _stretched(head, into, whole, middle, stretch)
    table = np.array([GROUPS.index("csf" if name in INSIDE else name) for name in head.tissues], np.uint8)
    table[0] = GROUPS.index("air")
    there = resample(brain.astype(np.uint8), grid, whole, order=0) > 0
    return Surroundings(table[codes], there, whole)


def _covering(corners: np.ndarray, grid: Grid, floor: float) -> Grid:
    """The lattice of `grid` between corners (8, 3) in mm, but for what lies below `floor`, mm of S."""
    index = grid.to_index(corners)
    low, high = np.floor(index.min(axis=0)), np.ceil(index.max(axis=0)) + 1
    lowest = grid.to_index(np.array([*grid.affine[:2, 3], floor]))[2]
    if grid.orientation[2] == "S":
        low[2] = max(low[2], np.floor(lowest))
    else:
        high[2] = min(high[2], np.ceil(lowest) + 1)
    return grid.crop(triple(low.astype(int)), triple((high - low).astype(int)))


def _points(mask: np.ndarray, grid: Grid) -> np.ndarray:
    """(n, 3) R, A, S of some voxels of a mask, mm."""
    there = np.argwhere(mask)
    return np.asarray(grid.to_world(there[:: max(1, len(there) // POINTS)]))


def _radii(points: np.ndarray) -> np.ndarray:
    """(BINS) mm from the middle to the surface in every direction, from points (n, 3) around it."""
    bins = np.minimum(_directions(points).astype(int), np.array(BINS) - 1)
    found = np.zeros(BINS)
    np.maximum.at(found, (bins[:, 0], bins[:, 1]), np.linalg.norm(points, axis=1))
    found[found == 0] = np.median(found[found > 0])
    return np.asarray(ndimage.gaussian_filter(found, SMOOTH, mode=("nearest", "wrap")))


def _directions(vectors: np.ndarray) -> np.ndarray:
    """(n, 2) place among BINS of vectors (n, 3): a whole number is the border between two."""
    down = np.arctan2(np.hypot(vectors[:, 0], vectors[:, 1]), vectors[:, 2]) / np.pi
    around = np.arctan2(vectors[:, 1], vectors[:, 0]) / (2 * np.pi) % 1
    return np.column_stack([down, around]) * BINS


def _stretched(
    head: HeadMap, into: np.ndarray, whole: Grid, middle: np.ndarray, stretch: np.ndarray
) -> np.ndarray:
    """(I, J, K) codes of the map on `whole`, slice by slice: what lies r from the middle comes from r times
    the stretch of its direction, brought by `into` to the map's world.
    """
    rows = np.stack(np.meshgrid(*(np.arange(n) for n in whole.shape[:2]), indexing="ij"), axis=-1)
    rows = rows.reshape(-1, 2)
    codes = np.empty(whole.shape, head.codes.dtype)
    for k in range(whole.shape[2]):
        vectors = whole.to_world(np.column_stack([rows, np.full(len(rows), k)])) - middle
        places = _directions(vectors).T - 0.5
        padded = np.pad(np.pad(stretch, ((1, 1), (0, 0)), mode="edge"), ((0, 0), (1, 1)), mode="wrap")
        times = ndimage.map_coordinates(padded, places + 1, order=1, mode="nearest")
        there = (middle + vectors * times[:, None]) @ into[:3, :3].T + into[:3, 3]
        found = ndimage.map_coordinates(head.codes, head.grid.to_index(there).T, order=0, cval=0)
        codes[:, :, k] = found.reshape(whole.shape[:2])
    return codes
