"""What a model learns from a study without labels.

    loss = KL(p_subset || q) + keep KL(p_all || q) + naming L_SLeM

q is what the model said of the complete study before it was adapted, and is held fixed. From a subset of the
sequences it is to say the same (self-distillation, as in `finetune.pairs`, on the site's own images); from
all of them, too, so that nothing is forgotten (learning without forgetting, Li and Hoiem, PAMI 40(12), 2018,
eq. 2). SLeM in its form with a slot for each sequence (`pretext.tasks.slem_slots`) goes on in the encoder.
The divergences are means over the voxels where one of both answers finds something: the rest of a head, which
is most of it, would drown them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from slem_app.adapt.settings import AdaptSettings
from slem_app.network import Segmenter
from slem_app.predict import best_precision
from slem_app.pretext.heads import BlockHead
from slem_app.pretext.task import NetworkMaps

__all__ = ["AdaptLosses", "Adapted", "Batch", "divergence"]

LEAST = 1000.0  # voxels; a view in which less is found counts less


class Batch(NamedTuple):
    """N views, and what is made of each."""

    inputs: dict[str, torch.Tensor]
    """As the head of SLeM takes them: 'images', 'present' and 'coverage' of the exchanged slots."""
    targets: dict[str, torch.Tensor]
    """'shifts' and 'present'."""
    images: torch.Tensor
    """(N, M, I, J, K) float32, nothing exchanged."""
    present: torch.Tensor
    """(N, M) bool."""
    subset: torch.Tensor
    """(N, M) bool, some of `present`."""


class Adapted(nn.Module):
    """The model that learns, and the head that names the exchanges.

    Args:
        network: the model's; trained in place.
    """

    def __init__(self, network: Segmenter) -> None:
        super().__init__()
        self.segmenter = network
        self.head = BlockHead(network.config.channels[-1], network.config.sequences)


class AdaptLosses(nn.Module):
    """Networks and losses as one module: a `Batch` -> (N,).

    Args:
        student: learns.
        teacher: the same network before; its weights are not touched.
        settings: of the run.
    """

    def __init__(self, student: Adapted, teacher: Segmenter, settings: AdaptSettings) -> None:
        super().__init__()
        self.student, self.settings = student, settings
        self.teacher = teacher.requires_grad_(False)

    def forward(self, batch: Batch) -> torch.Tensor:
        batch, settings = Batch(*batch), self.settings
        network, device = self.student.segmenter, batch.images.device
        with torch.autocast(device.type, torch.bfloat16, enabled=best_precision(device) == "bfloat16"):
            with torch.no_grad():
                said = self.teacher(batch.images, batch.present)
            fused = network.fuse_each(batch.images, (batch.present, batch.subset))
            both = network.deep_fused(torch.cat(fused))[0]
            maps = network.encoder(batch.inputs["images"], batch.inputs["present"])
            named = self.student.head(NetworkMaps(maps, None), batch.inputs)
        complete, part = both.chunk(2)
        slem = settings.task.losses(named, batch.targets) / settings.task.slem.blocks
        return divergence(part, said) + settings.keep * divergence(complete, said) + settings.naming * slem


def divergence(answer: torch.Tensor, said: torch.Tensor) -> torch.Tensor:
    """(N,) KL(Bernoulli(answer) || Bernoulli(said)), summed over regions, mean over the voxels where
    something is found.

    Args:
        answer: (N, R, I, J, K) logits.
        said: logits of the same shape, from which nothing is learnt.
    """
    a, s = answer.float(), said.detach().float()
    p = a.sigmoid()
    each = p * (F.logsigmoid(a) - F.logsigmoid(s)) + (1 - p) * (F.logsigmoid(-a) - F.logsigmoid(-s))
    found = torch.maximum(p.detach(), s.sigmoid()).amax(dim=1)  # N I J K
    return each.sum(dim=(1, 2, 3, 4)) / (found.sum(dim=(1, 2, 3)) + LEAST)
