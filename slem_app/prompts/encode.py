"""Prompts as channels of the network's grid.

Channels of L labels, P = 2 L + 2: [0, L) where each label was clicked or painted; L background; (L, 2 L] the
current segmentation, one-hot by label; 2 L + 1 the box. No prompt at all is zero everywhere, which is
automatic use. A click is a small Gaussian ball in millimetres, so it looks the same at every spacing and
orientation.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from slem_app.labels import LabelSet
from slem_app.prompts.prompts import Click, Prompts
from slem_app.prompts.scribble import Scribble
from slem_app.types import Grid

__all__ = ["channel_count", "encode"]

SIGMA = 4.0
"""mm, standard deviation of a click's ball."""
REACH = 3.0
"""Standard deviations at which the ball ends."""


def channel_count(labels: LabelSet) -> int:
    """P for these labels."""
    return 2 * len(labels.labels) + 2


def encode(
    prompts: Prompts, grid: Grid, labels: LabelSet, current: np.ndarray | None = None, sigma: float = SIGMA
) -> np.ndarray:
    """Channels of `prompts`.

    Args:
        prompts: what the reader said; what lies outside `grid` is left out.
        grid: the network's, or a crop of it.
        labels: the model's.
        current: (I, J, K) uint8 label map on `grid` that is to be corrected; None: no such channel.
        sigma: mm.

    Returns:
        (2 L + 2, I, J, K) float32 in 0..1.
    """
    count = len(labels.labels)
    channels = np.zeros((2 * count + 2, *grid.shape), dtype=np.float32)
    for entry in prompts.entries:
        target = channels[labels.value(entry.label) - 1 if entry.label else count]
        if isinstance(entry, Click):
            _ball(target, entry, grid, sigma)
        else:
            _paint(target, entry, grid)
    if current is not None:
        for value in range(1, count + 1):
            channels[count + value] = current == value
    if prompts.box is not None:
        channels[-1] = prompts.box.inside(grid)
    return channels


def _ball(target: np.ndarray, click: Click, grid: Grid, sigma: float) -> None:
    """Raise `target` to the click's Gaussian."""
    cube = np.array(click.world) + np.array(list(product((-1, 1), repeat=3))) * REACH * sigma
    reach = grid.to_index(cube)
    low = np.maximum(np.ceil(reach.min(axis=0)).astype(int), 0)
    high = np.minimum(np.floor(reach.max(axis=0)).astype(int) + 1, grid.shape)
    nearest = click.voxel(grid)
    if (low < high).all():
        index = np.stack(np.meshgrid(*(np.arange(a, b) for a, b in zip(low, high)), indexing="ij"), axis=-1)
        square = ((grid.to_world(index) - click.world) ** 2).sum(axis=-1) / sigma**2
        ball = np.where(square <= REACH**2, np.exp(-0.5 * square), 0.0)
        part = target[tuple(slice(a, b) for a, b in zip(low, high))]
        np.maximum(part, ball, out=part, casting="same_kind")
    if nearest is not None:
        target[nearest] = 1.0  # thick slices: the ball may fall between two voxel centres


def _paint(target: np.ndarray, scribble: Scribble, grid: Grid) -> None:
    target[tuple(scribble.voxels(grid).T)] = 1.0
