"""The editor: from images, what is shown and what a reader points at to where the reader's label belongs.

A small residual U-Net behind a strided stem. It knows no label by its place in a list: the label that the
reader gives stands against the rest, and who is who (`EditorConfig.labels`) is only a hint. Prompts enter at
every level, as in nnInteractive (Isensee et al. 2025); the head sees the input's own voxels beside the
coarser features, so that the answer has the input's detail.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

__all__ = ["CONTEXT", "POINTED", "EditorConfig", "EditorNetwork"]

CONTEXT = (
    "odds of the label",
    "odds of what is shown here",
    "label",
    "shown here",
    "background",
    "other labels",
)
"""Channels of what is known before the prompt, after the sequences and their differences."""
POINTED = ("newest", "painted", "older of the label", "older of others", "layer")
"""Channels of prompts; similarities to the place of the prompt, one a sequence and difference, follow."""
GROUPS = 4
FINE = 24  # features of the input's own voxels
HEAD = 48


@dataclass(frozen=True)
class EditorConfig:
    """Shape of one editor.

    Raises:
        ValueError: a number out of range.
    """

    sequences: int = 4
    """M, slots for sequences."""
    differences: tuple[tuple[int, int], ...] = ()
    """Pairs of slots whose difference is a channel, too, e.g. T1c less T1."""
    labels: tuple[str, ...] = ()
    """Names of labels that it was told in training; all others are equal to it."""
    channels: tuple[int, ...] = (16, 32, 64, 96)
    """Feature channels of each level, finest first; each level halves the resolution."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "differences", tuple(tuple(pair) for pair in self.differences))
        object.__setattr__(self, "labels", tuple(self.labels))
        object.__setattr__(self, "channels", tuple(self.channels))
        if not 1 <= self.sequences <= 8:
            raise ValueError(f"an editor takes 1 to 8 sequences, got {self.sequences}")
        if any(not 0 <= slot < self.sequences for pair in self.differences for slot in pair):
            raise ValueError(f"differences {self.differences} name slots beyond 0..{self.sequences - 1}")
        if len(self.channels) < 2 or any(c % GROUPS for c in self.channels):
            raise ValueError(f"channels {self.channels}: two or more, each a multiple of {GROUPS}")

    @property
    def seen(self) -> int:
        """Channels of images: sequences and differences."""
        return self.sequences + len(self.differences)

    @property
    def inputs(self) -> int:
        """Channels of the input."""
        return 2 * self.seen + len(CONTEXT) + len(POINTED)

    @property
    def prompts(self) -> slice:
        """Those of the prompts."""
        start = self.seen + len(CONTEXT)
        return slice(start, start + len(POINTED))

    @property
    def told(self) -> int:
        """Numbers that hold for the whole view: label given and shown, sequences present, probabilities
        known, mm a voxel, depth and count of prompts.
        """
        return 2 * (len(self.labels) + 1) + self.sequences + 4

    @property
    def multiple(self) -> int:
        """Sizes of the input are multiples of it."""
        return 2 ** len(self.channels)


class EditorNetwork(nn.Module):
    """(N, C, I, J, K) and (N, T) to (N, I, J, K) logits: does the reader's label belong here?"""

    def __init__(self, config: EditorConfig) -> None:
        super().__init__()
        self.config = config
        widths, told = config.channels, config.told
        told_width = 32
        self.stem = nn.Conv3d(config.inputs, widths[0], 2, stride=2)
        self.encoder = nn.ModuleList(_Block(c) for c in widths)
        self.down = nn.ModuleList(nn.Conv3d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.up = nn.ModuleList(nn.Conv3d(b, a, 1) for a, b in pairwise(widths))
        self.decoder = nn.ModuleList(_Block(c) for c in widths[:-1])
        self.tell = nn.Sequential(nn.Linear(told, told_width), nn.SiLU(), nn.Linear(told_width, sum(widths)))
        self.fine = nn.Conv3d(config.inputs * 8, FINE, 1)
        self.mixed = nn.Conv3d(widths[0] + FINE, HEAD, 1)
        self.head = nn.Conv3d(HEAD, 8, 1)
        nn.init.zeros_(self.head.weight)
        self.head.bias = nn.Parameter(torch.zeros(8))
        self.newest = nn.Parameter(torch.tensor(5.0))
        self.bias = nn.Parameter(torch.tensor(-3.0))

    def forward(self, seen: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
        """The logits in single precision."""
        pointed = seen[:, self.config.prompts]
        prompts = [2 * F.avg_pool3d(pointed, 2)]
        for _ in self.down:
            prompts.append(F.max_pool3d(prompts[-1], 2))
        biases = [b[:, :, None, None, None] for b in self.tell(told).split(self.config.channels, dim=1)]
        features = self.stem(seen)
        skips = []
        for level, block in enumerate(self.encoder):
            features = self.down[level - 1](features) if level else features
            features = block(features + biases[level], prompts[level])
            skips.append(features)
        for level in reversed(range(len(self.decoder))):
            raised = F.interpolate(
                self.up[level](features), scale_factor=2, mode="trilinear", align_corners=False
            )
            features = self.decoder[level](raised + skips[level], prompts[level])
        own = F.silu(self.fine(_folded(seen)))
        answer = self.head(F.silu(self.mixed(torch.cat([features, own], dim=1))))
        return _unfolded(answer).float() + self.newest * pointed[:, 0].float() + self.bias


class _Block(nn.Module):
    """Residual block, norms first (He et al. 2016, identity mappings); prompts are added between."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.GroupNorm(GROUPS, channels) for _ in range(2))
        self.convolutions = nn.ModuleList(
            nn.Conv3d(channels, channels, 3, padding=1, bias=False) for _ in range(2)
        )
        self.prompts = nn.Conv3d(len(POINTED), channels, 1)
        nn.init.zeros_(self.convolutions[1].get_parameter("weight"))

    def forward(self, x: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
        inner = self.convolutions[0](F.silu(self.norms[0](x))) + self.prompts(prompts)
        return x + self.convolutions[1](F.silu(self.norms[1](inner)))


def _folded(x: torch.Tensor) -> torch.Tensor:
    """(N, C, I, J, K) -> (N, 8 C, I/2, J/2, K/2): each 2 x 2 x 2 voxels as channels."""
    n, c, i, j, k = x.shape
    cut = x.reshape(n, c, i // 2, 2, j // 2, 2, k // 2, 2).permute(0, 1, 3, 5, 7, 2, 4, 6)
    return cut.reshape(n, c * 8, i // 2, j // 2, k // 2)


def _unfolded(x: torch.Tensor) -> torch.Tensor:
    """(N, 8, i, j, k) -> (N, 2 i, 2 j, 2 k)."""
    n, _, i, j, k = x.shape
    cut = x.reshape(n, 2, 2, 2, i, j, k).permute(0, 4, 1, 5, 2, 6, 3)
    return cut.reshape(n, 2 * i, 2 * j, 2 * k)
