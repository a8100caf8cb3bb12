"""Whether the sequences of a study lie on each other, told from their contents: says when registration is
needed, moves nothing.

Mutual information (Maes et al., IEEE TMI 1997) of coarse images is compared where they are and a little
displaced. A hint, no proof: of 18 public studies in register none is named; one whose head really moved by 16
mm is; of single sequences moved by 7 to 16 mm about half are, the others having too little contrast to tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

__all__ = ["displacement"]

COARSE = 6.0  # mm of the blocks that are compared, and of the smallest displacement that is seen
STEPS = (-2, -1, 1, 2)  # displacements along each axis, in blocks
LEVELS = 16  # of intensity; 0 is outside the head
LEAST_VOXELS = 200  # blocks that both sequences must share
# times as much information displaced as in place; pairs of poor contrast reach it by chance, but never all
# pairs of a sequence
BETTER = 1.2


def displacement(images: Mapping[str, np.ndarray], spacing: Sequence[float]) -> dict[str, tuple[float, str]]:
    """Sequences that fit the first one clearly better somewhere else.

    Args:
        images: by sequence name, (I, J, K) on one grid, 0 outside the head.
        spacing: mm of that grid.

    Returns:
        Sequence -> (about how many mm, name of the first sequence); empty where all is well or nothing can be
        told.
    """
    size = [max(1, round(COARSE / step)) for step in spacing]
    levels = {name: _levels(image, size) for name, image in images.items()}
    first, *others = levels
    together, open_ends = {first}, [first]
    while open_ends:  # a sequence is in its place if it fits one that is
        fixed = levels[open_ends.pop()]
        near = [name for name in others if name not in together and _best(fixed, levels[name])[0] <= BETTER]
        together.update(near)
        open_ends += near
    found = {}
    for name in others:
        if name not in together:
            _, axis, step = _best(levels[first], levels[name])
            found[name] = (abs(step) * size[axis] * float(spacing[axis]), first)
    return found


def _best(fixed: np.ndarray, moving: np.ndarray) -> tuple[float, int, int]:
    """The best displacement: information relative to that in place (0 where nothing can be told), axis,
    blocks.
    """
    here = _information(fixed, moving, 0, 0)
    value, axis, step = max(
        ((_information(fixed, moving, axis, step), axis, step) for axis in range(3) for step in STEPS),
        key=lambda row: row[0],
    )
    return value / here if here > 0 else 0.0, axis, step


def _levels(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """(I', J', K') level of intensity, 1 .. LEVELS - 1, of each block of `size` voxels; 0 where less than all
    of it is head.
    """
    shape = [n // s for n, s in zip(image.shape, size, strict=True)]
    blocks = image[tuple(slice(n * s) for n, s in zip(shape, size, strict=True))]
    blocks = blocks.reshape(shape[0], size[0], shape[1], size[1], shape[2], size[2])
    mean, inside = blocks.mean(axis=(1, 3, 5)), (blocks != 0).all(axis=(1, 3, 5))
    result = np.zeros(shape, dtype=np.intp)
    if inside.any():
        edges = np.quantile(mean[inside], np.linspace(0, 1, LEVELS)[1:-1])
        result[inside] = 1 + np.searchsorted(edges, mean[inside])
    return result


def _information(fixed: np.ndarray, moving: np.ndarray, axis: int, step: int) -> float:
    """Mutual information, nats, of the blocks inside both heads, `moving` displaced by `step` blocks; 0 where
    too few are shared.
    """
    n = fixed.shape[axis]
    if abs(step) >= n:
        return 0.0
    a = fixed.take(np.arange(max(0, step), min(n, n + step)), axis=axis)
    b = moving.take(np.arange(max(0, -step), min(n, n - step)), axis=axis)
    both = (a > 0) & (b > 0)
    count = np.count_nonzero(both)
    if count < LEAST_VOXELS:
        return 0.0
    joint = np.bincount(a[both] * LEVELS + b[both], minlength=LEVELS**2).reshape(LEVELS, LEVELS) / count
    apart = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    seen = joint > 0
    return float((joint[seen] * np.log(joint[seen] / apart[seen])).sum())
