"""Learning rates and the moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

__all__ = ["averaging", "parameter_groups", "rate_at"]


def rate_at(step: int, steps: int, peak: float, warmup: float) -> float:
    """Learning rate: a rise over the share `warmup` of the steps, then half a cosine to zero (Loshchilov &
    Hutter 2017, eq. 5, one period).

    Example:
        >>> [round(rate_at(step, 10, 1.0, 0.2), 2) for step in (0, 1, 2, 6)]
        [0.5, 1.0, 1.0, 0.5]
    """
    rising = max(1, int(warmup * steps))
    if step < rising:
        return peak * (step + 1) / rising
    done = (step - rising) / max(1, steps - rising)
    return peak * 0.5 * (1 + math.cos(math.pi * done))


Tensors = tuple[torch.Tensor, ...] | list[torch.Tensor]


def averaging(decay: float) -> Callable[[Tensors, Tensors, torch.Tensor | int], None]:
    """Exponential moving average that follows closely at first: min(decay, (1 + n) / (10 + n)). For
    AveragedModel's `multi_avg_fn`: all at once.
    """

    @torch.no_grad()
    def average(means: Tensors, now: Tensors, count: torch.Tensor | int) -> None:
        torch._foreach_lerp_(means, now, 1 - min(decay, (1 + int(count)) / (10 + int(count))))

    return average


def parameter_groups(
    network: nn.Module, decay: float, factor: Callable[[str], float] | None = None
) -> list[dict]:
    """Groups for AdamW: no weight decay on norms and biases; the rate of a group is multiplied by its
    `factor`.

    Args:
        network: whose parameters.
        decay: weight decay of the others.
        factor: of a parameter's name; None: 1 for all, in two groups.
    """
    found: dict[tuple[float, bool], list[nn.Parameter]] = {}
    if factor is None:
        found = {(1.0, True): [], (1.0, False): []}  # always both, in this order: what older checkpoints hold
    for name, parameter in network.named_parameters():
        key = (factor(name) if factor else 1.0, parameter.ndim >= 2)
        found.setdefault(key, []).append(parameter)
    return [
        {
            "params": several,
            "weight_decay": decay if deep else 0.0,
            **({"factor": scale} if scale != 1 else {}),
        }
        for (scale, deep), several in found.items()
    ]
