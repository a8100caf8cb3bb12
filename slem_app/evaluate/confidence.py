"""What a model's probabilities are worth, fitted on cases with truth that it has not learnt: the lines of its
card's `confidence`.

A region's logits near the result are put on the line under which the truth is likeliest, each case weighing
the same (Platt 1999, with a shift; Guo et al. 2017 without). The Dice that the probabilities lead to expect
is put on a robust line (Theil-Sen) against the Dice that was; it is kept only where, case by case and fitted
on the others, it tells more than the others' median does. `benchmarks/results/trust.md` has what this brings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from slem_app.evaluate.scores import region_scores
from slem_app.labels import LabelSet
from slem_app.predict import Prediction
from slem_app.predict.check_here import LIKELY, expected_dice
from slem_app.types import Grid
from slem_app.volumes.geometry import bounding_box, resample
from slem_app.weights import Confidence

__all__ = ["Observed", "fitted_confidence", "line_of_dice", "line_of_logits", "observed"]

NEAR = 10.0
"""mm around the result in which voxels are looked at."""
VOXELS = 5_000
"""Of a case, drawn at random."""
LEAST_LINES = 5
"""Cases from which lines of logits are fitted."""
LEAST_DICE = 10
"""Cases from which a line of Dice is fitted."""
SURE = 1e-6
"""Probabilities nearer to 0 or 1 than this count as this."""


@dataclass(frozen=True, eq=False)
class Observed:
    """One case's probabilities beside its truth."""

    logits: Mapping[str, tuple[np.ndarray, np.ndarray]]
    """Region -> (n,) logits of some voxels near the result, and (n,) bool whether they belong to it."""
    expected: Mapping[str, float]
    """Region -> the Dice that the probabilities lead to expect."""
    dice: Mapping[str, float]
    """Region -> the Dice that was."""


def observed(
    prediction: Prediction, probabilities: np.ndarray, on: Grid, truth: np.ndarray, seed: int = 0
) -> Observed:
    """What is fitted on, of one case.

    Args:
        prediction: the result, on the truth's grid.
        probabilities: (R, I, J, K) of the regions.
        on: their grid.
        truth: label map on `prediction.grid`.
        seed: of the draw of voxels.
    """
    labels, grid = prediction.labels, prediction.grid
    array, expected = (resample(one, grid, on, order=0) for one in (prediction.array, truth))
    near = np.ones(array.shape, dtype=bool)
    if array.any():
        near = ndimage.distance_transform_edt(array == 0, sampling=on.spacing) <= NEAR
    places = np.flatnonzero(near)
    places = np.random.default_rng(seed).choice(places, min(VOXELS, places.size), replace=False)
    right = labels.region_masks(expected)
    box = bounding_box(probabilities.max(axis=0) >= LIKELY)
    masks = labels.region_masks(array[box])
    names = [region.name for region in labels.regions]
    return Observed(
        {
            name: (_logit(p.ravel()[places]), true.ravel()[places])
            for name, p, true in zip(names, probabilities, right, strict=True)
        },
        {
            name: expected_dice(p[box], mask)
            for name, p, mask in zip(names, probabilities, masks, strict=True)
        },
        region_scores(prediction.array, truth, grid, labels, surface=False),
    )


def fitted_confidence(cases: Sequence[Observed], labels: LabelSet, before: Confidence) -> Confidence:
    """The card's `confidence`, as far as the cases can tell it; what they cannot tell is left out.

    Args:
        cases: that the model has not learnt.
        labels: the model's.
        before: whose other settings are kept.
    """
    names = [region.name for region in labels.regions]
    lines = {}
    if len(cases) >= LEAST_LINES:
        lines = {name: line_of_logits([case.logits[name] for case in cases]) for name in names}
    told = {}
    if len(cases) >= LEAST_DICE:
        told = {name: _told([(case.expected[name], case.dice[name]) for case in cases]) for name in names}
    return replace(
        before,
        logits={name: (round(a, 3), round(b, 3)) for name, (a, b) in lines.items() if round(a, 3) > 0},
        dice={
            name: (round(line[0], 3), round(line[1], 3), round(line[2], 3))
            for name, line in told.items()
            if line is not None
        },
    )


def line_of_logits(
    parts: Sequence[tuple[np.ndarray, np.ndarray]], shifted: bool = True
) -> tuple[float, float]:
    """Slope and shift of logits under which the truth is likeliest; each part weighs the same.

    Args:
        parts: of each case (n,) logits and (n,) truth.
        shifted: without a shift it is a temperature of 1 / slope.
    """
    from scipy.optimize import minimize  # slow to import

    def loss(line: np.ndarray) -> float:
        shift = line[1] if shifted else 0.0
        moved = [(line[0] * x + shift, y) for x, y in parts]
        return float(np.mean([np.mean(np.logaddexp(0, x) - y * x) for x, y in moved]))

    found = minimize(loss, np.array([0.5, 0.0][: 1 + shifted]), method="Nelder-Mead").x
    return float(found[0]), float(found[1]) if shifted else 0.0


def line_of_dice(expected: np.ndarray, was: np.ndarray) -> tuple[float, float]:
    """Intercept and slope of a robust line (Theil-Sen), with a slope from 0 to 2.

    Args:
        expected: (n,) Dice that the probabilities lead to expect.
        was: (n,) Dice that was.
    """
    from scipy.stats import theilslopes  # slow to import

    slope = float(np.clip(theilslopes(was, expected)[0], 0, 2))
    return float(np.median(was - slope * expected)), slope


def _told(pairs: Sequence[tuple[float, float]]) -> tuple[float, float, float] | None:
    """Intercept, slope, and by how much the Dice lay lower in the worst of ten cases; None where the line
    tells less than the other cases' median.
    """
    expected, was = np.array(pairs).T
    others = ~np.eye(len(was), dtype=bool)
    if np.ptp(expected) == 0:
        return None
    guess = np.array(
        [_on(line_of_dice(expected[o], was[o]), e) for o, e in zip(others, expected, strict=True)]
    )
    plain = np.array([np.median(was[o]) for o in others])
    if np.abs(guess - was).mean() >= np.abs(plain - was).mean():
        return None
    return *line_of_dice(expected, was), float(np.quantile(np.maximum(guess - was, 0), 0.9))


def _on(line: tuple[float, float], expected: float) -> float:
    return float(np.clip(line[0] + line[1] * expected, 0, 1))


def _logit(p: np.ndarray) -> np.ndarray:
    clipped = np.clip(p.astype(np.float64), SURE, 1 - SURE)
    return np.log(clipped / (1 - clipped))
