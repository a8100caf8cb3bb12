"""Heads of the pretext tasks. They keep where a block lies: a head that averages over the whole map cannot
tell arrangements apart.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from slem_app.network.blocks import channels_to_space
from slem_app.pretext.task import NetworkMaps

__all__ = ["BlockHead", "RestoreHead", "TileHead", "WordHead", "pool_blocks"]


def pool_blocks(feature_map: torch.Tensor, coverage: torch.Tensor) -> torch.Tensor:
    """Mean features of each block.

    Args:
        feature_map: (N, C, i, j, k).
        coverage: (N, B, i, j, k) share of each voxel that is in the block.

    Returns:
        (N, B, C), zero for a block that covers nothing.
    """
    share = coverage.to(feature_map.dtype)
    total = torch.einsum("ncijk,nbijk->nbc", feature_map, share)
    return total / share.sum(dim=(2, 3, 4)).clamp_min(1e-6)[..., None]


class BlockHead(nn.Module):
    """One 1x1 convolution that names the sequence of every block: pooling first and projecting then is the
    same, being linear.
    """

    def __init__(self, channels: int, sequences: int) -> None:
        super().__init__()
        self.project = nn.Linear(channels, sequences)

    def forward(self, features: NetworkMaps, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """'blocks': (N, B, M) logits."""
        return {"blocks": self.project(pool_blocks(features.maps[-1], inputs["coverage"]))}


class WordHead(nn.Module):
    """A perceptron over all blocks' features that names the class at once."""

    def __init__(self, channels: int, blocks: int, classes: int, hidden: int = 256) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(1), nn.Linear(blocks * channels, hidden), nn.ReLU(), nn.Linear(hidden, classes)
        )

    def forward(self, features: NetworkMaps, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """'words': (N, classes) logits."""
        return {"words": self.layers(pool_blocks(features.maps[-1], inputs["coverage"]))}


class TileHead(nn.Module):
    """One fully connected layer over the tiles' features, in the order of their places."""

    def __init__(self, channels: int, tiles: int, outputs: int) -> None:
        super().__init__()
        self.project = nn.Linear(tiles * channels, outputs)

    def forward(self, features: NetworkMaps, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """'tiles': (N, outputs) logits."""
        return {"tiles": self.project(pool_blocks(features.maps[-1], inputs["coverage"]).flatten(1))}


class RestoreHead(nn.Module):
    """Every sequence at every voxel, from the decoder's finest map."""

    def __init__(self, channels: int, sequences: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.project = nn.Conv3d(channels, sequences * stride**3, 1)

    def forward(self, features: NetworkMaps, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """'restored': (N, M, I, J, K)."""
        return {"restored": channels_to_space(self.project(features.decoded), self.stride)}
