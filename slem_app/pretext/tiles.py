"""Puzzles: a volume cut into equal tiles, put together in another order, and sets of orders that are far from
each other.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import permutations

import numpy as np

from slem_app.pretext.blocks import cell_map

__all__ = ["assemble", "far_orders", "split", "tile_cells"]

CANDIDATES = 20_000


def split(image: np.ndarray, grid: tuple[int, int, int]) -> np.ndarray:
    """(I, J, K) -> (T, i, j, k): equal tiles, the last axis fastest; voxels left over at the far sides are
    dropped.
    """
    i, j, k = (n // count for n, count in zip(image.shape, grid, strict=True))
    cut = image[: i * grid[0], : j * grid[1], : k * grid[2]].reshape(grid[0], i, grid[1], j, grid[2], k)
    return np.ascontiguousarray(cut.transpose(0, 2, 4, 1, 3, 5).reshape(-1, i, j, k))


def assemble(tiles: np.ndarray, grid: tuple[int, int, int], shape: tuple[int, int, int]) -> np.ndarray:
    """The inverse of `split`, zero where it dropped voxels."""
    i, j, k = tiles.shape[1:]
    whole = (
        tiles.reshape(*grid, i, j, k)
        .transpose(0, 3, 1, 4, 2, 5)
        .reshape(grid[0] * i, grid[1] * j, grid[2] * k)
    )
    return np.pad(whole, [(0, n - m) for n, m in zip(shape, whole.shape, strict=True)])


def tile_cells(shape: tuple[int, int, int], grid: tuple[int, int, int]) -> np.ndarray:
    """(I, J, K) uint8: 1 + the place of the tile that a voxel belongs to."""
    edges = [np.arange(count + 1) * (n // count) for n, count in zip(shape, grid, strict=True)]
    return cell_map(shape, edges, (0, 0, 0))


@lru_cache(maxsize=8)
def far_orders(tiles: int, count: int, seed: int = 0) -> np.ndarray:
    """(1 + count, tiles): the identity, then orders chosen one after the other, each as far as can be from
    those before.

    The greedy choice by Hamming distance of Noroozi & Favaro, ECCV 2016, algorithm 1, with its first order
    the identity. All orders are candidates where there are few, else `CANDIDATES` random ones.
    """
    if math.factorial(tiles) <= CANDIDATES:
        candidates = np.array(list(permutations(range(tiles))), dtype=np.int64)
    else:
        candidates = np.argsort(np.random.default_rng(seed).random((CANDIDATES, tiles)), axis=1)
    chosen = [np.arange(tiles)]
    nearest = (candidates != chosen[0]).sum(axis=1)  # to the nearest of the chosen
    total = nearest.copy()  # to all of them: decides among equals, as their algorithm does
    while len(chosen) <= min(count, len(candidates) - 1):
        best = int(np.lexsort((np.arange(len(candidates))[::-1], total, nearest))[-1])
        chosen.append(candidates[best])
        unlike = (candidates != candidates[best]).sum(axis=1)
        nearest, total = np.minimum(nearest, unlike), total + unlike
    return np.array(chosen)
