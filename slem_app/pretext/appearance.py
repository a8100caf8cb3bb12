"""What is done to each block of a collage so that it can be told only by its anatomy: no intensity range,
noise or sharpness gives it away.

A linear classifier on the histograms of z-normalised blocks names most arrangements; after a random
increasing remap per block it is near chance (`gates.py` measures it). The remap never decreases: an inverted
T1 would resemble a T2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from slem_app.errors import BadSetting

__all__ = ["VariationSettings", "vary"]


@dataclass(frozen=True)
class VariationSettings:
    """How a block is varied; amounts are in standard deviations of its tissue.

    Raises:
        BadSetting: a value out of range.
    """

    intensity: str = "remap"
    """'remap': random increasing piecewise linear; 'rank': every histogram flat; 'none': only mean 0 and sd
    1.
    """
    knots: int = 6
    """Pieces of the remap, each of as many voxels."""
    evenness: float = 3.0
    """Shape of the gamma distribution of the pieces' heights: 1 is wild, 10 is mild."""
    noise: float = 0.15
    """Largest standard deviation of the Gaussian noise."""
    bias: float = 0.3
    """Largest logarithm of the multiplicative field over the block."""
    blur: float = 0.5
    """Probability that a block is blurred."""
    blurs: tuple[float, float] = (0.3, 1.35)
    """Range of the blur's standard deviation, mm."""
    coarse: float = 0.5
    """Probability that a block is sampled down and up again along one axis, as thick slices are."""
    thickness: tuple[float, float] = (2.25, 4.5)
    """Range of the slices' thickness, mm. Slices thinner than the voxels change nothing."""

    def __post_init__(self) -> None:
        for name in ("blurs", "thickness"):
            low, high = (float(value) for value in getattr(self, name))
            if not 0 <= low <= high:
                raise BadSetting(
                    f"{name} is a range in mm, lowest first and not negative: got {low:g} to {high:g}"
                )
            object.__setattr__(self, name, (low, high))
        if self.intensity not in ("remap", "rank", "none"):
            raise BadSetting(f"intensity {self.intensity!r}: choose remap, rank or none")
        if (
            self.knots < 1
            or self.evenness <= 0
            or min(self.noise, self.bias) < 0
            or not 0 <= self.blur <= 1
            or not 0 <= self.coarse <= 1
        ):
            raise BadSetting(
                "knots and evenness must be positive, noise and bias not negative, blur and coarse between "
                f"0 and 1: {self}"
            )


def vary(
    image: np.ndarray,
    tissue: np.ndarray,
    spacing: Sequence[float],
    rng: np.random.Generator,
    settings: VariationSettings,
) -> np.ndarray:
    """A block as another scanner might have shown it.

    Args:
        image: (I, J, K) float32, one block of one sequence.
        tissue: (I, J, K) bool, where it shows the head; with fewer than 64 voxels nothing is varied.
        spacing: mm of a voxel along I, J, K.
        rng: for every choice.
        settings: how much.

    Returns:
        (I, J, K) float32: mean 0 and sd 1 in the tissue, 0 elsewhere.
    """
    if tissue.sum() < 64:
        return np.where(tissue, image, 0).astype(np.float32)
    image = _resolution(image, spacing, rng, settings)
    values = image[tissue]
    values = values - values.min() + 0.5
    values = values * np.exp(_field(image.shape, rng, settings.bias))[tissue]
    values = _standard(_remap(values, rng, settings))
    values = _standard(
        values + rng.uniform(0, settings.noise) * rng.standard_normal(len(values), dtype=np.float32)
    )
    result = np.zeros(image.shape, dtype=np.float32)
    result[tissue] = values
    return result


def _resolution(
    image: np.ndarray, spacing: Sequence[float], rng: np.random.Generator, settings: VariationSettings
) -> np.ndarray:
    """Native resolutions differ by sequence, so any block may be soft or thick-sliced."""
    if rng.random() < settings.blur:
        width = rng.uniform(*settings.blurs)
        image = ndimage.gaussian_filter(image, [width / mm for mm in spacing], truncate=3)
    if rng.random() < settings.coarse:
        axis, thickness = int(rng.integers(3)), rng.uniform(*settings.thickness)
        voxels = image.shape[axis]
        slices = max(2, round(voxels * spacing[axis] / thickness))
        if voxels >= 8 and slices < voxels:
            image = _along(_along(image, axis, slices), axis, voxels)
    return image


def _along(image: np.ndarray, axis: int, count: int) -> np.ndarray:
    """Linear resampling to `count` voxels along one axis."""
    where = (np.arange(count) + 0.5) * image.shape[axis] / count - 0.5
    low = np.clip(np.floor(where).astype(int), 0, image.shape[axis] - 2)
    shape = [1, 1, 1]
    shape[axis] = count
    share = np.clip(where - low, 0, 1).astype(np.float32).reshape(shape)
    return np.take(image, low, axis) * (1 - share) + np.take(image, low + 1, axis) * share


def _field(shape: tuple[int, ...], rng: np.random.Generator, most: float) -> np.ndarray:
    """(I, J, K) a smooth field: a random linear and bilinear form of the position, at most about +-`most`."""
    x, y, z = np.meshgrid(
        *(np.linspace(-1, 1, n, dtype=np.float32) for n in shape), indexing="ij", sparse=True
    )
    a = rng.uniform(-1, 1, 6).astype(np.float32)
    form = a[0] * x + a[1] * y + a[2] * z + a[3] * x * y + a[4] * y * z + a[5] * x * z
    return form * np.float32(most / np.abs(a).sum())


def _remap(values: np.ndarray, rng: np.random.Generator, settings: VariationSettings) -> np.ndarray:
    if settings.intensity == "rank":
        order = np.empty(len(values), dtype=np.float32)
        order[np.argsort(values, kind="stable")] = np.arange(len(values), dtype=np.float32)
        return order
    if settings.intensity == "none":
        return values
    sample = values[:: max(1, len(values) // 20_000)]
    knots = np.quantile(sample, np.linspace(0, 1, settings.knots + 1))
    heights = np.concatenate([[0.0], np.cumsum(rng.gamma(settings.evenness, size=settings.knots) + 0.02)])
    return np.interp(values, knots, heights).astype(np.float32)


def _standard(values: np.ndarray) -> np.ndarray:
    return ((values - values.mean()) / max(float(values.std()), 1e-6)).astype(np.float32)
