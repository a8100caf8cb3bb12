"""What every writer of label maps demands of its input."""

from __future__ import annotations

import numpy as np

from slem_app.errors import BadGrid, BadLabel
from slem_app.labels import LabelSet
from slem_app.types import Grid
from slem_app.volumes import geometry

__all__ = ["check_labels"]


def check_labels(array: np.ndarray, grid: Grid, labels: LabelSet) -> np.ndarray:
    """The label map as uint8 in Fortran order (I runs fastest, as in every file format here).

    Raises:
        BadGrid: an array of another shape than the grid, or a grid that no image can have.
        BadLabel: a value that `labels` lacks.
    """
    geometry.check_grid(grid, "the result's grid")
    if array.shape != grid.shape:
        raise BadGrid(
            f"a label map of {array.shape} voxels came with a grid of {grid.shape}: both must be the "
            f"requested image's"
        )
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > len(labels.names):
        raise BadLabel(
            f"label values must lie in 0..{len(labels.names)} ({', '.join(labels.names)}), got {low}..{high}"
        )
    return np.asfortranarray(array, dtype=np.uint8)
