"""Random rotation and scaling of a training sample, drawn apart from being applied."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

__all__ = ["draw_affine", "warp"]


def draw_affine(rng: np.random.Generator, rotation: float, scale: tuple[float, float]) -> np.ndarray:
    """(3, 4) from voxels of the result to voxels of the sample, both from its centre, axes K, J, I.

    Rotations up to `rotation` degrees about each axis, one scaling in the range `scale`.
    """
    angles = np.deg2rad(rng.uniform(-rotation, rotation, 3))
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        a, b = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    factor = np.exp(rng.uniform(*np.log(scale)))
    return np.concatenate([matrix / factor, np.zeros((3, 1))], axis=1)


def warp(images: torch.Tensor, affine: np.ndarray, mode: str = "bilinear") -> torch.Tensor:
    """(C, I, J, K) float32 sampled along `affine`, zero from outside; mode 'nearest' for label maps."""
    size = np.array(images.shape[:0:-1])  # torch's affine_grid counts in half lengths of each axis, K first
    theta = torch.from_numpy((affine * np.append(size, 2) / size[:, None])[None]).to(images)
    where = F.affine_grid(theta, [1, 1, *images.shape[1:]], align_corners=False)
    return F.grid_sample(images[None], where, mode=mode, align_corners=False)[0]
