"""The brain that was found in a study of whole heads, and how an image is cut to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slem_app.types import Grid
from slem_app.volumes.geometry import resample
from slem_app.volumes.levels import Volume

__all__ = ["BrainMask"]

INNER_ZERO = 1e-3  # of the largest intensity: what a voxel of the brain has at least, so that 0 means outside


@dataclass(frozen=True, eq=False)
class BrainMask:
    """Where the brain is, in the common world of a study."""

    array: np.ndarray
    """(I, J, K) bool."""
    grid: Grid
    """Where it lies."""

    @property
    def nbytes(self) -> int:
        """Bytes of its array."""
        return self.array.nbytes

    @property
    def ml(self) -> float:
        """Millilitres."""
        return self.grid.millilitres(self.array)

    def on(self, grid: Grid) -> np.ndarray:
        """(I, J, K) bool on another grid."""
        return resample(self.array.astype(np.float32), self.grid, grid, order=1) > 0.5

    def moved(self, matrix: np.ndarray) -> BrainMask:
        """The same in another world.

        Args:
            matrix: (4, 4) RAS from this world to the other.
        """
        return BrainMask(self.array, Grid(self.grid.shape, matrix @ self.grid.affine))

    def cut_out(self, volume: Volume) -> Volume:
        """An image with zeros outside the brain and more than zero inside."""
        low, high = float(volume.array.min()), float(volume.array.max())
        least = INNER_ZERO * (high - low)
        values = np.maximum(volume.array - np.float32(min(low, 0.0)), np.float32(least))
        return Volume(np.where(self.on(volume.grid), values, np.float32(0)), volume.grid)
