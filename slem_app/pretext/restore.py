"""What the restoring tasks share: an error over the voxels that count, averaged a sample, and how much of the variance is explained."""

from __future__ import annotations

import torch

__all__ = ["explained", "masked_error"]


def masked_error(restored: torch.Tensor, truth: torch.Tensor, where: torch.Tensor, power: int) -> torch.Tensor:
    """(N,) mean of |restored - truth| ** power over the voxels of each sample.

    Args:
        restored: (N, M, I, J, K).
        truth: same shape.
        where: same shape, bool; a sample without any such voxel has error 0.
        power: 1 or 2.
    """
    error = (restored.float() - truth.float()).abs()
    error = (error.square() if power == 2 else error) * where
    axes = tuple(range(1, error.ndim))
    return error.sum(axes) / where.sum(axes).clamp_min(1)


def explained(restored: torch.Tensor, truth: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """(N,) 1 - squared error / squared error of the best constant a sequence, over the voxels of each sample; 0 is chance."""
    truth, count = truth.float(), where.sum(dim=(2, 3, 4), keepdim=True).clamp_min(1)
    mean = (truth * where).sum(dim=(2, 3, 4), keepdim=True) / count
    axes = (1, 2, 3, 4)
    error = ((restored.float() - truth).square() * where).sum(axes)
    return 1 - error / ((truth - mean).square() * where).sum(axes).clamp_min(1e-6)
