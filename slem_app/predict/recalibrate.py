"""From what the networks say of a region to what is decided: the logit of each region's probability is put on
a line of its own, and a region that lights up by contrast agent is asked to be bright.

A network that was trained on few cases and with the Dice loss is too sure: on patients that it has not seen
it finds too much. A line on the logits mends that (Platt 1999; Guo et al. 2017, "On Calibration of Modern
Neural Networks", ICML). What enhances is by definition brighter after contrast agent than normal tissue and
than it was before, and the brightness tells it better than the network does: so it is a second term of the
same logistic regression. Where much of a core enhances, it is the rim of the core: what lies far outside of
all that it encloses is rather edema. `docs/decisions/0013-what-enhances-is-bright.md` says what was measured.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np
from scipy import ndimage

from slem_app.labels import LabelSet
from slem_app.predict.closer_look import Likely
from slem_app.regions import outline
from slem_app.types import triple
from slem_app.volumes.geometry import bounding_box
from slem_app.volumes.prepare import Prepared
from slem_app.weights import Recalibration

__all__ = ["enhancement", "normal_tissue", "outside", "recalibrated"]

NORMAL = 0.1  # probability of any finding under which tissue counts as normal
BRIGHT = 95.0  # percentile of normal tissue that counts as bright
LIMIT = 4.0  # times as bright as bright; more says no more
PART = (0.1, 0.4)  # of a core: what enhances tells nothing of the rest from here, all from there
FARTHEST = 20.0  # mm outside the rim from which a voxel is no less likely
GAP = 3.0  # mm of a gap in a rim that is closed
SAMPLED = 200_000  # voxels of normal tissue that are looked at
UNLIKELY = 0.05  # probability of a core from which it is asked how far from its rim it lies
SURE = 1e-3  # probabilities nearer to 0 or 1 than this count as this


def recalibrated(
    likely: Likely,
    prepared: Prepared,
    probabilities: np.ndarray,
    labels: LabelSet,
    rules: Mapping[str, Recalibration],
) -> Likely:
    """Probabilities by which labels are decided.

    Args:
        likely: what the networks say, and what was seen there.
        prepared: the whole case; what is normal there is the measure of brightness.
        probabilities: (R, I, J, K) of the first network on `prepared.grid`: they tell what is normal.
        labels: the model's.
        rules: by region; a region that has none, or asks for a sequence that the case lacks, stays as it is.

    Returns:
        The same place with other probabilities. A region is at least as likely as one inside it that was
        asked to be bright.
    """
    before, names = likely.probabilities, [region.name for region in labels.regions]
    after, grid = before.astype(np.float32), likely.grid
    for name, rule in rules.items():
        r = names.index(name)
        if not rule.bright:
            after[r] = _on_line(before[r], rule)
        elif rule.bright in prepared.used:
            asked = before[names.index(rule.inside)] >= rule.least
            tissue = normal_tissue(prepared, probabilities, labels)
            light = enhancement(likely.seen, prepared, tissue, (rule.bright, rule.less), asked)
            after[r] = np.minimum(before[r], SURE)
            after[r][asked] = _on_line(before[r][asked], rule, np.exp(rule.weight * light))
    for name, rule in rules.items():
        if rule.near and rules[rule.near].bright in prepared.used:
            r, inner = names.index(name), after[names.index(rule.near)]
            box = bounding_box(after[r] >= UNLIKELY)
            far = outside(inner[box] >= 0.5, after[r][box] >= 0.5, triple(grid.spacing))
            after[r][box] = _on_line(after[r][box], Recalibration(), np.exp(-rule.away * far))
    asked_for = [name for name, rule in rules.items() if rule.bright in prepared.used]
    return replace(likely, probabilities=_nested(after, labels, asked_for))


def normal_tissue(prepared: Prepared, probabilities: np.ndarray, labels: LabelSet) -> np.ndarray:
    """(I, J, K) bool: what the sequences show and where nothing was found."""
    shown = (prepared.images[prepared.present] != 0).any(axis=0)
    return np.asarray(shown & (outline(probabilities, labels) < NORMAL))


def enhancement(
    seen: Prepared, whole: Prepared, tissue: np.ndarray, sequences: tuple[str, str], where: np.ndarray
) -> np.ndarray:
    """How much brighter a sequence is than normal tissue, less how much brighter another one was.

    Args:
        seen: whose voxels are asked.
        whole: the same case.
        tissue: (I, J, K) bool on `whole.grid`, what is normal.
        sequences: after and before the contrast agent; the second counts only where the case has it.
        where: bool on `seen.grid`.

    Returns:
        (n,) float32, n voxels of `where`: 0 as the median of normal tissue, 1 as bright as its brightest
        twentieth begins; at most `LIMIT` either way.
    """
    found = np.zeros(int(np.count_nonzero(where)), np.float32)
    for name, sign in zip(sequences, (1, -1), strict=True):
        if name in whole.used:
            slot = whole.sequences.index(name)
            light = _brightness(seen.images[slot][where], whole.images[slot][tissue])
            found += light if sign > 0 else -np.maximum(light, 0)
    return np.clip(found, -LIMIT, LIMIT)


def outside(rim: np.ndarray, core: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """How far voxels lie outside what an enhancing rim encloses, where the rim is a good part of the core.

    Args:
        rim: (I, J, K) bool, what enhances.
        core: (I, J, K) bool, the region around it.
        spacing: mm of a voxel.

    Returns:
        (I, J, K) float32, cm up to 2, 0 in the rim and in what it encloses; times 0 where the rim is a tenth
        of the core, 1 where it is four tenths: a core of which little enhances has no rim.
    """
    share = int(np.count_nonzero(rim)) / max(int(np.count_nonzero(core)), 1)
    counts = float(np.clip((share - PART[0]) / (PART[1] - PART[0]), 0, 1))
    enclosed = _enclosed(rim, spacing) if counts else rim
    if not enclosed.any():
        return np.zeros(rim.shape, np.float32)
    mm = ndimage.distance_transform_edt(~enclosed, sampling=spacing)
    return np.asarray(counts * np.minimum(mm, FARTHEST) / 10, np.float32)


def _enclosed(rim: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """(I, J, K) bool: the rim with its gaps closed, and what it surrounds in slices of two axes or three."""
    steps = max(1, round(GAP / min(spacing)))
    wide = np.pad(rim, steps + 1).astype(np.uint8)
    size = 2 * steps + 1
    closed = ndimage.minimum_filter(ndimage.maximum_filter(wide, size), size).astype(bool)
    times = np.zeros(closed.shape, np.uint8)
    for axis in range(3):
        times += closed | _holes(closed, axis)
    return (times >= 2)[(slice(steps + 1, -steps - 1),) * 3]


def _holes(closed: np.ndarray, axis: int) -> np.ndarray:
    """(I, J, K) bool: what each slice across an axis surrounds; the border of `closed` is empty."""
    across = ndimage.generate_binary_structure(3, 1)
    for side in (0, 2):
        np.moveaxis(across, axis, 0)[side] = False
    pieces, count = ndimage.label(~closed, across)
    free = np.zeros(count + 1, bool)
    slices = np.moveaxis(pieces, axis, 0)
    free[slices[:, 0, 0]] = True
    free[0] = True
    return ~free[pieces]


def _on_line(probabilities: np.ndarray, rule: Recalibration, times: np.ndarray | float = 1.0) -> np.ndarray:
    """Probabilities whose odds are raised to the slope and multiplied: their logits are on a line."""
    p = np.clip(probabilities, SURE, 1 - SURE)
    odds = p / (1 - p)
    if rule.slope != 1:
        odds **= rule.slope
    odds *= np.float32(np.exp(rule.shift)) * times
    return np.asarray(odds / (1 + odds))


def _brightness(values: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Intensities with 0 and 1 as `enhancement` says; 0 where nothing is normal."""
    if not normal.size:
        return np.zeros(values.shape, np.float32)
    middle, bright = np.percentile(normal[:: max(1, normal.size // SAMPLED)], (50.0, BRIGHT))
    return np.asarray((values - middle) / max(bright - middle, 1e-3), np.float32)


def _nested(probabilities: np.ndarray, labels: LabelSet, inner: Collection[str]) -> np.ndarray:
    """(R, ...) with regions raised to those inside them that `inner` names."""
    sets = [frozenset(region.labels) for region in labels.regions]
    for r, region in enumerate(labels.regions):
        if region.name in inner:
            for q in range(len(sets)):
                if sets[r] < sets[q]:
                    np.maximum(probabilities[q], probabilities[r], out=probabilities[q])
    return probabilities
