"""A box of fixed size out of a cached array, whether or not it lies inside."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["cut"]


def cut(array: np.ndarray, start: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """(C, i, j, k) box of `size` voxels at `start` of (C, I, J, K), zero outside; reads only that box of a
    memory-mapped array.
    """
    result = np.zeros((array.shape[0], *size), dtype=array.dtype)
    low, high = np.maximum(start, 0), np.minimum(start + np.array(size), array.shape[1:])
    into = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))
    result[(slice(None), *into)] = array[
        (slice(None), *(slice(a, b) for a, b in zip(low, high, strict=True)))
    ]
    return result
