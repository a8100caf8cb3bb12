"""Which part of a volume a correction looks at: around the prompts, as large as what is being corrected,
within limits.

A view is a box of the network's grid whose sizes the network accepts and whose corner falls on a voxel of its
first level, so that kept features can be cropped instead of computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from slem_app.labels import LabelSet
from slem_app.prompts import Click, Scribble, map_value
from slem_app.types import Grid, triple
from slem_app.volumes.geometry import bounding_box, resample

__all__ = ["Box3", "View", "ViewSettings", "covering", "groups", "moved", "view"]

Box3 = tuple[slice, slice, slice]
"""A box of voxels."""


@dataclass(frozen=True)
class ViewSettings:
    """How much is looked at."""

    smallest: float = 96.0
    """mm, least side of a view."""
    largest: float = 144.0
    """mm, greatest side of a view; more takes longer than a reader waits."""
    margin: float = 12.0
    """mm seen around what is corrected."""
    cube: bool = False
    """As many voxels along each axis: a GPU takes longer over the first view of each shape
    (`benchmarks/results/clicks_speed.md`), so let there be few.
    """


@dataclass(frozen=True, eq=False)
class View:
    """A box of the network's grid."""

    box: Box3
    """Its voxels."""
    grid: Grid
    """Their grid."""

    def around(self, world: np.ndarray, reach: float) -> View:
        """The part of it within `reach` mm, along its axes, of some points (n, 3)."""
        index = np.clip(np.floor(self.grid.to_index(world) + 0.5), 0, np.array(self.grid.shape) - 1).astype(
            int
        )
        more = np.ceil(reach / self.grid.spacing).astype(int)
        low = np.maximum(index.min(axis=0) - more, 0)
        return self.part(low, np.minimum(index.max(axis=0) + 1 + more, self.grid.shape))

    def part(self, low: np.ndarray, high: np.ndarray) -> View:
        """The part from its voxel `low` up to `high`."""
        box = triple(slice(int(s.start + a), int(s.start + b)) for s, a, b in zip(self.box, low, high))
        return View(box, self.grid.crop(tuple(low), tuple(high - low)))

    def within(self, whole: View) -> Box3:
        """Its box as seen from a view that holds it."""
        return triple(slice(s.start - w.start, s.stop - w.start) for s, w in zip(self.box, whole.box))


def groups(entries: Sequence[Click | Scribble], widest: float) -> list[list[Click | Scribble]]:
    """Entries that one view of `widest` mm can hold, in their order; a wide scribble is a group
    of its own.
    """
    found: list[tuple[list[Click | Scribble], np.ndarray]] = []
    for entry in entries:
        points = np.atleast_2d(np.array(entry.world))
        ends = np.array([points.min(axis=0), points.max(axis=0)])
        if found:
            both = np.array([np.minimum(found[-1][1][0], ends[0]), np.maximum(found[-1][1][1], ends[1])])
            if (both[1] - both[0]).max() <= widest:
                found[-1] = ([*found[-1][0], entry], both)
                continue
        found.append(([entry], ends))
    return [members for members, _ in found]


def view(
    entries: Sequence[Click | Scribble],
    current: np.ndarray,
    reference: Grid,
    grid: Grid,
    labels: LabelSet,
    settings: ViewSettings,
    multiple: int,
    stride: int,
) -> View:
    """The view for some prompts.

    Args:
        entries: new prompts that lie near each other.
        current: (I, J, K) label map on `reference`.
        reference: its grid.
        grid: the network's.
        labels: the model's.
        settings: limits.
        multiple: sizes are multiples of it.
        stride: the corner is a multiple of it.
    """
    points = np.concatenate([np.atleast_2d(np.array(e.world)) for e in entries])
    index = np.clip(np.floor(grid.to_index(points) + 0.5), 0, np.array(grid.shape) - 1).astype(int)  # n 3
    low, high = index.min(axis=0), index.max(axis=0) + 1
    largest = np.minimum(
        np.ceil(settings.largest / grid.spacing / multiple).astype(int) * multiple, grid.shape
    )
    around = _clamped((low + high) // 2 - largest // 2, largest, np.array(grid.shape))
    part = grid.crop(tuple(around), tuple(largest))
    shown = moved(current, reference, part, order=0)
    for entry in entries:
        found = _corrected(entry, shown, part, labels)
        if found is not None:
            low, high = np.minimum(low, around + found[0]), np.maximum(high, around + found[1])
    need = np.maximum(
        high - low + 2 * np.ceil(settings.margin / grid.spacing), np.ceil(settings.smallest / grid.spacing)
    )
    size = np.minimum(
        np.ceil((need.max() if settings.cube else need) / multiple).astype(int) * multiple, largest
    )
    start = (low + high) // 2 - size // 2
    # the prompts stay off the view's faces
    edge = np.minimum(size // 4, (size - (index.max(axis=0) - index.min(axis=0) + 1)) // 2).clip(0)
    start = np.clip(start, index.max(axis=0) + 1 + edge - size, index.min(axis=0) - edge)
    start = _clamped(start, size, np.array(grid.shape)) // stride * stride
    box = triple(slice(int(a), int(a + n)) for a, n in zip(start, size))
    return View(box, grid.crop(tuple(start), tuple(size)))


def moved(array: np.ndarray, source: Grid, target: Grid, order: int, fill: float = 0.0) -> np.ndarray:
    """`resample` that touches only the part of `array` which `target` covers."""
    box = covering(target, source, 1)
    if box is None:
        return np.full(target.shape, fill, dtype=array.dtype if order == 0 else np.float32)
    part = source.crop(triple(s.start for s in box), triple(s.stop - s.start for s in box))
    return resample(array[box], part, target, order, fill)


def covering(part: Grid, whole: Grid, more: int = 0) -> Box3 | None:
    """The box of `whole` that holds every voxel centre inside `part`, and `more` voxels around; None where
    they do not meet.
    """
    corners = (
        np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * np.array(part.shape) - 0.5
    )
    index = whole.to_index(part.to_world(corners))
    low = np.maximum(np.floor(index.min(axis=0)).astype(int) - more, 0)
    high = np.minimum(np.ceil(index.max(axis=0)).astype(int) + 1 + more, whole.shape)
    return triple(slice(int(a), int(b)) for a, b in zip(low, high)) if (low < high).all() else None


def _clamped(start: np.ndarray, size: np.ndarray, shape: np.ndarray) -> np.ndarray:
    return np.clip(start, 0, shape - size)


def _corrected(
    entry: Click | Scribble, shown: np.ndarray, grid: Grid, labels: LabelSet
) -> tuple[np.ndarray, np.ndarray] | None:
    """The box of the component that a prompt corrects: the one that it lies in, else the nearest one of its
    label.
    """
    centre = np.atleast_2d(np.array(entry.world)).mean(axis=0)
    voxel = np.clip(np.floor(grid.to_index(centre) + 0.5), 0, np.array(grid.shape) - 1).astype(int)
    value = int(shown[tuple(voxel)]) or map_value(entry.label, labels)
    if not value:
        return None
    mask = shown == value
    box = bounding_box(mask)
    start = np.array([s.start for s in box])
    parts, count = ndimage.label(mask[box])
    if not count:
        return None
    voxel = voxel - start
    number = int(parts[tuple(voxel)]) if ((voxel >= 0) & (voxel < parts.shape)).all() else 0
    if not number:
        index = np.argwhere(parts)
        number = int(parts[tuple(index[((index - voxel) ** 2).sum(axis=1).argmin()])])
    found = bounding_box(parts == number)
    return start + [s.start for s in found], start + [s.stop for s in found]
