"""From fine voxels to coarse ones without aliasing."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from slem_app.types import Grid
from slem_app.volumes.geometry import resample
from slem_app.volumes.levels import Volume

__all__ = ["resample_smoothed", "smoothing"]


def resample_smoothed(part: Volume, target: Grid, fill: float) -> np.ndarray:
    """Linear resampling; axes that lose more than half of their samples are smoothed first.

    Only where the volume reaches is looked at: the rest is `fill`, and would cost most of the time.

    Args:
        part: intensities.
        target: grid of the result.
        fill: value outside the volume, e.g. that of its background.

    Returns:
        (I, J, K) float32 on `target`.
    """
    sigma = smoothing(part.grid, target)
    array = ndimage.gaussian_filter(part.array, sigma) if sigma.any() else part.array
    ends = (
        np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * np.array(part.grid.shape)
        - 0.5
    )
    index = target.to_index(part.grid.to_world(ends))
    low = np.clip(np.floor(index.min(axis=0)).astype(int), 0, target.shape)
    high = np.clip(np.ceil(index.max(axis=0)).astype(int) + 1, low, target.shape)
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    result = np.full(target.shape, fill, dtype=np.float32)
    if (low < high).all():
        there = target.crop(tuple(low), tuple(high - low))
        result[box] = resample(array, part.grid, there, order=1, fill=fill)
    return result


def smoothing(source: Grid, target: Grid) -> np.ndarray:
    """(3,) sigma, in voxels along each source axis, that keeps `target` free of aliasing."""
    steps = np.abs(target.affine[:3, :3].T @ source.axes).max(axis=0) / source.spacing  # a target step
    return np.where(steps >= 2, 0.35 * steps, 0.0)
