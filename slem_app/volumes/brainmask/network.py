"""The network that finds the brain in one image of any contrast. It is trained as SynthStrip (Hoopes et al.,
NeuroImage 2022), on images that were made from label maps.

It works at twice the voxel size of its input: eight neighbours are one voxel with eight channels, and eight
logits come out of one. So it is small and quick, and its border is still that of the input's grid.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from scipy import ndimage
from torch import nn

from slem_app.errors import BadVolume
from slem_app.types import Grid, triple
from slem_app.volumes.geometry import lattice, resample

__all__ = ["MULTIPLE", "SPACING", "MaskNetwork", "mask_input"]

SPACING = 3.0  # mm of the input's grid
MULTIPLE = 16  # voxels: one halving into channels, three in the network
LEVELS = 3  # times that the grid is halved inside


class MaskNetwork(nn.Module):
    """A U-Net whose skips are added.

    Args:
        channels: of each level, the finest first.
    """

    def __init__(self, channels: tuple[int, ...] = (16, 32, 64, 96)) -> None:
        super().__init__()
        self.channels = channels
        self.first = nn.Conv3d(8, channels[0], 3, padding=1)
        self.encoder = nn.ModuleList(_Block(size) for size in channels)
        self.down = nn.ModuleList(nn.Conv3d(a, b, 2, stride=2) for a, b in itertools.pairwise(channels))
        self.up = nn.ModuleList(nn.Conv3d(b, a, 1) for a, b in itertools.pairwise(channels))
        self.decoder = nn.ModuleList(_Block(size) for size in channels[:-1])
        self.last = nn.Conv3d(channels[0], 8, 3, padding=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 1, I, J, K) in 0..1, sizes multiples of 16 -> (B, 1, I, J, K) logits of being brain."""
        now = self.first(_together(image))  # B C I/2 J/2 K/2
        kept = []
        for level, block in enumerate(self.encoder):
            now = block(now)
            if level < len(self.down):
                kept.append(now)
                now = self.down[level](now)
        for level in reversed(range(len(self.up))):
            now = nn.functional.interpolate(self.up[level](now), scale_factor=2, mode="nearest")
            now = self.decoder[level](now + kept[level])
        return _apart(self.last(now))


class _Block(nn.Module):
    """Convolution, normalisation and slope, added to what came in."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.convolution = nn.Conv3d(size, size, 3, padding=1, bias=False)
        self.norm = nn.InstanceNorm3d(size, affine=True)
        self.slope = nn.LeakyReLU(0.1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image + self.slope(self.norm(self.convolution(image)))


def _together(image: torch.Tensor) -> torch.Tensor:
    """(B, 1, I, J, K) -> (B, 8, I/2, J/2, K/2)."""
    b, _, i, j, k = image.shape
    blocks = image.reshape(b, i // 2, 2, j // 2, 2, k // 2, 2)
    return blocks.permute(0, 2, 4, 6, 1, 3, 5).reshape(b, 8, i // 2, j // 2, k // 2)


def _apart(image: torch.Tensor) -> torch.Tensor:
    """(B, 8, I/2, J/2, K/2) -> (B, 1, I, J, K)."""
    b, _, i, j, k = image.shape
    blocks = image.reshape(b, 2, 2, 2, i, j, k)
    return blocks.permute(0, 4, 1, 5, 2, 6, 3).reshape(b, 1, 2 * i, 2 * j, 2 * k)


def mask_input(
    array: np.ndarray, grid: Grid, what: str, spacing: float = SPACING, multiple: int = MULTIPLE
) -> tuple[np.ndarray, Grid]:
    """An image as the network sees it.

    Args:
        array: (I, J, K) intensities.
        grid: where they lie.
        what: how to name the image in an error.
        spacing: mm of the result.
        multiple: of voxels to which its sizes are padded.

    Returns:
        (I', J', K') float32 in 0..1, 0 outside the field of view; and its grid, RAS.

    Raises:
        BadVolume: nearly every voxel has the same value.
    """
    low, high = (float(v) for v in np.percentile(array[::2, ::2, ::2], [1.0, 99.5]))
    if not high > low:
        raise BadVolume(
            f"{what}: nearly every voxel has the value {low:g}: there is nothing to find a brain in"
        )
    whole = lattice([grid], (spacing,) * 3)
    shape = triple(-(-n // multiple) * multiple for n in whole.shape)
    start = triple((n - m) // 2 for n, m in zip(whole.shape, shape, strict=True))
    target = whole.crop(start, shape)
    values = np.clip((array - low) / (high - low), 0, 1).astype(np.float32)
    steps = spacing / grid.spacing
    if (steps >= 2).any():  # fine voxels that would be passed over are averaged first
        values = ndimage.gaussian_filter(values, np.where(steps >= 2, 0.35 * steps, 0.0))
    return resample(values, grid, target, order=1), target
