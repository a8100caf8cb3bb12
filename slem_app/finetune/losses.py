"""The loss of the region heads: soft Dice over the batch plus binary cross-entropy, at full resolution and at
the coarser heads.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

__all__ = ["deep_loss", "region_loss"]


def region_loss(logits: torch.Tensor, target: torch.Tensor, smooth: float = 1.0) -> torch.Tensor:
    """1 - Dice (V-Net, Milletari et al. 2016, eq. 1 with squared terms left out) + BCE, mean over regions.

    Dice is taken over the whole batch, so a patch without a region does not dominate.

    Args:
        logits: (N, R, I, J, K).
        target: (N, R, I, J, K) in 0..1.
        smooth: voxels added to both sides of the fraction.
    """
    logits, target = logits.float(), target.float()
    probability = logits.sigmoid()
    axes = (0, 2, 3, 4)
    both = (probability * target).sum(axes)
    dice = (2 * both + smooth) / (probability.sum(axes) + target.sum(axes) + smooth)
    return (1 - dice).mean() + F.binary_cross_entropy_with_logits(logits, target)


def deep_loss(
    outputs: Sequence[torch.Tensor], target: torch.Tensor, weights: Sequence[float]
) -> torch.Tensor:
    """Weighted mean of `region_loss` over the heads; the target is averaged down to each head's size."""
    total = torch.zeros((), device=target.device)
    used = list(zip(outputs, weights, strict=False))
    for logits, weight in used:
        factor = target.shape[2] // logits.shape[2]
        total = total + weight * region_loss(logits, F.avg_pool3d(target, factor) if factor > 1 else target)
    return total / sum(weight for _, weight in used)
