"""The contextual fusion block (CFB) of SLeM and the blocks it is measured against. Every one is the identity
at its start.

The abstract of SLeM (Wang et al., J. CAD & CG 37(3), 2025) says that the CFB "extracts features from tumors
of various sizes"; its inside is not public. Here: parallel branches of unlike receptive field, one of them
the whole image, and a choice among them made at every voxel.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from slem_app.network.blocks import ConvNorm, InstanceNorm
from slem_app.types import triple

__all__ = ["ContextualFusionBlock", "DenseAtrousBlock", "PlainBlock", "PyramidBlock", "context_block"]


class ContextualFusionBlock(nn.Module):
    """Branches of several dilations and the global mean, chosen per voxel, gated per channel, added to the
    input.
    """

    def __init__(
        self, channels: int, dilations: tuple[int, ...], kernel: tuple[int, int, int] = (3, 3, 3)
    ) -> None:
        super().__init__()
        inner = max(8, channels // 2)
        self.reduce = ConvNorm(channels, inner, (1, 1, 1))
        self.branches = nn.ModuleList(
            [
                ConvNorm(inner, inner, (1, 1, 1)),
                *(ConvNorm(inner, inner, kernel, dilation=d) for d in dilations),
            ]
        )
        self.whole = nn.Conv3d(inner, inner, 1)
        self.choose = nn.Conv3d(inner, len(self.branches) + 1, 1)
        self.gate = nn.Sequential(
            nn.Conv3d(inner, max(4, inner // 4), 1), nn.ReLU(), nn.Conv3d(max(4, inner // 4), channels, 1)
        )
        self.expand = nn.Conv3d(inner, channels, 1, bias=False)
        self.last = InstanceNorm(channels, zero=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, I, J, K) -> same shape."""
        y = self.reduce(x)  # N C/2 I J K
        mean = y.mean(dim=(2, 3, 4), keepdim=True)  # N C/2 1 1 1
        views = [*(branch(y) for branch in self.branches), self.whole(mean).expand_as(y)]
        weights = self.choose(y).softmax(dim=1)  # N B I J K
        fused = sum(weights[:, b : b + 1] * view for b, view in enumerate(views))
        return x + self.last(self.expand(fused)) * torch.sigmoid(self.gate(mean))


class DenseAtrousBlock(nn.Module):
    """DAC of CE-Net in 3D (Gu et al., IEEE TMI 2019, fig. 3): d1; d3 1x1; d1 d3 1x1; d1 d3 d5 1x1; summed."""

    def __init__(self, channels: int, kernel: tuple[int, int, int] = (3, 3, 3)) -> None:
        super().__init__()

        def conv(dilation: int) -> nn.Conv3d:
            return nn.Conv3d(
                channels,
                channels,
                kernel,
                padding=triple(dilation * (k // 2) for k in kernel),
                dilation=dilation,
            )

        self.d1, self.d3, self.d5, self.point = conv(1), conv(3), conv(5), nn.Conv3d(channels, channels, 1)
        self.last = InstanceNorm(channels, zero=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, I, J, K) -> same shape."""
        first = self.d1(x)
        third = self.d3(first)
        paths = (first, self.point(self.d3(x)), self.point(third), self.point(self.d5(third)))
        return x + self.last(sum(F.relu(path) for path in paths))


class PyramidBlock(nn.Module):
    """Atrous spatial pyramid pooling (Chen et al. 2017): the branches side by side, mixed by one 1x1x1
    convolution.
    """

    def __init__(
        self, channels: int, dilations: tuple[int, ...], kernel: tuple[int, int, int] = (3, 3, 3)
    ) -> None:
        super().__init__()
        inner = max(8, channels // 2)
        self.branches = nn.ModuleList(
            [
                ConvNorm(channels, inner, (1, 1, 1)),
                *(ConvNorm(channels, inner, kernel, dilation=d) for d in dilations),
            ]
        )
        self.mix = nn.Conv3d(inner * len(self.branches), channels, 1, bias=False)
        self.last = InstanceNorm(channels, zero=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, I, J, K) -> same shape."""
        return x + self.last(self.mix(torch.cat([branch(x) for branch in self.branches], dim=1)))


class PlainBlock(nn.Module):
    """A residual block of one scale with about as many weights as a CFB of the same width: the control of the
    ablation.
    """

    def __init__(
        self, channels: int, dilations: tuple[int, ...], kernel: tuple[int, int, int] = (3, 3, 3)
    ) -> None:
        super().__init__()
        inner = max(8, channels // 2)
        self.reduce = ConvNorm(channels, inner, (1, 1, 1))
        self.body = nn.Sequential(*(ConvNorm(inner, inner, kernel) for _ in dilations))
        self.expand = nn.Conv3d(inner, channels, 1, bias=False)
        self.last = InstanceNorm(channels, zero=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, I, J, K) -> same shape."""
        return x + self.last(self.expand(self.body(self.reduce(x))))


def context_block(
    kind: str, channels: int, dilations: tuple[int, ...], kernel: tuple[int, int, int]
) -> nn.Module:
    """The contextual block named `kind`.

    Raises:
        ValueError: unknown kind.
    """
    if kind == "dac":
        return DenseAtrousBlock(channels, kernel)
    kinds = {"cfb": ContextualFusionBlock, "aspp": PyramidBlock, "plain": PlainBlock}
    if kind not in kinds:
        raise ValueError(f"unknown contextual block {kind!r}: choose cfb, dac, aspp, plain or none")
    return kinds[kind](channels, dilations, kernel)
