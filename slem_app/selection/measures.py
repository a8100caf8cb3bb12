"""What a model says of one case without its truth: how sure it is, what it finds, where the case lies among
others.

All is measured on the network's grid. Measures of one case by one model are always the same, so they are made
once and kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from slem_app.labels import LabelSet
from slem_app.predict import Predictor
from slem_app.regions import decide
from slem_app.types import Grid, triple
from slem_app.volumes.geometry import resample
from slem_app.volumes.prepare import Prepared

__all__ = ["MIRRORS", "LabelMap", "Measures", "change_of", "entropy", "measure"]

MIRRORS: tuple[tuple[int, ...], ...] = ((), (0,), (1,), (2,))
"""Axes that are mirrored in each pass of the ensemble: one after the other, which costs half of all eight
combinations.
"""
LEAST = 1000.0  # mm3 that are looked at where nothing is found


@dataclass(frozen=True, eq=False)
class LabelMap:
    """A segmentation on the network's grid."""

    array: np.ndarray
    """(I, J, K) uint8 label values."""
    grid: Grid
    """Where it lies."""


@dataclass(frozen=True, eq=False)
class Measures:
    """What one model says of one case."""

    uncertainty: float
    """Mean entropy in what is predicted, 0 (sure) to 1 bit; where none is predicted, in the millilitre that
    is most probable.
    """
    uncertainty_in: Mapping[str, float]
    """The same in each predicted label; 0 where it is not predicted."""
    volumes_ml: Mapping[str, float]
    """Millilitres of each predicted label."""
    features: np.ndarray
    """(F,) float32, the deepest level of the encoder, averaged over the image and over what is predicted."""
    change: float | None = None
    """1 - Dice to the result of the model before, mean over regions; None where there is none."""
    change_in: Mapping[str, float] = field(default_factory=dict)
    """The same for each label."""

    @property
    def foreground_ml(self) -> float:
        """Millilitres of all predicted labels."""
        return float(sum(self.volumes_ml.values()))

    def to_table(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "uncertainty": self.uncertainty,
            "uncertainty_in": dict(self.uncertainty_in),
            "volumes_ml": dict(self.volumes_ml),
            "features": [round(float(value), 6) for value in self.features],
            "change": self.change,
            "change_in": dict(self.change_in),
        }

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> Measures:
        """What `to_table` gave.

        Raises:
            KeyError, TypeError, ValueError: something else.
        """
        return cls(**{**table, "features": np.array(table["features"], dtype=np.float32)})


def measure(
    predictor: Predictor,
    prepared: Prepared,
    before: LabelMap | None = None,
    between: Callable[[], None] = lambda: None,
) -> tuple[Measures, LabelMap]:
    """Measure one case.

    Args:
        predictor: the model; nobody else may run its network meanwhile.
        prepared: the case.
        before: what the model before made of it.
        between: called before each pass of the network; what it raises ends the measuring.

    Returns:
        The measures, and the segmentation that they are of.

    Raises:
        BadWeights: probabilities that are not finite.
    """
    card, volume = predictor.card, prepared.grid.voxel_volume
    probabilities = _ensemble(predictor, prepared, between)  # R I J K
    array = decide(probabilities, card.labels, card.postprocess, volume)
    uncertain = entropy(probabilities).mean(axis=0)  # I J K
    between()
    now = LabelMap(array, prepared.grid)
    by_region, by_label = change_of(before, now, card.labels) if before is not None else ({}, {})
    measures = Measures(
        uncertainty=float(uncertain[_looked_at(array, probabilities, volume)].mean()),
        uncertainty_in={
            one.name: float(uncertain[array == one.value].mean()) if (array == one.value).any() else 0.0
            for one in card.labels.labels
        },
        volumes_ml={
            one.name: float(np.count_nonzero(array == one.value) * volume / 1000)
            for one in card.labels.labels
        },
        features=_features(predictor, prepared, probabilities.max(axis=0)),
        change=float(np.mean(list(by_region.values()))) if by_region else None,
        change_in=by_label,
    )
    return measures, now


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """Entropy of yes-or-no decisions in bits, of any shape: 1 at a probability of 0.5, 0 at 0 and 1."""
    p = np.clip(probabilities, 1e-7, 1 - 1e-7)
    return -(p * np.log2(p) + (1 - p) * np.log2(1 - p))


def change_of(before: LabelMap, now: LabelMap, labels: LabelSet) -> tuple[dict[str, float], dict[str, float]]:
    """1 - Dice between two segmentations of a case, by region and by label; 0 where both have nothing."""
    array = before.array
    if not before.grid.same_as(
        now.grid
    ):  # another preparation: the older one is brought to the newer one's grid
        array = resample(array, before.grid, now.grid, order=0)
    regions = zip(labels.regions, labels.region_masks(array), labels.region_masks(now.array), strict=True)
    return (
        {region.name: _unlike(a, b) for region, a, b in regions},
        {label.name: _unlike(array == label.value, now.array == label.value) for label in labels.labels},
    )


def _unlike(a: np.ndarray, b: np.ndarray) -> float:
    total = int(a.sum()) + int(b.sum())
    return 1 - 2 * int((a & b).sum()) / total if total else 0.0


def _ensemble(predictor: Predictor, prepared: Prepared, between: Callable[[], None]) -> np.ndarray:
    """(R, I, J, K) probabilities, the mean over those MIRRORS that may be, whatever the card says of
    inference.
    """
    plain = Predictor(
        predictor.model, predictor.device, predictor.precision, replace(predictor.inference, mirror=())
    )
    total = np.zeros((), np.float32)
    mirrors = [axes for axes in MIRRORS if set(axes) <= set(predictor.card.mirrors)]
    for axes in mirrors:
        between()
        flips = tuple(axis + 1 for axis in axes)
        flipped = replace(prepared, images=np.ascontiguousarray(np.flip(prepared.images, flips)))
        total = total + np.flip(plain.probabilities(flipped), flips)
    return total / len(mirrors)


def _looked_at(array: np.ndarray, probabilities: np.ndarray, voxel_volume: float) -> np.ndarray:
    """(I, J, K) bool: what is predicted, else the most probable millilitre."""
    if array.any():
        return array > 0
    best = probabilities.max(axis=0)
    count = min(best.size, max(1, int(LEAST / voxel_volume)))
    return best >= np.partition(best, best.size - count, axis=None)[best.size - count]


def _features(predictor: Predictor, prepared: Prepared, likely: np.ndarray) -> np.ndarray:
    """(2 C,) float32 of the deepest level: its mean, and its mean weighted by the probability of
    any region.
    """
    box = _window(likely, predictor.inference.one_pass, predictor.inference.window)
    # 1 M I J K
    images = torch.from_numpy(np.ascontiguousarray(prepared.images[(slice(None), *box)]))[None].to(
        predictor.device
    )
    present = torch.from_numpy(prepared.present)[None].to(predictor.device)
    with torch.inference_mode(), predictor.autocast():
        deepest = predictor.network.encoder(images, present)[-1][0].float()  # C i j k
        weight = torch.from_numpy(np.ascontiguousarray(likely[box]))[None, None].to(predictor.device)
        weight = torch.nn.functional.adaptive_avg_pool3d(weight, deepest.shape[1:])[0]  # 1 i j k
        weight = weight / weight.sum().clamp(min=1e-6)
        pooled = torch.cat([deepest.mean(dim=(1, 2, 3)), (deepest * weight).sum(dim=(1, 2, 3))])
    return pooled.cpu().numpy().astype(np.float32)


def _window(likely: np.ndarray, most: int, window: tuple[int, int, int]) -> tuple[slice, slice, slice]:
    """All of a volume of up to `most` voxels, else a window around what is likely foreground."""
    if likely.size <= most:
        return triple(slice(0, n) for n in likely.shape)
    centre = [
        np.average(np.arange(n), weights=likely.sum(axis=tuple(a for a in range(3) if a != axis)) + 1e-9)
        for axis, n in enumerate(likely.shape)
    ]
    sizes = [min(size, n) for size, n in zip(window, likely.shape, strict=True)]
    starts = [
        int(np.clip(round(c - size / 2), 0, n - size))
        for c, size, n in zip(centre, sizes, likely.shape, strict=True)
    ]
    return triple(slice(start, start + size) for start, size in zip(starts, sizes, strict=True))
