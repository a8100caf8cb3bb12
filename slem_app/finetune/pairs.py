"""Training in pairs: every patch passes with all its sequences and once more with a subset of them, which
learns from the truth and from what the complete set says.

    loss = 1/2 (L(complete) + L(subset)) + w KL(p_subset || p_complete)

with a Bernoulli divergence a voxel and region, the complete set's probabilities held fixed and `w` rising
from zero (self-distillation from complete to missing modalities, e.g. ACN, Wang et al. 2021; SMU-Net, Azad et
al. 2022). The subset is drawn evenly from all others but the empty one. So one sequence alone is seen as
often as any other subset; dropping each by itself with probability 1/4 shows T1 alone in 1 patch of 85. Both
passes share the stem, whose features do not depend on what is missing.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from slem_app.errors import BadSetting
from slem_app.finetune.losses import deep_loss
from slem_app.finetune.settings import FinetuneSettings
from slem_app.network import Segmenter
from slem_app.predict import best_precision

__all__ = ["PairedLosses", "divergence", "draw_subset", "proper_subsets"]

STREAM = 8111  # keeps these random numbers apart from those of the patches


class PairedLosses(nn.Module):
    """Network and loss as one module: a batch of varied patches -> (1,).

    Args:
        network: what is trained.
        sequences: names of its slots.
        settings: of the run.

    Raises:
        BadSetting: `pairs.twice` names a sequence that the network does not have.
    """

    def __init__(self, network: Segmenter, sequences: Sequence[str], settings: FinetuneSettings) -> None:
        super().__init__()
        self.network, self.settings = network, settings
        for names in settings.pairs.twice:
            if unknown := set(names) - set(sequences):
                raise BadSetting(
                    f"pairs.twice names {', '.join(sorted(unknown))}: the sequences here are "
                    f"{', '.join(sequences) or 'not known'}"
                )
        self.twice = tuple(tuple(name in names for name in sequences) for names in settings.pairs.twice)

    def forward(self, batch: Sequence[torch.Tensor]) -> torch.Tensor:
        images, present, regions, numbers = batch
        subset = torch.stack([self._subset(*pair) for pair in zip(present, numbers.tolist(), strict=True)])
        with torch.autocast(
            images.device.type, torch.bfloat16, enabled=best_precision(images.device) == "bfloat16"
        ):
            fused = self.network.fuse_each(images, (present, subset))
            outputs = self.network.deep_fused(torch.cat(fused))  # 2N R I J K, and the coarser heads'
        complete, part = zip(*(output.chunk(2) for output in outputs), strict=True)
        weights = self.settings.deep_weights
        loss = (deep_loss(complete, regions, weights) + deep_loss(part, regions, weights)) / 2
        return (loss + self._weight(int(numbers[0])) * divergence(part[0], complete[0]))[None]

    def _subset(self, present: torch.Tensor, number: int) -> torch.Tensor:
        rng = np.random.default_rng([self.settings.seed, STREAM, number])
        flags = draw_subset(rng, tuple(present.tolist()), self.twice)
        return torch.tensor(flags, device=present.device)

    def _weight(self, number: int) -> float:
        rising = self.settings.pairs.ramp * self.settings.steps
        step = number // self.settings.batch
        return self.settings.pairs.consistency * (min(1.0, step / rising) if rising else 1.0)


def proper_subsets(present: Sequence[bool]) -> list[tuple[bool, ...]]:
    """Every set of the present sequences but the empty and the complete one, as flags of all slots."""
    flags = itertools.product(*((False, True) if here else (False,) for here in present))
    return [each for each in flags if any(each) and each != tuple(present)]


def draw_subset(
    rng: np.random.Generator, present: Sequence[bool], twice: Sequence[tuple[bool, ...]] = ()
) -> tuple[bool, ...]:
    """One of `proper_subsets`, those of `twice` with two chances; a single sequence stays as it is."""
    subsets = proper_subsets(present)
    subsets += [each for each in twice if each in subsets]
    return subsets[rng.integers(len(subsets))] if subsets else tuple(present)


def divergence(subset: torch.Tensor, complete: torch.Tensor) -> torch.Tensor:
    """Mean over voxels and regions of KL(Bernoulli(p_subset) || Bernoulli(p_complete)); the latter learns
    nothing from it.

    Args:
        subset: (N, R, I, J, K) logits.
        complete: logits of the same shape.
    """
    s, c = subset.float(), complete.detach().float()
    p = s.sigmoid()
    inside = p * (F.logsigmoid(s) - F.logsigmoid(c))
    outside = (1 - p) * (F.logsigmoid(-s) - F.logsigmoid(-c))
    return (inside + outside).mean()
