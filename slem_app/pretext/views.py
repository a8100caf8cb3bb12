"""From a cached case to a view: the whole head at a fixed size, mirrored and turned by chance; the same for
every task.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from slem_app.errors import BadSetting
from slem_app.pretext.blocks import middle
from slem_app.pretext.task import HeadView
from slem_app.training.affine import draw_affine, warp
from slem_app.training.window import cut
from slem_app.types import triple
from slem_app.volumes.cache import CachedCase

__all__ = ["HeadViewSettings", "make_view"]


@dataclass(frozen=True)
class HeadViewSettings:
    """How a head is looked at."""

    shape: tuple[int, int, int] = (96, 128, 96)
    """Voxels; multiples of the network's `multiple`. A head at 1.5 mm has about this size."""
    flip: float = 0.5
    """Probability of a mirror, each axis by itself."""
    spatial: float = 0.3
    """Probability of one rotation and scaling."""
    rotation: float = 15.0
    """Largest angle about each axis, degrees."""
    scale: tuple[float, float] = (0.85, 1.1)
    """Range of the scaling."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))
        object.__setattr__(self, "scale", tuple(float(s) for s in self.scale))
        if (
            len(self.shape) != 3
            or min(self.shape) < 8
            or not 0 <= self.flip <= 1
            or not 0 <= self.spatial <= 1
            or not 0 < self.scale[0] <= self.scale[1]
        ):
            raise BadSetting(
                "a view needs three sizes of at least 8 voxels, probabilities between 0 and 1 and a scale "
                f"that rises: {self}"
            )


def make_view(
    case: CachedCase,
    notes: np.ndarray | None,
    rng: np.random.Generator,
    settings: HeadViewSettings,
    plain: bool = False,
) -> HeadView:
    """Look at a case.

    Args:
        case: from the cache.
        notes: (I, J, K) int32 of the same grid, or None.
        rng: for mirrors and turns.
        settings: how.
        plain: neither mirror nor turn, for measuring.
    """
    head = (case.images != 0).any(axis=0)  # a missing sequence is stored as zeros
    start = np.round(middle(head) - np.array(settings.shape) / 2).astype(int)
    both = [cut(case.images, start, settings.shape).astype(np.float32)]
    if notes is not None:
        both.append(cut(notes[None], start, settings.shape).astype(np.float32))
    if not plain:
        both = _moved(both, rng, settings)
    return HeadView(
        np.ascontiguousarray(both[0]),
        case.present.copy(),
        triple(float(s) for s in case.grid.spacing),
        np.ascontiguousarray(both[1][0]).astype(np.int32) if notes is not None else None,
    )


def _moved(both: list[np.ndarray], rng: np.random.Generator, settings: HeadViewSettings) -> list[np.ndarray]:
    """Mirrored and turned; the head's border stays sharp, so that tissue remains what differs from zero."""
    flips = tuple(axis for axis in (1, 2, 3) if rng.random() < settings.flip)
    both = [np.flip(array, flips) for array in both]
    if rng.random() >= settings.spatial:
        return both
    affine = draw_affine(rng, settings.rotation, settings.scale)
    images, *notes = (torch.from_numpy(np.ascontiguousarray(array)) for array in both)
    moved = warp(torch.cat([images, (images != 0).float()]), affine)
    values, inside = moved.split(len(images))
    return [
        torch.where(inside > 0.5, values, 0.0).numpy(),
        *(warp(n, affine, "nearest").numpy() for n in notes),
    ]
