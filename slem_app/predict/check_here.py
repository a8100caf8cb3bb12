"""Where a result is likely wrong, and how good it probably is, from the probabilities that it was made of.

The doubt of a voxel is how unlikely the label is that it was given: one less its share of the regions'
probabilities, whose logits may be put on a line first (a temperature, Guo et al. 2017, "On Calibration of
Modern Neural Networks", ICML, section 4.2; with a shift Platt 1999). The most doubtful tenth of the result's
volume is gathered around its peaks, the places. The Dice to be expected is 2 sum(p m) / (sum(p) + sum(m)) of
mask m and probabilities p as they are, put on a line that was fitted on cases with truth. No label depends on
any of this. `benchmarks/results/trust.md` tells what was measured.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from slem_app.errors import BadSetting
from slem_app.labels import LabelSet
from slem_app.regions import PostProcess, decide
from slem_app.trust import AS_EXPECTED, DO_NOT_USE, LOOK_CLOSER, Place, Quality, Trust
from slem_app.types import Grid
from slem_app.volumes.geometry import bounding_box, resample
from slem_app.weights import Confidence

__all__ = [
    "LIKELY",
    "Doubts",
    "calibrated",
    "doubtful",
    "doubts_on",
    "expected_dice",
    "trust_of",
    "unlikely",
]

SHARE = 0.1
"""Of the result's volume that is looked at."""
LEAST = 0.1
"""ml that a place must have."""
UNSURE = 0.05
"""Doubt under which a voxel is not told of."""
REACH = 8.0
"""mm around the peak of doubt that belong to a place."""
APART = 16.0
"""mm between the peaks of two places, at least."""
MOST = 5
"""Places that are told."""
LIKELY = 0.02
"""Probability of any region under which a voxel is not looked at."""
SIDES = (("left", "right"), ("posterior", "anterior"), ("inferior", "superior"))
"""World axes, RAS: their lower and their higher end; R-L as the patient has it."""


def trust_of(
    probabilities: np.ndarray,
    grid: Grid,
    labels: LabelSet,
    rules: PostProcess,
    confidence: Confidence,
    used: Collection[str] = (),
) -> Trust:
    """What a model says of its result.

    Args:
        probabilities: (R, I, J, K) on the network's grid.
        grid: that grid.
        labels: the model's.
        rules: how labels are decided.
        confidence: what its card says of its probabilities.
        used: the sequences that the network saw.
    """
    if not confidence:
        return Trust()
    box = bounding_box(probabilities.max(axis=0) >= LIKELY)
    plain = probabilities[(slice(None), *box)]  # R i j k
    lined = calibrated(plain, labels, confidence.logits)
    if not lined.size:
        return Trust()
    part = grid.crop(tuple(side.start for side in box), lined.shape[1:])
    array = decide(plain, labels, rules, part.voxel_volume)
    places = _places(lined, array, part, labels) if confidence.places else []
    return Trust(tuple(place for place, _ in places), _quality(plain, array, labels, confidence, used))


@dataclass(frozen=True, eq=False)
class Doubts:
    """The doubt of each voxel of a result."""

    values: np.ndarray
    """(I, J, K) float32, 0 (sure) to 1: how unlikely the label is that the voxel was given."""
    places: np.ndarray
    """(I, J, K) bool: the voxels of the places that `trust_of` names."""


def doubts_on(
    reference: Grid,
    probabilities: np.ndarray,
    grid: Grid,
    labels: LabelSet,
    rules: PostProcess,
    confidence: Confidence,
) -> Doubts:
    """The doubt of each voxel, as a map.

    Args:
        reference: the grid of the map.
        probabilities: (R, I, J, K) on the network's grid.
        grid: that grid.
        labels: the model's.
        rules: how labels are decided.
        confidence: what its card says of its probabilities.

    Raises:
        BadSetting: the card does not say that the model tells places.
    """
    if not confidence.places:
        raise BadSetting(
            "this model does not say where its result is likely wrong: its card lacks confidence.places"
        )
    values = np.zeros(grid.shape, np.float32)
    chosen = np.zeros(grid.shape, bool)
    box = bounding_box(probabilities.max(axis=0) >= LIKELY)
    lined = calibrated(probabilities[(slice(None), *box)], labels, confidence.logits)
    if lined.size:
        part = grid.crop(tuple(side.start for side in box), lined.shape[1:])
        array = decide(probabilities[(slice(None), *box)], labels, rules, part.voxel_volume)
        values[box] = unlikely(lined, array, labels)
        for _, voxels in _places(lined, array, part, labels):
            chosen[box][tuple(voxels.T)] = True
    return Doubts(
        np.clip(resample(values, grid, reference, order=1), 0, 1), resample(chosen, grid, reference, order=0)
    )


def calibrated(
    probabilities: np.ndarray, labels: LabelSet, logits: Mapping[str, tuple[float, float]]
) -> np.ndarray:
    """(R, ...) probabilities whose logits are put on their region's line; a region without one stays as
    it is.
    """
    p = np.clip(probabilities, 1e-6, 1 - 1e-6)
    lines = np.array([logits.get(region.name, (1.0, 0.0)) for region in labels.regions], dtype=np.float32)
    slope, shift = (one.reshape(-1, *[1] * (p.ndim - 1)) for one in lines.T)
    return 1 / (1 + np.exp(-(slope * np.log(p / (1 - p)) + shift)))


def unlikely(probabilities: np.ndarray, array: np.ndarray, labels: LabelSet) -> np.ndarray:
    """(I, J, K) one less the share of the label that was given, 0 (sure) to 1.

    Args:
        probabilities: (R, I, J, K).
        array: (I, J, K) label values.
        labels: the model's; label n is the n-th.
    """
    share = np.take_along_axis(_exclusive(probabilities, labels), array[None].astype(np.int64), axis=0)
    return 1 - share[0]


def doubtful(doubts: np.ndarray, array: np.ndarray) -> np.ndarray:
    """(I, J, K) bool: the most doubtful voxels, a tenth as many as the result has.

    Args:
        doubts: (I, J, K), more is more doubtful.
        array: (I, J, K) label values.
    """
    count = min(int(SHARE * np.count_nonzero(array)), doubts.size)
    chosen = np.zeros(doubts.size, dtype=bool)
    if count:
        chosen[np.argpartition(doubts, -count, axis=None)[-count:]] = True
    return chosen.reshape(doubts.shape)


def expected_dice(probabilities: np.ndarray, mask: np.ndarray) -> float:
    """Dice of a mask that probabilities of any shape lead to expect; 1 where both are empty."""
    total = float(probabilities.sum()) + np.count_nonzero(mask)
    return 2 * float(probabilities[mask].sum()) / total if total > 0 else 1.0


def _places(
    probabilities: np.ndarray, array: np.ndarray, grid: Grid, labels: LabelSet
) -> list[tuple[Place, np.ndarray]]:
    """Where most doubt lies together, the most doubtful first, with their (N, 3) voxels; none nearer to
    another than APART.
    """
    doubts = unlikely(probabilities, array, labels)
    chosen = doubtful(doubts, array) & (doubts >= UNSURE)
    if not chosen.any():
        return []
    sigma = [REACH / 2 / one for one in grid.spacing]
    dense = ndimage.gaussian_filter(np.where(chosen, doubts, 0).astype(np.float32), sigma)
    voxels = np.argwhere(chosen)
    free = np.ones(len(voxels), dtype=bool)
    middle = grid.to_world(np.argwhere(array > 0).mean(axis=0))
    second = _second(probabilities, array, labels)
    found: list[tuple[Place, np.ndarray]] = []
    while free.any() and len(found) < MOST:
        peak = voxels[free][dense[tuple(voxels[free].T)].argmax()]
        away = np.linalg.norm((voxels - peak) * np.asarray(grid.spacing), axis=1)
        mine = voxels[free & (away <= REACH)]
        free &= away > APART
        ml = len(mine) * grid.voxel_volume / 1000
        if ml >= LEAST:
            found.append((_place(mine, peak, ml, array, second, grid, labels, middle), mine))
    return found


def _second(probabilities: np.ndarray, array: np.ndarray, labels: LabelSet) -> np.ndarray:
    """(I, J, K) value of the label that is most probable beside the one that was given; 0: none."""
    likely = _exclusive(probabilities, labels)
    np.put_along_axis(likely, array[None].astype(np.int64), -1.0, axis=0)
    return likely.argmax(axis=0).astype(np.uint8)


def _exclusive(probabilities: np.ndarray, labels: LabelSet) -> np.ndarray:
    """(L + 1, I, J, K) share of background and of each label: what a region has more than those inside it."""
    by = {region.name: one for region, one in zip(labels.regions, probabilities, strict=True)}
    sets = {region.name: set(region.labels) for region in labels.regions}
    covered = np.max(probabilities, axis=0)
    shares = [1 - covered]
    for label in labels.labels:
        around = [name for name in sets if label.name in sets[name]]
        own = min(around, key=lambda name: len(sets[name]))
        inside = [by[name] for name in sets if sets[name] < sets[own]]
        shares.append(np.clip(by[own] - (np.max(inside, axis=0) if inside else 0.0), 0, 1))
    return np.stack(shares).astype(np.float32)


def _place(
    voxels: np.ndarray,
    peak: np.ndarray,
    ml: float,
    array: np.ndarray,
    second: np.ndarray,
    grid: Grid,
    labels: LabelSet,
    middle: np.ndarray,
) -> Place:
    """One place, (N, 3) voxels around a peak, in words."""
    names = ("", *labels.names)
    values = array[tuple(voxels.T)]
    given = int(np.bincount(values).argmax())
    instead = int(np.bincount(second[tuple(voxels[values == given].T)]).argmax())
    world = grid.to_world(peak)
    x, y, z = (round(float(one), 1) for one in world)
    side = _side(world - middle)
    what = names[given] or "outside the result"
    maybe = names[instead] or "no tumor"
    where = f"{what}, {side}" if side else what
    return Place(
        f"{where}: {ml:.1f} ml, may be {maybe}", round(ml, 2), (x, y, z), names[given], names[instead]
    )


def _side(offset: Sequence[float] | np.ndarray) -> str:
    """On which side of the result's middle a place lies, by the one or two axes along which it is
    farthest.
    """
    away = np.abs(offset)
    order = np.argsort(-away)
    chosen = [axis for axis in order[:2] if away[axis] >= max(5.0, 0.6 * away[order[0]])]
    return " and ".join(SIDES[axis][int(offset[axis] > 0)] for axis in chosen) + (" side" if chosen else "")


def _quality(
    probabilities: np.ndarray,
    array: np.ndarray,
    labels: LabelSet,
    confidence: Confidence,
    used: Collection[str],
) -> Quality | None:
    if confidence.dice and not set(confidence.needs) <= set(used):
        return Quality({}, {}, LOOK_CLOSER)
    masks = dict(zip((one.name for one in labels.regions), labels.region_masks(array), strict=True))
    by = {region.name: one for region, one in zip(labels.regions, probabilities, strict=True)}
    dice, low = {}, {}
    for name, line in confidence.dice.items():
        value = float(np.clip(line[0] + line[1] * expected_dice(by[name], masks[name]), 0, 1))
        dice[name], low[name] = round(value, 3), round(max(0.0, value - line[2]), 3)
    if not dice:
        return None
    first = dice[labels.regions[0].name] if labels.regions[0].name in dice else min(dice.values())
    good, poor = confidence.steps
    step = AS_EXPECTED if first >= good else LOOK_CLOSER if first >= poor else DO_NOT_USE
    return Quality(dice, low, step)
