"""What the restoring tasks share: an error over the voxels that count, averaged a sample, and how much of the
variance is explained.
"""

from __future__ import annotations

import torch

__all__ = ["explained", "masked_error"]


def masked_error(
    restored: torch.Tensor, truth: torch.Tensor, where: torch.Tensor, power: int
) -> torch.Tensor:
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


def explained(
    restored: torch.Tensor, truth: torch.Tensor, where: torch.Tensor, among: torch.Tensor | None = None
) -> torch.Tensor:
    """(N,) 1 - mean squared error / variance within each sequence; 0 is what the best constant a sequence
    gives.

    Args:
        restored: (N, M, I, J, K).
        truth: same shape.
        where: same shape, bool; the voxels whose error counts.
        among: same shape, bool; those whose variance it is measured by, `where` by default. Small holes, some
            of them nearly uniform, want more than themselves.
    """
    among = where if among is None else among
    truth, axes = truth.float(), (1, 2, 3, 4)
    mean = (truth * among).sum(dim=(2, 3, 4), keepdim=True) / among.sum(
        dim=(2, 3, 4), keepdim=True
    ).clamp_min(1)
    variance = ((truth - mean).square() * among).sum(axes) / among.sum(axes).clamp_min(1)
    return 1 - masked_error(restored, truth, where, power=2) / variance.clamp_min(1e-6)
