"""From any number of sequences to one feature map: a stem with shared weights, then a fusion that knows what
is missing.

Each sequence passes the same one-channel stem (the one that SLeM's pretext trains on its collages). Then the
present ones' own 1x1x1 projections are added up and normalised channel by channel, so the scale of what
follows does not depend on how many there are (behind the norm a sum and a mean are the same). A missing
sequence is left out: its voxels are never looked at. Behind the norm, where it is not taken out again, each
missing sequence changes the channels' gain and shift by what it has learned, for a channel that lives on T1c
means little without it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from slem_app.network.blocks import ConvNorm, InstanceNorm, SpaceToChannels
from slem_app.preemption import yield_point

__all__ = ["SequenceFusion", "SequenceStem", "with_differences", "with_presence"]


class SequenceStem(nn.Module):
    """One sequence, one channel -> features at 1/stride of the resolution; the same weights for every
    sequence.
    """

    def __init__(self, channels: int, stride: int, kernel: tuple[int, int, int] = (3, 3, 3)) -> None:
        super().__init__()
        self.fold = SpaceToChannels(stride)
        self.conv = ConvNorm(stride**3, channels, kernel)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 1, I, J, K) -> (B, C, I/s, J/s, K/s)."""
        return self.conv(self.fold(x))


class SequenceFusion(nn.Module):
    """Normalised sum of the present sequences' own projections, with a gain and shift for what is missing:
    none at the start.
    """

    def __init__(self, sequences: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.project = nn.Parameter(torch.empty(sequences, outputs, inputs))
        self.gain = nn.Parameter(torch.zeros(sequences, outputs))
        self.shift = nn.Parameter(torch.zeros(sequences, outputs))
        self.norm = InstanceNorm(outputs)
        nn.init.normal_(self.project, std=(2 / (inputs * sequences)) ** 0.5)

    def forward(self, features: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """Fuse a set.

        Args:
            features: (N, M, C, I, J, K), anything where a sequence is missing.
            present: (N, M) bool.

        Returns:
            (N, C', I, J, K).
        """
        yield_point()
        n, m, c = features.shape[:3]
        here = present.reshape(n, m, 1, 1, 1, 1)
        stacked = torch.where(here, features, torch.zeros((), dtype=features.dtype, device=features.device))
        weight = self.project.permute(1, 0, 2).reshape(-1, m * c, 1, 1, 1)  # C' MC 1 1 1
        fused = self.norm(F.conv3d(stacked.reshape(n, m * c, *features.shape[3:]), weight))
        missing = (~present).to(self.gain.dtype)  # N M
        gain, shift = (
            (missing @ table)[:, :, None, None, None].to(fused.dtype) for table in (self.gain, self.shift)
        )
        return F.leaky_relu(torch.addcmul(shift, fused, 1 + gain), 0.01)


def with_differences(images: torch.Tensor, pairs: Sequence[tuple[int, int]]) -> torch.Tensor:
    """Add derived sequences behind the given ones.

    Args:
        images: (N, M, I, J, K) normalised intensities, 0 outside the patient.
        pairs: D pairs (a, b) of slots: a minus b where both have signal, else 0.

    Returns:
        (N, M + D, I, J, K).
    """
    derived = [
        torch.where((images[:, a] != 0) & (images[:, b] != 0), images[:, a] - images[:, b], 0.0)
        for a, b in pairs
    ]
    return torch.cat([images, torch.stack(derived, dim=1).to(images.dtype)], dim=1)


def with_presence(present: torch.Tensor, pairs: Sequence[tuple[int, int]]) -> torch.Tensor:
    """(N, M) bool -> (N, M + D): a derived sequence is there where both of its pair are."""
    return torch.cat([present, *((present[:, a] & present[:, b])[:, None] for a, b in pairs)], dim=1)
