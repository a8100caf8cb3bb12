"""Views of a case for the editor's training: turned, mirrored and scaled cubes, and where the case's voxels
lie in them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from slem_app.finetune.editing.starts import StartCase
from slem_app.training.affine import draw_affine

__all__ = ["Cutout", "cut_out"]


@dataclass(frozen=True, eq=False)
class Cutout:
    """A turned and scaled cube of a case, zero outside it."""

    images: np.ndarray
    """(M, V, V, V)."""
    probabilities: np.ndarray
    """(R, V, V, V) in 0..1."""
    maps: tuple[np.ndarray, ...]
    """Each (V, V, V) uint8."""
    affine: np.ndarray
    """(3, 3) from voxels of the view to the case's, both from its middle, axes K, J, I."""
    middle: np.ndarray
    """(3,) voxel of the case."""

    def place(self, voxels: np.ndarray) -> np.ndarray:
        """(m, 3) where (n, 3) voxels of the case lie in the view; those outside are left out."""
        size = np.array(self.images.shape[1:])
        away = (voxels - self.middle + 0.5)[:, ::-1]  # n 3, K first
        there = (away @ np.linalg.inv(self.affine).T)[:, ::-1] + size / 2
        found = np.unique(np.floor(there).astype(int), axis=0)
        return found[((found >= 0) & (found < size)).all(axis=1)]


def cut_out(
    case: StartCase,
    version: int,
    middle: np.ndarray,
    size: int,
    scale: float,
    rng: np.random.Generator,
    *maps: np.ndarray,
) -> Cutout | None:
    """Draw a view.

    Args:
        case: the case.
        version: which of its automatic results.
        middle: (3,) voxel at the view's middle.
        size: V, voxels along each axis.
        scale: size of the view's voxels, in those of the case.
        rng: what is random comes from here.
        *maps: (I, J, K) label maps of the case, which are cut out, too.

    Returns:
        None where the view lies off the case.
    """
    turned = rng.random() < 0.5
    affine = draw_affine(rng, 20.0 if turned else 0.0, (1.0, 1.0))[:, :3]
    affine = affine @ np.diag(rng.choice([-1.0, 1.0], 3)) * scale
    half = int(np.ceil(size / 2 * np.abs(affine).sum(axis=1).max())) + 2
    low, shape = middle - half, np.array(case.truth.shape)
    box = tuple(slice(max(0, a), max(0, min(n, a + 2 * half))) for a, n in zip(low, shape, strict=True))
    if min(s.stop - s.start for s in box) < 8:
        return None
    pad = [(s.start - a, a + 2 * half - s.stop) for s, a in zip(box, low, strict=True)]
    block = np.concatenate(
        [
            case.images[(slice(None), *box)].astype(np.float32),
            case.probabilities[version][(slice(None), *box)].astype(np.float32) / 255,
        ]
    )
    theta = torch.from_numpy(np.concatenate([affine * size / (2 * half), np.zeros((3, 1))], axis=1))[
        None
    ].float()
    where = F.affine_grid(theta, [1, 1, size, size, size], align_corners=False)
    flat = np.stack([np.pad(one[box], pad) for one in maps]).astype(np.float32)
    sources = (np.pad(block, [(0, 0), *pad]), flat)
    linear, nearest = (
        F.grid_sample(torch.from_numpy(s)[None], where, mode=mode, align_corners=False)[0].numpy()
        for s, mode in zip(sources, ("bilinear", "nearest"), strict=True)
    )
    count = len(case.images)
    return Cutout(linear[:count], linear[count:], tuple(nearest.astype(np.uint8)), affine, middle)
