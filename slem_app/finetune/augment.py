"""Variation of training patches. What is random is drawn first (`draw`), from a seeded generator, and then
applied (`apply`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from slem_app.finetune.acquisition import Acquisition, acquire, draw_acquisition
from slem_app.finetune.settings import AugmentSettings
from slem_app.training.affine import draw_affine, warp

__all__ = ["Variation", "apply", "draw"]


@dataclass(frozen=True, eq=False)
class Variation:
    """All random numbers of one patch."""

    flips: tuple[int, ...]
    """Axes (1, 2, 3 = I, J, K) to mirror."""
    affine: np.ndarray | None
    """(3, 4) from voxels of the result to voxels of the patch, both from its centre, axes K, J, I; or None.
    """
    gain: np.ndarray
    """(M,)."""
    shift: np.ndarray
    """(M,)."""
    gamma: np.ndarray
    """(M,) exponent, 1 = none."""
    noise: float
    """Standard deviation, 0 = none."""
    blur: np.ndarray
    """(M,) factor of the low resolution, 1 = none."""
    keep: np.ndarray
    """(M,) bool, False where a sequence is dropped."""
    seed: int
    """Of the noise."""
    acquisition: Acquisition | None
    """How the images were made; None as they are."""


def draw(
    rng: np.random.Generator,
    sequences: int,
    settings: AugmentSettings,
    mirrors: Sequence[int] = (0, 1, 2),
    spacing: Sequence[float] = (1.5, 1.5, 1.5),
) -> Variation:
    """Draw the variation of one patch of `sequences` sequences, mirrored along none but the axes
    `mirrors`; its voxels measure `spacing` mm.
    """

    def uniform(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, sequences)

    def some(probability: float) -> np.ndarray:
        return rng.random(sequences) < probability

    keep = some(settings.keep_sequence)
    keep[rng.integers(sequences)] |= not keep.any()
    return Variation(
        flips=tuple(axis for axis in (1, 2, 3) if rng.random() < settings.flip and axis - 1 in mirrors),
        affine=draw_affine(rng, settings.rotation, settings.scale)
        if rng.random() < settings.spatial
        else None,
        gain=1 + uniform(-settings.gain, settings.gain),
        shift=uniform(-settings.shift, settings.shift),
        gamma=np.where(some(settings.gamma), uniform(0.7, 1.5), 1.0),
        noise=float(rng.uniform(0.02, 0.12)) if rng.random() < settings.noise else 0.0,
        blur=np.where(some(settings.blur), uniform(1.3, 2.2), 1.0),
        keep=keep,
        seed=int(rng.integers(2**31)),
        acquisition=draw_acquisition(rng, sequences, settings, spacing) if settings.acquires else None,
    )


def apply(
    images: torch.Tensor, regions: torch.Tensor, variation: Variation
) -> tuple[torch.Tensor, torch.Tensor]:
    """Vary one patch.

    Args:
        images: (M, I, J, K) float32, on any device; what is random about the noise differs between devices.
        regions: (R, I, J, K) float32 in 0..1.
        variation: from `draw`. `keep` is left to the caller: a dropped sequence is a flag, not a change of
            voxels.

    Returns:
        New images and regions of the same shapes.
    """
    both = torch.cat([images, regions])
    if variation.flips:
        both = both.flip(variation.flips)
    if variation.affine is not None:
        both = warp(both, variation.affine)
    images, regions = both[: len(images)].clone(), both[len(images) :]
    if variation.acquisition is not None:
        images, regions = acquire(images, regions, variation.acquisition)
    generator = torch.Generator(images.device).manual_seed(variation.seed)
    for s in range(len(images)):
        images[s] = _intensity(images[s], variation, s)
    if variation.noise:
        images += (
            variation.noise
            * torch.randn(images.shape, generator=generator, device=images.device)
            * (images != 0)
        )
    return images, regions


def _intensity(image: torch.Tensor, variation: Variation, s: int) -> torch.Tensor:
    head = image != 0  # outside the head stays zero
    if variation.blur[s] > 1:
        small = F.interpolate(
            image[None, None],
            scale_factor=float(1 / variation.blur[s]),
            mode="trilinear",
            align_corners=False,
        )
        image = F.interpolate(small, size=image.shape, mode="trilinear", align_corners=False)[0, 0]
    if variation.gamma[s] != 1:
        low, high = image.min(), image.max()
        image = ((image - low) / (high - low + 1e-6)) ** float(variation.gamma[s]) * (high - low) + low
    return torch.where(head, image * float(variation.gain[s]) + float(variation.shift[s]), 0.0)
