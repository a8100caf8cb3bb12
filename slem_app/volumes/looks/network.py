"""What names a sequence by the brain's looks: some forty numbers of an image, and one linear layer.

It sees the brain alone, so stripped images and whole heads look alike to it, in a box of 3 mm voxels around
the brain's middle. With 72 images to learn from, a network of convolutions was right in half of the unseen
ones, this in nearly all.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from scipy import ndimage
from torch import nn

from slem_app.types import Grid, triple
from slem_app.volumes.geometry import lattice, resample

__all__ = ["BOX", "CLASSES", "STEP", "LooksNetwork", "box_around", "in_blocks", "looks_input"]

CLASSES = ("t1n", "t1c", "t2w", "t2f", "other")
"""What the network tells apart; `other` is any other MR image of a head."""
STEP = 3.0  # mm of the box's voxels
BOX = (56, 64, 48)  # voxels of the box
LOW, HIGH = 0.5, 99.8  # percentiles of the brain to which intensities are clipped
RANGE = (-4.0, 6.0)  # standard deviations
LEAST = 1000  # voxels of brain in the box
QUANTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99, 99.7)  # percentiles of the brain's intensities
DETAIL = (0.3, 2, 10, 90, 98, 99.7)  # percentiles of what smoothing takes away
SMOOTH = 1.5  # voxels, standard deviation of that smoothing
DEPTHS = (0.0, 5.0, 10.0, 18.0, 28.0, 40.0, 99.0)  # mm under the surface, borders of layers
FEW = 50  # voxels or blocks that tell nothing
WIDE = 4  # voxels of a block
BLOCKS = (BOX[0] // WIDE, BOX[1] // WIDE, BOX[2] // WIDE)
BLUR = 0.35  # of the step: standard deviation of the smoothing of finer voxels


class LooksNetwork(nn.Module):
    """Numbers that a brain's image is described by, put on one scale, and one linear layer.

    The numbers: quantiles of the intensities and of fine detail, mean and spread by depth under the surface,
    and how much the image is like the mean image of each sequence, in blocks of 12 mm.

    Args:
        kinds: mean images that an image is compared with.
    """

    def __init__(self, kinds: int = 9) -> None:
        super().__init__()
        count = len(QUANTILES) + len(DETAIL) + 2 * (len(DEPTHS) - 1) + 1 + kinds
        self.register_buffer("means", torch.zeros(kinds, *BLOCKS))
        self.register_buffer("known", torch.zeros(kinds, *BLOCKS))
        self.register_buffer("middle", torch.zeros(count))
        self.register_buffer("scale", torch.ones(count))
        self.head = nn.Linear(count, len(CLASSES))

    @property
    def kinds(self) -> int:
        """Number of mean images."""
        return len(self.get_buffer("means"))

    def numbers(self, seen: np.ndarray) -> np.ndarray:
        """(F,) float32 that describe an input, (2, I, J, K) as `looks_input` makes it."""
        image, mask = seen[0], seen[1] > 0
        rim = ndimage.gaussian_filter(seen[1], SMOOTH)
        detail = image - ndimage.gaussian_filter(image, SMOOTH) / np.maximum(rim, 0.05)
        inner = ndimage.binary_erosion(mask, iterations=2)
        fine = detail[inner if np.count_nonzero(inner) >= LEAST // 2 else mask]
        found = [*np.percentile(image[mask], QUANTILES), *np.percentile(fine, DETAIL)]
        depth = ndimage.distance_transform_edt(mask) * STEP
        for low, high in itertools.pairwise(DEPTHS):
            layer = image[mask & (depth > low) & (depth <= high)]
            found += [layer.mean(), layer.std()] if len(layer) > FEW else [0.0, 0.0]
        clipped = np.clip(fine, -3, 3)
        found.append(_alike(clipped, np.abs(clipped)))
        blocks, there = in_blocks(image, mask)
        for mean, known in zip(self.get_buffer("means"), self.get_buffer("known"), strict=True):
            both = there & (known.numpy() > 0)
            found.append(_alike(blocks[both], mean.numpy()[both]))
        return np.array(found, np.float32)

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """(B, F) of `numbers` -> (B, C) logits of `CLASSES`."""
        middle, scale = self.get_buffer("middle"), self.get_buffer("scale")
        logits: torch.Tensor = self.head((numbers - middle) / scale)
        return logits

    def shares(self, seen: np.ndarray) -> np.ndarray:
        """(C,) probabilities of an input."""
        with torch.inference_mode():
            logits = self(torch.from_numpy(self.numbers(seen))[None])
            return np.asarray(torch.softmax(logits, dim=1)[0].numpy())


def in_blocks(image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the brain in each block of the box, and the blocks that have enough of it: (I', J', K') float32
    and bool.
    """

    def summed(array: np.ndarray) -> np.ndarray:
        i, j, k = BLOCKS
        return array.reshape(i, WIDE, j, WIDE, k, WIDE).sum(axis=(1, 3, 5))

    count = summed(mask.astype(np.float32))
    there = count > WIDE**3 / 4
    return np.where(there, summed(np.where(mask, image, 0)) / np.maximum(count, 1), 0), there


def _alike(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's correlation; 0 where nothing can be told."""
    if len(one) <= FEW or one.std() < 1e-6 or other.std() < 1e-6:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def box_around(
    image: np.ndarray, grid: Grid, brain: np.ndarray, brain_grid: Grid
) -> tuple[np.ndarray, np.ndarray]:
    """An image and its brain in the box around the brain's middle.

    Args:
        image: (I, J, K) intensities.
        grid: where they lie.
        brain: (I', J', K') share of brain, 0..1.
        brain_grid: where it lies.

    Returns:
        Intensities (float32) and brain (bool), both of `BOX`; no brain where there was none.
    """
    whole = lattice([brain_grid], (STEP,) * 3)
    there = resample(brain.astype(np.float32), brain_grid, whole, order=1) > 0.5
    if not there.any():
        return np.zeros(BOX, np.float32), np.zeros(BOX, bool)
    middle = np.round(ndimage.center_of_mass(there)).astype(int)
    target = whole.crop(triple(int(n) for n in middle - np.array(BOX) // 2), BOX)
    finer = STEP / grid.spacing
    smooth = ndimage.gaussian_filter(np.asarray(image, np.float32), np.where(finer >= 2, BLUR * finer, 0.0))
    soft = ndimage.gaussian_filter(brain.astype(np.float32), BLUR * STEP / brain_grid.spacing)
    mask = resample(soft, brain_grid, target, order=1) > 0.5
    return resample(smooth, grid, target, order=1).astype(np.float32), mask


def looks_input(image: np.ndarray, mask: np.ndarray) -> np.ndarray | None:
    """(2, I, J, K) float32 as `LooksNetwork` takes it: intensities in standard deviations of the brain, 0
    outside, and the brain; None where there is too little of it.

    Args:
        image: (I, J, K) intensities in the box.
        mask: (I, J, K) bool, the brain.
    """
    if np.count_nonzero(mask) < LEAST:
        return None
    inside = image[mask].astype(np.float32)
    low, high = np.percentile(inside, (LOW, HIGH))
    clipped = np.clip(inside, low, high)
    result = np.zeros((2, *image.shape), np.float32)
    result[0][mask] = np.clip((clipped - clipped.mean()) / max(float(clipped.std()), 1e-6), *RANGE)
    result[1] = mask
    return result
