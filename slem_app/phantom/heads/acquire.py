"""What a scanner makes of a head: slices of some thickness along some axis, a receive field, noise, a field
of view that ends somewhere, and a patient who has moved between two sequences.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from slem_app.phantom.head import Waves
from slem_app.types import Grid, triple
from slem_app.volumes.geometry import resample
from slem_app.volumes.prepare import Volume

__all__ = ["ScanParameters", "acquire", "thick"]


@dataclass(frozen=True, eq=False)
class ScanParameters:
    """How one sequence was taken; drawn by `heads`, applied by `acquire`."""

    axis: int | None
    """Voxel axis across the slices; None: as fine as the head itself."""
    thickness: float
    """mm from slice to slice."""
    move: np.ndarray
    """(4, 4) RAS: where a point of the head lies in the world that this sequence's header tells."""
    cut: tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
    """Share of the field of view that is not there at the low and the high end of each axis."""
    bias: Waves
    """The receive field, about standard normal."""
    bias_depth: float
    """Standard deviation of the receive field's logarithm."""
    gamma: float
    """Exponent of the intensities."""
    noise: float
    """Standard deviation of the noise in each of its two channels, relative to white matter on T1."""
    gain: float
    """Scanner units of white matter on T1."""


def thick(image: np.ndarray, grid: Grid, axis: int, thickness: float) -> Volume:
    """Slices across `axis`, each the mean over its thickness in mm: (I, J, K) float32 on a grid of fewer
    slices.
    """
    step = thickness / float(grid.spacing[axis])
    if step <= 1:
        return Volume(image, grid)
    count = max(2, int(image.shape[axis] / step))
    size = max(1, round(step))
    smooth = ndimage.uniform_filter1d(image, size, axis=axis, mode="nearest")
    affine = grid.affine.copy()
    affine[:3, axis] *= step
    affine[:3, 3] += grid.affine[:3, axis] * (step - 1) / 2
    shape = triple(count if a == axis else n for a, n in enumerate(image.shape))
    target = Grid(shape, affine)
    return Volume(resample(smooth, grid, target, order=1), target)


def acquire(image: np.ndarray, grid: Grid, how: ScanParameters, rng: np.random.Generator) -> Volume:
    """Take a sequence of a head.

    Args:
        image: (I, J, K) float32 signal; white matter on T1 is about 1.
        grid: where it lies.
        how: drawn before.
        rng: the noise's random numbers.

    Returns:
        The volume as it would be read: float32, not negative, on its own grid.
    """
    field = np.exp(np.float32(how.bias_depth) * how.bias.on(grid.affine, grid.shape))
    signal = np.maximum(image * field, 0)
    volume = Volume(signal, grid) if how.axis is None else thick(signal, grid, how.axis, how.thickness)
    volume = _cut(volume, how.cut)
    array = volume.array ** np.float32(how.gamma)
    shape = triple(array.shape)
    real = array + np.float32(how.noise) * rng.standard_normal(shape, dtype=np.float32)
    other = np.float32(how.noise) * rng.standard_normal(shape, dtype=np.float32)
    array = np.sqrt(real**2 + other**2) * np.float32(how.gain)
    return Volume(array, Grid(shape, how.move @ volume.grid.affine))


def _cut(volume: Volume, cut: tuple[tuple[float, float], ...]) -> Volume:
    shape = volume.array.shape
    start = [int(low * n) for (low, _), n in zip(cut, shape, strict=True)]
    stop = [n - int(high * n) for (_, high), n in zip(cut, shape, strict=True)]
    box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    size = triple(b - a for a, b in zip(start, stop, strict=True))
    return Volume(volume.array[box], volume.grid.crop(triple(start), size))
