"""A second look at what was found, at the images' own detail: a network of finer voxels sees the box around
the result alone, and there the result is the weighted mean of both answers.

The first network sees the whole brain at 1.5 mm and says where the lesion is; a rim of 1 to 2 mm is more than
it can draw. The cascade is that of nnU-Net's (Isensee et al. 2021), but the finer network is not told the
coarser one's answer, so that their errors differ and the mean is better than either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from slem_app.labels import LabelSet
from slem_app.regions import outline
from slem_app.types import Grid, triple
from slem_app.volumes.geometry import bounding_box, resample
from slem_app.volumes.prepare import Preparation, Prepared

if TYPE_CHECKING:
    from slem_app.predict.predictor import Predictor

__all__ = ["Likely", "look_again"]

MARGIN = 16.0  # mm around the result that are looked at
LARGEST = 4_000_000  # voxels; a box of more, a whole head, is not looked at again
WEIGHT = 2 / 3  # of the finer network's answer


@dataclass(frozen=True, eq=False)
class Likely:
    """Probabilities and where they lie."""

    probabilities: np.ndarray
    """(R, I, J, K) float32 in 0..1."""
    seen: Prepared
    """The case on their grid; where another network has looked again, the box that it saw: all that was found
    is in it.
    """

    @property
    def grid(self) -> Grid:
        """Of the probabilities."""
        return self.seen.grid

    def onto(self, probabilities: np.ndarray, grid: Grid) -> np.ndarray:
        """(R, I, J, K) these on another grid; outside the own box what `probabilities` says there."""
        if self.grid is grid:
            return self.probabilities
        inside = resample(np.ones(self.grid.shape, bool), self.grid, grid, order=0)
        moved = np.stack([resample(one, self.grid, grid, order=1) for one in self.probabilities])
        return np.where(inside, moved, probabilities)


def look_again(
    finer: Predictor, prepared: Prepared, probabilities: np.ndarray, labels: LabelSet, threshold: float
) -> Likely | None:
    """The weighted mean of both answers in the box around what was found.

    Args:
        finer: runs the finer network.
        prepared: the case; without its sources nothing can be looked at.
        probabilities: (R, I, J, K) of the first network on `prepared.grid`.
        labels: of both models.
        threshold: probability from which something is found.

    Returns:
        None where nothing was found, or what was found is too large to be looked at again.

    Raises:
        NoMemory: the GPU's memory is too small for the box.
    """
    box = bounding_box(outline(probabilities, labels) >= threshold)
    if any(side.start >= side.stop for side in box):
        return None
    grid = _finer_grid(prepared.grid, box, finer.card.preparation)
    if np.prod(grid.shape) > LARGEST:
        return None
    closer = prepared.closer(grid)
    if closer is None:
        return None
    answer = finer.probabilities(closer)
    before = np.stack([resample(one, prepared.grid, grid, order=1) for one in probabilities])
    return Likely((1 - WEIGHT) * before + WEIGHT * answer, closer)


def _finer_grid(grid: Grid, box: tuple[slice, slice, slice], settings: Preparation) -> Grid:
    """The finer network's voxels over a box of `grid` and the margin, inside `grid` where it can be.

    Its voxels lie on whole multiples of the spacing along each axis, as those of `prepare` do: an image of
    that spacing is then not interpolated.
    """
    starts, sizes = [], []
    axes = grid.axes
    origin = axes.T @ grid.affine[:3, 3]  # mm along each axis
    for axis, side in enumerate(box):
        step, fine = grid.spacing[axis], settings.spacing[axis]
        reach = [
            max(0.0, side.start * step - MARGIN),
            min((grid.shape[axis] - 1) * step, side.stop * step + MARGIN),
        ]
        low = np.floor((origin[axis] + reach[0]) / fine)
        size = int(np.ceil((origin[axis] + reach[1]) / fine) - low) + 1
        starts.append(low * fine)
        sizes.append(-(-size // settings.multiple) * settings.multiple)
    affine = np.eye(4)
    affine[:3, :3] = axes * np.array(settings.spacing)
    affine[:3, 3] = axes @ np.array(starts)
    return Grid(triple(sizes), affine)
