"""A scribble: painted voxels of one label, and what a lasso encloses."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

import numpy as np

from slem_app.errors import BadPrompt
from slem_app.prompts.checks import size_of
from slem_app.types import Grid, triple
from slem_app.volumes.geometry import bounding_box

__all__ = ["Scribble"]


@dataclass(frozen=True, eq=False)
class Scribble:
    """Painted voxels of one label. Two scribbles are equal if they say the same of the same voxels of one
    grid.
    """

    label: str
    """Name of a label, or BACKGROUND."""
    painted: np.ndarray
    """(I, J, K) bool, the smallest box around what it says."""
    grid: Grid
    """Where it lies."""
    within: np.ndarray | None = None
    """(I, J, K) bool, the inside of the outline that a lasso has drawn in one slice: there its label spreads
    no farther. None: it is no lasso.
    """
    reach: float = 0.0
    """How far the answer to it goes: -1 less, 0 as it comes, 1 more (`check_reach`)."""

    @classmethod
    def of(cls, label: str, painted: np.ndarray, grid: Grid, within: np.ndarray | None = None) -> Scribble:
        """A scribble from a mask on a whole image; only the box around it is kept.

        Args:
            label: name, or BACKGROUND.
            painted: (I, J, K) bool.
            grid: of the image.
            within: (I, J, K) bool, what a lasso encloses; it holds all that is painted.

        Raises:
            BadPrompt: nothing is painted, or the mask is of another size than the grid.
        """
        if painted.shape != grid.shape:
            raise BadPrompt(
                f"the scribble of {label or 'background'!r} has {painted.shape} voxels, the image "
                f"{size_of(grid)}: paint it on this image"
            )
        box = bounding_box(painted if within is None else painted | within)
        part = np.ascontiguousarray(painted[box], dtype=bool)
        if not part.any():
            raise BadPrompt(
                f"the scribble of {label or 'background'!r} paints no voxel: paint some, or leave it out"
            )
        part.setflags(write=False)
        around = None if within is None else np.ascontiguousarray(within[box], dtype=bool)
        return cls(label, part, grid.crop(triple(s.start for s in box), triple(part.shape)), around)

    @property
    def plain(self) -> Scribble:
        """The same with the reach of every new scribble: by it, scribbles are told apart."""
        return replace(self, reach=0.0) if self.reach else self

    @cached_property
    def digest(self) -> str:
        """Hash of all it says."""
        parts = (
            self.label.encode(),
            repr(self.painted.shape).encode(),
            np.packbits(self.painted).tobytes(),
            self.grid.affine.tobytes(),
            b"" if self.within is None else np.packbits(self.within).tobytes(),
            repr(self.reach + 0.0).encode(),
        )
        return hashlib.sha256(b"\0".join(parts)).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Scribble) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    @cached_property
    def world(self) -> np.ndarray:
        """(n, 3) centres of the painted voxels, RAS mm."""
        return self.grid.to_world(np.argwhere(self.painted))

    def voxels(self, grid: Grid) -> np.ndarray:
        """(n, 3) voxels of `grid` that it paints: those whose centre lies in a painted voxel, and those that
        hold a painted voxel's centre.

        The second half keeps a fine scribble on a coarse grid, the first one a coarse scribble whole on a
        fine grid.
        """
        return self._voxels(self.painted, self.world, grid)

    def beside(self, grid: Grid) -> np.ndarray:
        """(I, J, K) bool, voxels of `grid` in the slice of a lasso and outside of its outline; none for a
        scribble, nor for a lasso that lies across the slices of its image.
        """
        flat = [axis for axis, n in enumerate(self.painted.shape) if n == 1]
        if self.within is None or len(flat) != 1:
            return np.zeros(grid.shape, dtype=bool)
        row = (self.grid.inverse @ grid.affine)[flat[0]]  # index of grid -> place across the slice
        i, j, k = np.ogrid[tuple(slice(0, n) for n in grid.shape)]
        slab: np.ndarray = np.abs(row[0] * i + row[1] * j + row[2] * k + row[3]) <= 0.5
        inside = self._voxels(self.within, self.grid.to_world(np.argwhere(self.within)), grid)
        slab[tuple(inside.T)] = False
        return slab

    def _voxels(self, mask: np.ndarray, world: np.ndarray, grid: Grid) -> np.ndarray:
        """(n, 3) voxels of `grid` in (I, J, K) `mask` of its own, the centres of which lie at `world`."""
        coarse = np.floor(grid.to_index(world) + 0.5).astype(int)  # n 3
        corners = (
            np.array(list(product((-0.5, 0.5), repeat=3))) * self.painted.shape
            + (np.array(self.painted.shape) - 1) / 2
        )
        reach = grid.to_index(self.grid.to_world(corners))
        low = np.maximum(np.floor(reach.min(axis=0)).astype(int), 0)
        high = np.minimum(np.ceil(reach.max(axis=0)).astype(int) + 1, grid.shape)
        if (low < high).all():
            near = np.stack(
                np.meshgrid(*(np.arange(a, b) for a, b in zip(low, high)), indexing="ij"), axis=-1
            ).reshape(-1, 3)
            own = np.floor(self.grid.to_index(grid.to_world(near)) + 0.5).astype(int)
            held = np.asarray(((own >= 0) & (own < self.painted.shape)).all(axis=1))
            held[held] = mask[tuple(own[held].T)]
            coarse = np.concatenate([coarse, near[held]])
        coarse = coarse[((coarse >= 0) & (coarse < grid.shape)).all(axis=1)]
        return np.unique(coarse, axis=0)
