"""Grid: where the voxels of an array lie in the world. Every world coordinate of the package is RAS
millimetres.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

__all__ = ["Grid", "triple"]

T = TypeVar("T")


def triple(values: Iterable[T]) -> tuple[T, T, T]:
    """Three values, one an axis.

    Raises:
        ValueError: more or fewer.
    """
    first, second, third = values
    return first, second, third


@dataclass(frozen=True, eq=False)
class Grid:
    """Shape and affine of a voxel array; what decides whether two arrays lie on each other.

    Example:
        >>> Grid((2, 3, 4), np.diag([-1.0, -1.0, 2.0, 1.0])).orientation
        'LPS'
    """

    shape: tuple[int, int, int]
    """Voxels along I, J, K."""
    affine: np.ndarray
    """(4, 4) float64, voxel index (centre) to world, RAS millimetres."""

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or len(self.shape) != 3 or min(self.shape) < 1:
            raise ValueError(
                f"a grid needs three axes and a 4x4 affine, got shape {self.shape}, affine {affine.shape}"
            )
        affine.setflags(write=False)
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))

    @property
    def spacing(self) -> np.ndarray:
        """(3,) voxel size along I, J, K in mm."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    @cached_property
    def inverse(self) -> np.ndarray:
        """(4, 4) world to voxel index."""
        inverse = np.linalg.inv(self.affine)
        inverse.setflags(write=False)
        return inverse

    @property
    def voxel_volume(self) -> float:
        """mm3 of one voxel."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    def millilitres(self, mask: np.ndarray) -> float:
        """Volume of the voxels of a mask, (I, J, K) bool, ml."""
        return float(np.count_nonzero(mask) * self.voxel_volume / 1000)

    @property
    def axes(self) -> np.ndarray:
        """(3, 3) unit direction of each voxel axis, in columns, RAS."""
        return self.affine[:3, :3] / self.spacing

    @property
    def orientation(self) -> str:
        """Three letters of the nearest anatomical axes, e.g. 'RAS', 'LPS', 'PIL'; a letter names the side the
        index grows to.
        """
        letters, free = ["?"] * 3, [0, 1, 2]
        for axis in np.argsort(-np.abs(self.axes).max(axis=0), kind="stable"):
            world = max(free, key=lambda w: abs(self.axes[w, axis]))
            free.remove(world)
            letters[axis] = ("LR", "PA", "IS")[world][int(self.axes[world, axis] > 0)]
        return "".join(letters)

    def same_as(self, other: Grid, tolerance: float = 1e-2) -> bool:
        """True when both have the same shape and no voxel centre differs by more than `tolerance` mm."""
        return self.shape == other.shape and bool(np.abs(self.corners() - other.corners()).max() <= tolerance)

    def corners(self) -> np.ndarray:
        """(8, 3) world positions of the outermost voxel centres."""
        index = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
        return self.to_world(index * (np.array(self.shape) - 1))

    def to_world(self, index: np.ndarray) -> np.ndarray:
        """(..., 3) voxel indices to RAS mm."""
        return np.asarray(index, dtype=np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def to_index(self, world: np.ndarray) -> np.ndarray:
        """(..., 3) RAS mm to fractional voxel indices."""
        return (np.asarray(world, dtype=np.float64) - self.affine[:3, 3]) @ self.inverse[:3, :3].T

    def crop(self, start: tuple[int, int, int], shape: tuple[int, int, int]) -> Grid:
        """The grid of the box of `shape` voxels that begins at index `start` (which may lie outside)."""
        affine = self.affine.copy()
        affine[:3, 3] = self.to_world(np.array(start))
        return Grid(shape, affine)

    def __str__(self) -> str:
        return (
            f"{'x'.join(map(str, self.shape))} @ {'x'.join(f'{s:.2f}' for s in self.spacing)} mm "
            f"{self.orientation}"
        )
