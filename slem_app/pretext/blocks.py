"""Cutting a head into blocks: where the cuts lie, which voxel is in which block, what a bottleneck voxel has
of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from slem_app.volumes.geometry import bounding_box

__all__ = ["cell_map", "coverage", "cuts", "middle", "slices", "too_small"]


LEAST_SIDE = 8  # voxels of a block along each axis


def cuts(
    box: Sequence[slice], grid: Sequence[int], jitter: float, rng: np.random.Generator
) -> tuple[np.ndarray, ...]:
    """For each axis the edges of its blocks, first and last those of the box.

    Args:
        box: of the head.
        grid: blocks along I, J, K.
        jitter: each inner cut is moved by up to this share of the box.
        rng: for the moves.
    """
    edges = []
    for side, count in zip(box, grid, strict=True):
        length = side.stop - side.start
        inner = np.arange(1, count) / count + rng.uniform(-jitter, jitter, count - 1)
        inner = np.sort(side.start + np.round(inner * length).astype(int))
        edges.append(np.concatenate([[side.start], inner, [side.stop]]))
    return tuple(edges)


def slices(edges: Sequence[np.ndarray]) -> list[tuple[slice, slice, slice]]:
    """The blocks as boxes, the last axis fastest."""
    i, j, k = ([slice(int(a), int(b)) for a, b in pairwise(e)] for e in edges)
    return [(x, y, z) for x in i for y in j for z in k]


def cell_map(shape: Sequence[int], edges: Sequence[np.ndarray], gap: Sequence[int]) -> np.ndarray:
    """(I, J, K) uint8: 1 + the block that a voxel is in, 0 outside all and in the gaps.

    Args:
        shape: I, J, K.
        edges: from `cuts`.
        gap: voxels left empty at every inner cut, each axis.
    """
    cells = np.zeros(tuple(shape), dtype=np.uint8)
    for number, block in enumerate(slices(edges), 1):
        cells[
            tuple(_narrowed(side, edge, width) for side, edge, width in zip(block, edges, gap, strict=True))
        ] = number
    return cells


def coverage(cells: np.ndarray, blocks: int, stride: int) -> np.ndarray:
    """(blocks, I/s, J/s, K/s) float32: the share of each bottleneck voxel that lies in each block.

    Args:
        cells: (I, J, K) with 0 where nothing counts, sizes multiples of `stride`.
        blocks: how many there are.
        stride: s.
    """
    i, j, k = (n // stride for n in cells.shape)
    cubes = cells.reshape(i, stride, j, stride, k, stride)
    return np.stack(
        [(cubes == number).mean(axis=(1, 3, 5), dtype=np.float32) for number in range(1, blocks + 1)]
    )


def too_small(shape: Sequence[int], grid: Sequence[int], what: str) -> str:
    """Why a volume of (I, J, K) voxels cannot be cut into `grid` blocks, or ''."""
    small = [
        f"{n} voxels for {count} {what}"
        for n, count in zip(shape, grid, strict=True)
        if n < LEAST_SIDE * count
    ]
    return f"too small for {what} of {LEAST_SIDE} voxels: {', '.join(small)}" if small else ""


def middle(mask: np.ndarray) -> np.ndarray:
    """(3,) centre of the box around `mask`."""
    return np.array([(side.start + side.stop) / 2 for side in bounding_box(mask)])


def _narrowed(side: slice, edge: np.ndarray, gap: int) -> slice:
    """A block's side without its half of the gaps at inner cuts."""
    return slice(
        side.start + (gap // 2 if side.start > edge[0] else 0),
        side.stop - (gap - gap // 2 if side.stop < edge[-1] else 0),
    )
