"""What one image looks like, with a probability."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from slem_app.errors import BadGrid, BadVolume
from slem_app.studies import Series
from slem_app.volumes.brainmask.find import one_piece
from slem_app.volumes.coarse import coarse
from slem_app.volumes.conform import LEAST_BRAIN, MOST_BRAIN
from slem_app.volumes.levels import Levels, Volume, check_modality
from slem_app.volumes.looks.network import CLASSES, box_around, looks_input
from slem_app.volumes.looks.weights import load_looks_network
from slem_app.volumes.read import read

__all__ = ["NAMES", "Looks", "look", "look_at_series"]

NAMES: Mapping[str, str] = {
    "t1n": "T1 before contrast",
    "t1c": "T1 after contrast",
    "t2w": "T2",
    "t2f": "FLAIR",
    "other": "another MR image of a head",
}
"""Class -> what people call it."""


@dataclass(frozen=True)
class Looks:
    """What an image looks like."""

    shares: Mapping[str, float]
    """Probability of each of `CLASSES`; empty where it shows no brain."""
    why_not: str = ""
    """Why it shows no brain."""

    @property
    def best(self) -> str:
        """The likeliest class; empty where there is no brain."""
        return max(self.shares, key=lambda name: self.shares[name]) if self.shares else ""

    @property
    def probability(self) -> float:
        """Of the likeliest class; 0 where there is no brain."""
        return max(self.shares.values(), default=0.0)

    def __str__(self) -> str:
        if not self.shares:
            return f"not a head ({self.why_not})"
        return f"{self.best} ({self.probability:.0%})"


def look(volume: Volume, what: str) -> Looks:
    """What an image looks like.

    Args:
        volume: as it was read, a whole head or a stripped brain.
        what: how to name it in a reason.

    Raises:
        NotFound, BadCard, BadWeights: a network is not there or cannot be used.
    """
    try:
        check_modality(what, volume)
        levels = Levels.of(volume.array, what)
        seen = coarse(volume, levels, what, head=True)
    except BadVolume as error:
        return Looks({}, str(error))
    brain = one_piece(seen.brain > 0.5) if levels.head is not None else seen.brain > 0.5
    ml = seen.grid.millilitres(brain)
    if not LEAST_BRAIN <= ml <= MOST_BRAIN:
        return Looks({}, f"what looks most like a brain has {ml:.0f} ml")
    share = np.where(brain, seen.brain, 0)
    image, mask = box_around(volume.array, volume.grid, share, seen.grid)
    return _named(looks_input(image, mask))


def look_at_series(series: Series) -> Looks:
    """The same of a series in its files.

    Raises:
        NotFound, BadCard, BadWeights: a network is not there or cannot be used.
    """
    try:
        volume = read(series)
    except (BadVolume, BadGrid) as error:
        return Looks({}, str(error))
    return look(volume, f"series {series.id}")


def _named(seen: np.ndarray | None) -> Looks:
    """What an input looks like; None shows too little."""
    if seen is None:
        return Looks({}, "it shows too little of a brain")
    shares = load_looks_network()[1].shares(seen)
    return Looks(dict(zip(CLASSES, map(float, shares), strict=True)))
