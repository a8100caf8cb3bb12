"""The label of a patient's earlier visit brought up to date: changed where the model sees a change.

A network makes much the same errors at both visits of one patient. So what it finds at the later visit is
taken less what it found at the earlier one, and added to the label that a reader has confirmed there:

    logit(now) = logit(label then) + logit(network now) - logit(network then)

Where the network saw the same both times the reader's label stays; where it has changed its mind the label
follows. It looks at the sequences that both visits have, or their difference would be that of the sequences.
Logits are limited, so that neither is ever certain. `benchmarks/results/followup.md` has what this
is worth beside the earlier label alone and the automatic result alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from slem_app.labels import LabelSet
from slem_app.predict.closer_look import Likely
from slem_app.prompts import Mask
from slem_app.regions import restore
from slem_app.types import Grid
from slem_app.volumes.geometry import bounding_box, resample
from slem_app.volumes.prepare import Prepared

if TYPE_CHECKING:
    from slem_app.predict.predictor import Predictor

__all__ = ["brought_up_to_date"]

SOFT = 0.7  # mm, standard deviation by which the border of the earlier label is blurred
LIMIT = 5.0  # logits lie between -LIMIT and LIMIT
SEEN = 0.02  # probability from which a voxel is looked at


@dataclass(frozen=True, eq=False)
class _Found:
    """What a model finds at one visit."""

    whole: np.ndarray
    """(R, I, J, K) probabilities on the network's grid."""
    grid: Grid
    """That grid."""
    near: Likely
    """The same where a finer network has looked again."""

    @classmethod
    def of(cls, predictor: Predictor, prepared: Prepared) -> _Found:
        first = predictor.probabilities(prepared)
        near = predictor.likely(prepared, first, {})
        return cls(near.onto(first, prepared.grid), prepared.grid, near)

    def on(self, grid: Grid, back: np.ndarray) -> np.ndarray:
        """(R, i, j, k) on a grid of the other visit, whose world `back` leads to."""
        whole, near = (Grid(one.shape, back @ one.affine) for one in (self.grid, self.near.grid))
        found = np.stack([resample(one, whole, grid, order=1) for one in self.whole])
        if self.near.grid is self.grid:
            return found
        inside = resample(np.ones(near.shape, bool), near, grid, order=0)
        finer = np.stack([resample(one, near, grid, order=1) for one in self.near.probabilities])
        return np.where(inside, finer, found)


def brought_up_to_date(
    predictor: Predictor, now: Prepared, then: Prepared, label: Mask, matrix: np.ndarray
) -> np.ndarray:
    """The earlier label on the later image, with what has changed since.

    Args:
        predictor: the model.
        now: the later visit; its reference is the grid of the result.
        then: the earlier visit.
        label: what a reader confirmed there, in the model's values.
        matrix: (4, 4) RAS, from the later world to the earlier one, as `Move.matrix`.

    Returns:
        (I, J, K) uint8 label values on `now.reference`, Fortran order.

    Raises:
        NoMemory: the GPU's memory is too small for this case.
    """
    labels, rules = predictor.card.labels, predictor.card.postprocess
    shared = now.present & then.present
    later, earlier = (_Found.of(predictor, replace(one, present=shared)) for one in (now, then))
    back = np.linalg.inv(matrix)

    def restored(probabilities: np.ndarray, grid: Grid) -> np.ndarray:
        changed = _changed(probabilities, grid, earlier, label, back, labels)
        return restore(changed, grid, now.reference, labels, rules)

    array = restored(later.whole, later.grid)
    if later.near.grid is later.grid:
        return array
    inside = resample(np.ones(later.near.grid.shape, bool), later.near.grid, now.reference, order=0)
    return np.where(inside, restored(later.near.probabilities, later.near.grid), array)


def _changed(
    probabilities: np.ndarray, grid: Grid, earlier: _Found, label: Mask, back: np.ndarray, labels: LabelSet
) -> np.ndarray:
    """(R, I, J, K) the later probabilities on `grid`, less what is wrong with the earlier ones."""
    there = Grid(label.grid.shape, back @ label.grid.affine)
    given = resample((label.array > 0).astype(np.float32), there, grid, order=1)
    before = earlier.on(grid, back)
    box = bounding_box((given > 0) | (np.maximum(before, probabilities).max(axis=0) >= SEEN))
    if any(side.start >= side.stop for side in box):
        return probabilities
    margin = [int(np.ceil(3 * SOFT / step)) for step in grid.spacing]
    wide = tuple(slice(max(side.start - m, 0), side.stop + m) for side, m in zip(box, margin, strict=True))
    part = grid.crop(tuple(side.start for side in wide), probabilities[0][wide].shape)
    every = (slice(None), *wide)
    masks = labels.region_masks(label.array)
    soft = np.stack(
        [
            ndimage.gaussian_filter(resample(mask.astype(np.float32), there, part, 1), SOFT / part.spacing)
            for mask in masks
        ]
    )
    logits = _logit(probabilities[every]) + _logit(soft) - _logit(before[every])
    result = probabilities.astype(np.float32)
    result[every] = 1 / (1 + np.exp(-logits))
    return result


def _logit(probabilities: np.ndarray) -> np.ndarray:
    p = np.clip(probabilities, 1e-6, 1 - 1e-6)
    return np.clip(np.log(p / (1 - p)), -LIMIT, LIMIT)
