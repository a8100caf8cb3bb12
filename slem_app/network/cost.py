"""What a network costs: weights, and operations for one case."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from slem_app.network.segmenter import Segmenter

__all__ = ["flops", "parameters"]


def parameters(network: nn.Module) -> int:
    """Number of weights."""
    return sum(p.numel() for p in network.parameters())


def flops(network: Segmenter, shape: tuple[int, int, int]) -> int:
    """Floating point operations (2 a multiply-add) of one automatic pass over (I, J, K) voxels with every
    sequence present.
    """
    device = next(network.parameters()).device
    images = torch.zeros(1, network.config.sequences, *shape, device=device)
    present = torch.ones(1, network.config.sequences, dtype=torch.bool, device=device)
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        network(images, present)
    return counter.get_total_flops()
