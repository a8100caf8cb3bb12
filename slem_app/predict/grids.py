"""Arrays between grids, where only a part of them counts."""

from __future__ import annotations

import numpy as np

from slem_app.types import Grid, triple
from slem_app.volumes.geometry import resample

__all__ = ["Box3", "covering", "moved"]

Box3 = tuple[slice, slice, slice]
"""A box of voxels."""


def moved(array: np.ndarray, source: Grid, target: Grid, order: int, fill: float = 0.0) -> np.ndarray:
    """`resample` that touches only the part of `array` which `target` covers."""
    box = covering(target, source, 1)
    if box is None:
        return np.full(target.shape, fill, dtype=array.dtype if order == 0 else np.float32)
    part = source.crop(triple(s.start for s in box), triple(s.stop - s.start for s in box))
    return resample(array[box], part, target, order, fill)


def covering(part: Grid, whole: Grid, more: int = 0) -> Box3 | None:
    """The box of `whole` that holds every voxel centre inside `part`, and `more` voxels around; None where
    they do not meet.
    """
    corners = (
        np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * np.array(part.shape) - 0.5
    )
    index = whole.to_index(part.to_world(corners))
    low = np.maximum(np.floor(index.min(axis=0)).astype(int) - more, 0)
    high = np.minimum(np.ceil(index.max(axis=0)).astype(int) + 1 + more, whole.shape)
    return triple(slice(int(a), int(b)) for a, b in zip(low, high)) if (low < high).all() else None
