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

FLUID = 3.0  # mm between the brain and the bone, on each side
NECK = 50.0  # mm that are kept below the brain
INSIDE = ("white", "grey", "deep grey", "csf", "blood", "cord")
"""Tissues of a map that become fluid where the case has no brain."""


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
    and is taken out.

    Args:
        brain: (I, J, K) bool of a stripped case.
        grid: where it lies.
        head: the label map.
    """
    low, high = _extent(brain, grid)
    own_low, own_high = _extent(head.brain, head.grid)
    scale = (own_high - own_low) / (high - low + 2 * FLUID)
    into = np.diag([*scale, 1.0])  # the case's world to the map's
    into[:3, 3] = (own_low + own_high) / 2 - scale * (low + high) / 2
    field = Grid(head.grid.shape, np.linalg.inv(into) @ head.grid.affine)
    whole = _covering(field, grid, float(low[2] - NECK))
    step = head.grid.inverse @ into @ whole.affine
    codes = ndimage.affine_transform(
        head.codes, step[:3, :3], step[:3, 3], whole.shape, order=0, mode="constant", cval=0
    )
    table = np.array([GROUPS.index("csf" if name in INSIDE else name) for name in head.tissues], np.uint8)
    table[0] = GROUPS.index("air")
    there = resample(brain.astype(np.uint8), grid, whole, order=0) > 0
    return Surroundings(table[codes], there, whole)


def _covering(field: Grid, grid: Grid, floor: float) -> Grid:
    """The lattice of `grid` over a field of view, but for what lies below `floor`, mm of S."""
    corners = grid.to_index(field.corners())
    low, high = np.floor(corners.min(axis=0)), np.ceil(corners.max(axis=0)) + 1
    lowest = grid.to_index(np.array([*grid.affine[:2, 3], floor]))[2]
    if grid.orientation[2] == "S":
        low[2] = max(low[2], np.floor(lowest))
    else:
        high[2] = min(high[2], np.ceil(lowest) + 1)
    return grid.crop(triple(low.astype(int)), triple((high - low).astype(int)))


def _extent(mask: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest R, A, S of a mask but for its outermost hundredth, mm."""
    points = grid.to_world(np.argwhere(mask)[:: max(1, np.count_nonzero(mask) // 200_000)])
    return np.percentile(points, 0.5, axis=0), np.percentile(points, 99.5, axis=0)
