"""What a rule says to a prompt where a model has no editor.

Where the automatic result falls short of the prompt's label at the prompt, what it lacks is added there, and
less of it with the distance and with another brightness: what is near, looks alike and is about as likely
follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from slem_app.labels import LabelSet
from slem_app.predict.answers import NEVER, Answer, Automatic, Detail
from slem_app.predict.grids import moved
from slem_app.prompts import Click, Scribble
from slem_app.regions import margins
from slem_app.types import Grid, triple
from slem_app.volumes.prepare import Prepared

__all__ = ["RuleAnswers"]

FARTHEST = 60.0  # mm from a prompt beyond which nothing follows
NEAR, WIDE = 14.0, 40.0  # mm, standard deviations of the two halves of a prompt's influence
CONTRAST = 1.0  # standard deviations of intensity over which the influence falls likewise
SURPLUS = 2.5  # log-odds that the prompt's own place gets
CERTAIN = 8.0  # log-odds beyond which the network's certainty counts no more
UNKNOWN = -1.0  # log-odds of every label where there is no automatic result
LEAST = 0.08  # influence under which nothing follows


@dataclass(frozen=True)
class RuleAnswers:
    """Answers prompts by the automatic probabilities and the images."""

    labels: LabelSet
    """Of the model that is corrected."""
    threshold: float = 0.5
    """Probability from which its voxels belong to a region."""
    across = False

    def detail(self, prepared: Prepared) -> Detail:
        """A case as the network sees it."""
        return Detail(prepared.images, prepared.present, prepared.grid)

    def answer(
        self,
        array: np.ndarray,
        reference: Grid,
        detail: Detail,
        automatic: Automatic | None,
        entry: Click | Scribble,
        before: Sequence[Click | Scribble],
    ) -> Answer:
        """What the rule says to a prompt (`Answers`)."""
        grid, box = _around(entry, detail.grid)
        images = detail.images[(detail.present, *box)]
        place = tuple(_voxels(entry, grid).T)
        influence = _influence(images.astype(np.float32), place, grid)
        odds = self._odds(automatic, entry.label, grid)
        lacks = np.maximum(0, SURPLUS - odds[(slice(None), *place)].mean(axis=1))
        logits = (odds + lacks[:, None, None, None] * influence).min(axis=0)
        logits[influence < LEAST] = NEVER
        return Answer(logits, grid)

    def _odds(self, automatic: Automatic | None, label: str, grid: Grid) -> np.ndarray:
        """(decisions, I, J, K) float32 log-odds of a label by the automatic result."""
        if automatic is None:
            return np.full((1, *grid.shape), UNKNOWN, dtype=np.float32)
        seen = np.stack([moved(one, automatic.grid, grid, order=1) for one in automatic.probabilities])
        seen = np.clip(seen, 1e-6, 1 - 1e-6)
        found = margins(np.log(seen / (1 - seen)), self.labels, label, self.threshold)
        return np.clip(found, -CERTAIN, CERTAIN)


def _voxels(entry: Click | Scribble, grid: Grid) -> np.ndarray:
    """(n, 3) of a prompt; where none lies on the grid, the nearest."""
    voxels = entry.voxels(grid)
    if len(voxels):
        return voxels
    nearest = np.floor(grid.to_index(np.atleast_2d(np.array(entry.world))) + 0.5).astype(int)
    return np.clip(nearest, 0, np.array(grid.shape) - 1)


def _around(entry: Click | Scribble, grid: Grid) -> tuple[Grid, tuple[slice, slice, slice]]:
    """The part of a grid that a prompt can change."""
    voxels, more = _voxels(entry, grid), np.ceil(FARTHEST / grid.spacing).astype(int)
    low = np.maximum(voxels.min(axis=0) - more, 0)
    high = np.minimum(voxels.max(axis=0) + 1 + more, grid.shape)
    box = triple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return grid.crop(tuple(low), tuple(high - low)), box


def _influence(images: np.ndarray, place: tuple[np.ndarray, ...], grid: Grid) -> np.ndarray:
    """(I, J, K) float32 of a prompt, 1 at its voxels; 0 beyond `FARTHEST`.

    Args:
        images: (M, I, J, K) float32, the sequences that are there.
        place: its voxels.
        grid: theirs.
    """
    free = np.ones(grid.shape, dtype=bool)
    free[place] = False
    away, nearest = ndimage.distance_transform_edt(free, sampling=grid.spacing, return_indices=True)
    smooth = ndimage.uniform_filter(images, (0, 3, 3, 3), mode="nearest")
    contrast = ((images - smooth[(slice(None), *nearest)]) ** 2).mean(axis=0)  # I J K
    square = away.astype(np.float32) ** 2
    near = 0.6 * np.exp(square / (-2 * NEAR**2)) + 0.4 * np.exp(square / (-2 * WIDE**2))
    found = near * np.exp(contrast / (-2 * CONTRAST**2))
    found[away > FARTHEST] = 0
    found[place] = 1
    return np.asarray(found, dtype=np.float32)
