"""How a voxel array of any order of axes is laid out as slices that a reader knows: patient left on the right
of an axial or coronal picture, front or head at its top.

Voxels are only put in another order, so every value and every place stays what it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slem_app.errors import BadGrid
from slem_app.types import Grid, triple
from slem_app.volumes.geometry import check_grid

__all__ = ["SliceLayout"]

THICKER = 1.1  # times the other voxel sizes, from where on an axis is the one that was sliced
MOST_OFF = 0.05  # voxels by which one may lie off the place that its slice's header gives it
# side that the index grows to -> world axis, and whether a picture's columns and rows run that way
SIDES = {"L": (0, True), "R": (0, False), "P": (1, True), "A": (1, False), "I": (2, True), "S": (2, False)}


@dataclass(frozen=True, eq=False)
class SliceLayout:
    """Slices of a grid.

    Example:
        >>> layout = SliceLayout.of(Grid((4, 5, 6), np.diag([1.0, 1.0, 2.0, 1.0])), "image")
        >>> layout.grid.orientation, layout.arrange(np.zeros((4, 5, 6))).shape
        ('LPS', (6, 5, 4))
    """

    order: tuple[int, int, int]
    """Voxel axes that run along a row, down a column, and from slice to slice."""
    reversed: tuple[bool, bool, bool]
    """Which of these three run against the voxel axis."""
    grid: Grid
    """Of the slices: I along a row, J down a column, K from slice to slice, the way of their normal."""

    @classmethod
    def of(cls, grid: Grid, what: str) -> SliceLayout:
        """The layout of a grid. The axis of the largest voxels is the one that was sliced; of an isotropic
        image it is the one from foot to head.

        Args:
            grid: of the voxels, left- or right-handed, oblique as it may be.
            what: how to name it in an error.

        Raises:
            BadGrid: its axes are not at right angles, so that no DICOM slices (PS3.3 C.7.6.2) lie on it.
        """
        check_grid(grid, what)
        _check_right_angles(grid, what)
        sides = [SIDES[letter] for letter in grid.orientation]
        sliced = _sliced_axis(grid, [world for world, _ in sides])
        first, second = sorted((axis for axis in range(3) if axis != sliced), key=lambda axis: sides[axis][0])
        order = (first, second, sliced)
        turned = [not sides[first][1], not sides[second][1], False]
        signs = np.where(turned, -1.0, 1.0)
        # handedness is the same in RAS and LPS, which differ by a half turn
        turned[2] = bool(np.linalg.det(grid.axes[:, order] * signs) < 0)
        return cls(order, triple(turned), _rearranged(grid, order, triple(turned)))

    def arrange(self, array: np.ndarray) -> np.ndarray:
        """(I, J, K) voxels as (slices, rows, columns), without a copy."""
        view = array.transpose(self.order)
        steps = tuple(slice(None, None, -1 if back else 1) for back in self.reversed)
        return view[steps].transpose(2, 1, 0)


def _sliced_axis(grid: Grid, worlds: list[int]) -> int:
    """The axis along which slices follow each other; `worlds`: the patient axis nearest to each."""
    across = int(np.argmax(grid.spacing))
    others = np.delete(grid.spacing, across)
    return across if grid.spacing[across] > THICKER * others.max() else worlds.index(2)


def _check_right_angles(grid: Grid, what: str) -> None:
    left, _, right = np.linalg.svd(grid.axes)
    away = np.linalg.norm(grid.axes - left @ right, axis=0) * grid.spacing * (np.array(grid.shape) - 1)
    off = float(away.max() / grid.spacing.min())
    if off > MOST_OFF:
        raise BadGrid(
            f"{what}: its axes are not at right angles, and DICOM slices are (voxels would be shown up to "
            f"{off:.2f} voxels off, at most {MOST_OFF} is allowed): resample it to a rectangular grid first"
        )


def _rearranged(grid: Grid, order: tuple[int, int, int], turned: tuple[bool, bool, bool]) -> Grid:
    start = np.zeros(3)
    affine = np.eye(4)
    for place, (axis, back) in enumerate(zip(order, turned, strict=True)):
        affine[:3, place] = grid.affine[:3, axis] * (-1 if back else 1)
        start[axis] = grid.shape[axis] - 1 if back else 0
    affine[:3, 3] = grid.to_world(start)
    return Grid(triple(grid.shape[axis] for axis in order), affine)
