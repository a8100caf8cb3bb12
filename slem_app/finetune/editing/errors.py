"""What a reader would point at: the pieces in which what is shown differs from what is wanted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

__all__ = ["Aim", "aim_at"]

LARGEST = 4  # pieces of each label that are looked at


@dataclass(frozen=True, eq=False)
class Aim:
    """One click and the piece of error that it lies in."""

    voxel: tuple[int, int, int]
    """Where."""
    value: int
    """What is wanted there."""
    piece: np.ndarray
    """(I, J, K) bool."""


def aim_at(
    shown: np.ndarray,
    wanted: np.ndarray,
    rng: np.random.Generator,
    smallest: int = 12,
    steady: float = 0.75,
    loose: float = 0.6,
) -> Aim | None:
    """A click into one of the larger errors, somewhere between its border and its middle.

    Args:
        shown: (I, J, K) label map.
        wanted: likewise.
        rng: what is random comes from here.
        smallest: voxels under which an error is let be.
        steady: chance that the largest is meant, and not any.
        loose: chance that the click lies anywhere between the border and the deepest voxel, and not there.

    Returns:
        The click, or None where there is no such error.
    """
    found = _pieces(shown, wanted, smallest)
    if not found:
        return None
    sizes = np.array([size for size, *_ in found], dtype=float)
    chosen = int(sizes.argmax())
    if rng.random() > steady:
        chosen = int(rng.choice(len(found), p=np.sqrt(sizes) / np.sqrt(sizes).sum()))
    _, value, box, mask = found[chosen]
    deep = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1, 1:-1]
    least = deep.max() * (rng.uniform(0.4, 1) if rng.random() < loose else 1)
    inner = np.argwhere(deep >= least)
    i, j, k = inner[rng.integers(len(inner))] + [s.start for s in box]
    piece = np.zeros(wanted.shape, dtype=bool)
    piece[box] = mask
    return Aim((int(i), int(j), int(k)), value, piece)


def _pieces(
    shown: np.ndarray, wanted: np.ndarray, smallest: int
) -> list[tuple[int, int, tuple[slice, ...], np.ndarray]]:
    """Size, value, box and mask in it of the larger pieces of each label."""
    wrong = shown != wanted
    found = []
    for value in np.unique(wanted[wrong]):
        parts, count = ndimage.label(wrong & (wanted == value))
        sizes = np.bincount(parts.ravel(), minlength=count + 1)
        sizes[0] = 0
        boxes = ndimage.find_objects(parts)
        for number in np.argsort(-sizes)[:LARGEST]:
            if sizes[number] >= max(1, smallest):
                box = boxes[number - 1]
                found.append((int(sizes[number]), int(value), box, parts[box] == number))
    return found
