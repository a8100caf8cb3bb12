"""One sequence as registration and the mask network see it: 2 mm, RAS, 0..1, with the brain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slem_app.types import Grid
from slem_app.volumes.brainmask.find import brain_probability
from slem_app.volumes.brainmask.network import mask_input
from slem_app.volumes.geometry import resample
from slem_app.volumes.levels import Levels, Volume, foreground

__all__ = ["Coarse", "coarse"]


FINE = 2.0  # mm at which sequences are registered


@dataclass(frozen=True, eq=False)
class Coarse:
    """One sequence."""

    image: np.ndarray
    """(I, J, K) float32 in 0..1."""
    brain: np.ndarray
    """(I, J, K) float32, probability of being brain."""
    field: Grid
    """Grid of the sequence itself: outside it nothing is known."""
    grid: Grid
    """Where image and brain lie."""


def coarse(volume: Volume, levels: Levels, what: str, head: bool) -> Coarse:
    """A sequence; its brain is what the mask network finds in a head that is not stripped, else all that is
    not background.

    Args:
        volume: as it was read.
        levels: of it.
        what: how to name it in an error.
        head: it shows a head.

    Raises:
        BadVolume: an image in which nothing can be found.
        NotFound, BadCard, BadWeights: the mask network is not there or cannot be used.
    """
    image, grid = mask_input(volume.array, volume.grid, what, FINE, 1)
    if head and levels.head is not None:
        share, place = brain_probability(volume, what)
        return Coarse(image, resample(share, place, grid, order=1), volume.grid, grid)
    there = foreground(volume.array, levels, what).astype(np.float32)
    return Coarse(image, resample(there, volume.grid, grid, order=1), volume.grid, grid)
