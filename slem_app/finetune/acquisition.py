"""What a scanner and the steps before us do to an image: thick slices, sequences out of register, bias
fields, contrast, brain masks that are too tight or too wide. Each is drawn first and then applied, on any
device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from slem_app.finetune.settings import AugmentSettings
from slem_app.training.affine import warp

__all__ = ["Acquisition", "acquire", "draw_acquisition"]

CONTROLS = 4  # control points of a smooth random field along each axis
WAVES = 2.0  # mm by which a mask's border moves in and out along its way
SHELL = 2.0  # sd of the head by which what lies around it differs from its border
GRAIN = 0.3  # sd of the noise there


@dataclass(frozen=True, eq=False)
class Acquisition:
    """All random numbers of one patch of M sequences."""

    thick: np.ndarray
    """(M,) voxels that one slice covers, 1 = none."""
    axis: np.ndarray
    """(M,) axis 0 I, 1 J, 2 K across the slices."""
    displaced: np.ndarray
    """(M, 3) voxels along I, J, K by which a sequence lies apart."""
    bias: np.ndarray
    """(M, 4, 4, 4) log of the gain at control points over the patch."""
    contrast: np.ndarray
    """(M,) factor around the mean, 1 = none."""
    inverted: np.ndarray
    """(M,) exponent of the gamma curve from the bright end, 1 = none."""
    border: np.ndarray | None
    """(4, 4, 4) how far inside (positive) or outside the mask's border lies, at control points, as a share of
    the box of `reach` around a voxel.
    """
    reach: tuple[int, int, int]
    """Voxels along I, J, K of the largest such distance; the box is twice as wide and a voxel more."""
    shell: np.ndarray
    """(M,) difference of what a mask too wide shows from the border of the head, in sd."""
    seed: int
    """Of the noise there."""


def draw_acquisition(
    rng: np.random.Generator, sequences: int, settings: AugmentSettings, spacing: Sequence[float]
) -> Acquisition:
    """Draw the acquisition of one patch whose voxels measure `spacing` (3,) mm."""

    def some(probability: float) -> np.ndarray:
        return rng.random(sequences) < probability

    axis = rng.integers(3, size=sequences)
    step = np.asarray(spacing, dtype=np.float64)
    thick = np.where(some(settings.thick), rng.uniform(*settings.thickness, sequences) / step[axis], 1.0)
    limit = np.where(some(settings.displaced), settings.displacement, 0.0)[:, None]
    displaced = rng.uniform(-1, 1, (sequences, 3)) * limit / step
    bias = rng.uniform(-1, 1, (sequences, *(CONTROLS,) * 3)) * settings.bias_field
    contrast = np.where(some(settings.contrast), rng.uniform(0.65, 1.5, sequences), 1.0)
    inverted = np.where(some(settings.inverted), rng.uniform(0.7, 1.5, sequences), 1.0)
    offset = rng.uniform(-settings.border_mm, settings.border_mm)
    waves = rng.uniform(-WAVES, WAVES, (CONTROLS,) * 3)
    border = np.clip(offset + waves, -settings.border_mm, settings.border_mm)
    i, j, k = np.maximum(1, np.round(settings.border_mm / step)).astype(int).tolist()
    return Acquisition(
        thick=np.maximum(thick, 1.0),
        axis=axis,
        displaced=displaced,
        bias=bias * some(settings.bias)[:, None, None, None],
        contrast=contrast,
        inverted=inverted,
        border=border / (2 * settings.border_mm + step.min()) if rng.random() < settings.border else None,
        reach=(i, j, k),
        shell=rng.uniform(-SHELL, SHELL, sequences),
        seed=int(rng.integers(2**31)),
    )


def acquire(
    images: torch.Tensor, regions: torch.Tensor, drawn: Acquisition
) -> tuple[torch.Tensor, torch.Tensor]:
    """Show one patch as such an acquisition would.

    Args:
        images: (M, I, J, K) float32, 0 outside the head; changed in place.
        regions: (R, I, J, K) float32 in 0..1. What a mask too tight cuts away belongs to no region.
        drawn: from `draw_acquisition`.

    Returns:
        Images and regions of the same shapes.
    """
    for s in range(len(images)):
        images[s] = _one(images[s], drawn, s)
    if drawn.border is not None:
        regions = _rim(images, regions, drawn, drawn.border)
    return images, regions


def _one(image: torch.Tensor, drawn: Acquisition, s: int) -> torch.Tensor:
    if drawn.displaced[s].any():
        moved = np.concatenate([np.eye(3), -drawn.displaced[s][::-1, None]], axis=1)
        image = warp(image[None], moved)[0]
    head = image != 0
    if drawn.thick[s] > 1:
        image = thick_slices(image, float(drawn.thick[s]), int(drawn.axis[s]))
    if drawn.inverted[s] != 1 or drawn.bias[s].any():
        low, high = image.amin(), image.amax()
        unit = (image - low) / (high - low + 1e-6)
        if drawn.inverted[s] != 1:
            unit = 1 - (1 - unit) ** float(drawn.inverted[s])
        if drawn.bias[s].any():
            unit = unit * _field(drawn.bias[s], image).exp()
        image = unit * (high - low) + low
    if drawn.contrast[s] != 1 and head.any():
        mean, low, high = image[head].mean(), image.amin(), image.amax()
        image = ((image - mean) * float(drawn.contrast[s]) + mean).clamp(low, high)
    return torch.where(head, image, 0.0)


def thick_slices(image: torch.Tensor, voxels: float, axis: int) -> torch.Tensor:
    """(I, J, K) seen in slices of `voxels` voxels across `axis`, brought back to its own grid linearly."""
    coarse = list(image.shape)
    coarse[axis] = max(1, round(image.shape[axis] / voxels))
    slices = F.interpolate(image[None, None], size=coarse, mode="area")
    return F.interpolate(slices, size=image.shape, mode="trilinear", align_corners=False)[0, 0]


def _field(controls: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    """(I, J, K) smooth field through (4, 4, 4) control points."""
    points = torch.from_numpy(controls.astype(np.float32)).to(like.device)[None, None]
    return F.interpolate(points, size=like.shape[-3:], mode="trilinear", align_corners=True)[0, 0]


def _rim(images: torch.Tensor, regions: torch.Tensor, drawn: Acquisition, border: np.ndarray) -> torch.Tensor:
    """Move the border of the brain mask: images are changed in place; returns the regions.

    The share of head in a box around a voxel is 1/2 on the border and grows evenly inwards, to 1 where the
    box lies inside; so a threshold on it moves the border by as many mm as it should.
    """
    head = (images != 0).any(dim=0)
    share = _box_mean(head.float()[None], drawn.reach)[0]
    threshold = (0.5 + _field(border, images)).clamp(0.02, 0.98)
    wider, tighter = (share > threshold) & ~head, (share <= threshold) & head
    if wider.any():
        near = _box_mean(images, drawn.reach) / share.clamp_min(1e-3)
        generator = torch.Generator(images.device).manual_seed(drawn.seed)
        noise = torch.randn(images.shape, generator=generator, device=images.device)
        shell = torch.from_numpy(drawn.shell.astype(np.float32)).to(images.device)[:, None, None, None]
        there = wider & (images != 0).flatten(1).any(dim=1)[:, None, None, None]  # not in an empty sequence
        images.copy_(torch.where(there, near + shell + GRAIN * noise, images))
    images *= ~tighter
    return regions * ~tighter


def _box_mean(images: torch.Tensor, reach: Sequence[int]) -> torch.Tensor:
    """(C, I, J, K): means over boxes of `reach` voxels to each side; nothing beyond the patch counts."""
    for axis in range(3):
        kernel = [2 * reach[axis] + 1 if axis == a else 1 for a in range(3)]
        padding = [k // 2 for k in kernel]
        images = F.avg_pool3d(images[None], kernel, 1, padding, count_include_pad=False)[0]
    return images
