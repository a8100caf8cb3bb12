"""How the axes of a client's array lie on those of an image.

A client that reads images by ITK sends [K, J, I], one that reads them by nibabel [I, J, K], and slices of a
DICOM series may run either way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np

__all__ = ["AxisOrder", "axis_orders"]


@dataclass(frozen=True)
class AxisOrder:
    """One of the 48 ways.

    Example:
        >>> order = AxisOrder((2, 1, 0), (False, False, True))
        >>> order.index_to_image((0, 5, 3), (10, 20, 30))
        (3, 5, 29)
    """

    axes: tuple[int, int, int] = (0, 1, 2)
    """For each axis of the image the client's that runs along it."""
    flips: tuple[bool, bool, bool] = (False, False, False)
    """For each axis of the image: the client's runs the other way."""

    def to_image(self, array: np.ndarray) -> np.ndarray:
        """The client's array as (I, J, K); a view."""
        return array.transpose(self.axes)[self._steps]

    def to_client(self, array: np.ndarray) -> np.ndarray:
        """An array (I, J, K) as the client has it; a view."""
        back = [self.axes.index(axis) for axis in range(3)]
        return array[self._steps].transpose(back)

    def index_to_image(self, index: Sequence[int], shape: Sequence[int]) -> tuple[int, int, int]:
        """The voxel (i, j, k) of a voxel of the client.

        Args:
            index: in the client's array.
            shape: of the image.
        """
        i, j, k = (
            shape[axis] - 1 - index[own] if flip else index[own]
            for axis, (own, flip) in enumerate(zip(self.axes, self.flips, strict=True))
        )
        return i, j, k

    @property
    def _steps(self) -> tuple[slice, slice, slice]:
        i, j, k = (slice(None, None, -1 if flip else 1) for flip in self.flips)
        return i, j, k


def axis_orders() -> Iterator[AxisOrder]:
    """All of them, those of nibabel and ITK first."""
    yield from (AxisOrder(), AxisOrder((2, 1, 0)))
    for axes in permutations(range(3)):
        for flips in product((False, True), repeat=3):
            one = AxisOrder((axes[0], axes[1], axes[2]), (flips[0], flips[1], flips[2]))
            if one not in (AxisOrder(), AxisOrder((2, 1, 0))):
                yield one
