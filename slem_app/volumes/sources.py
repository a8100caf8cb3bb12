"""The sequences of a case at their images' own detail, beside what the network sees of them: for a closer
look at a part, on whatever grid that is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from slem_app.types import Grid
from slem_app.volumes.geometry import resample
from slem_app.volumes.levels import Levels, Volume

__all__ = ["Scale", "Source", "Sources"]

SAMPLED = 100_000  # voxels from which percentiles are taken


@dataclass(frozen=True)
class Scale:
    """From one sequence's intensities to the network's: clipped, then mean 0 and sd 1 in the foreground."""

    low: float
    """Smallest intensity; what is less counts as it."""
    high: float
    """Largest one, likewise."""
    mean: float
    """Of the clipped foreground."""
    sd: float
    """Likewise."""

    @classmethod
    def of(cls, values: np.ndarray, clip: tuple[float, float]) -> Scale:
        """The scale of a foreground.

        Args:
            values: (n,) its intensities.
            clip: percentiles to which they are clipped.
        """
        low, high = np.percentile(values[:: max(1, len(values) // SAMPLED)], clip)
        clipped = np.clip(values, low, high)
        return cls(float(low), float(high), float(clipped.mean()), max(float(clipped.std()), 1e-6))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Intensities as the network takes them."""
        return (np.clip(values, self.low, self.high) - self.mean) / self.sd


@dataclass(frozen=True, eq=False)
class Source:
    """One sequence as it was read, or as it came out of the registration and the brain mask."""

    volume: Volume
    """Without its empty borders; its array may be of integers."""
    levels: Levels
    """Where its background begins."""
    scale: Scale
    """As the network's images have it, so that both agree."""

    @classmethod
    def of(cls, volume: Volume, levels: Levels, scale: Scale) -> Source:
        """The array is kept as 16-bit integers where it holds nothing else: half the memory."""
        low, high = float(volume.array.min()), float(volume.array.max())
        array = volume.array
        if np.iinfo(np.int16).min <= low and high <= np.iinfo(np.int16).max:
            whole = array.astype(np.int16)
            array = whole if np.array_equal(whole, array) else array
        return cls(Volume(np.array(array), volume.grid), levels, scale)


@dataclass(frozen=True, eq=False)
class Sources:
    """The sequences of a case that there are, by name."""

    each: Mapping[str, Source]
    """By sequence name."""
    mask: np.ndarray
    """(I, J, K) bool: the foreground of all, as the network's images have it."""
    grid: Grid
    """That of `mask`."""

    @classmethod
    def of(
        cls,
        volumes: Mapping[str, Volume],
        levels: Mapping[str, Levels],
        scales: Mapping[str, Scale],
        mask: np.ndarray,
        grid: Grid,
    ) -> Sources:
        """From the volumes, their levels and scales by sequence name, and the foreground of all on `grid`."""
        each = {name: Source.of(volume, levels[name], scales[name]) for name, volume in volumes.items()}
        return cls(each, mask, grid)

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        return self.mask.nbytes + sum(source.volume.array.nbytes for source in self.each.values())

    def on(self, grid: Grid, sequences: Sequence[str]) -> np.ndarray:
        """(M, I, J, K) float32 images on a grid, 0 outside the foreground and for a sequence that is not
        there.

        Args:
            grid: where; voxels outside a sequence's field of view are 0.
            sequences: the M slots in order.
        """
        images = np.zeros((len(sequences), *grid.shape), np.float32)
        for slot, name in enumerate(sequences):
            if name in self.each:
                images[slot] = self._one(self.each[name], grid)
        return images

    def _one(self, source: Source, grid: Grid) -> np.ndarray:
        background = source.levels.background
        seen = resample(source.volume.array, source.volume.grid, grid, order=1, fill=background)
        if source.levels.head is None:
            inside = np.abs(seen - np.float32(background)) > source.levels.tolerance
        else:
            inside = resample(self.mask, self.grid, grid, order=0)
        return np.where(inside, source.scale(seen), np.float32(0))

    def moved(self, matrix: np.ndarray) -> Sources:
        """The same in another world.

        Args:
            matrix: (4, 4) RAS from this world to the other.
        """

        def there(grid: Grid) -> Grid:
            return Grid(grid.shape, matrix @ grid.affine)

        each = {
            name: replace(source, volume=Volume(source.volume.array, there(source.volume.grid)))
            for name, source in self.each.items()
        }
        return Sources(each, self.mask, there(self.grid))
