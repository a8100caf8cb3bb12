"""The first of deepbet's two networks: it looks at a whole head in 128 x 128 x 128 voxels (Fisch et al.,
Computers in Biology and Medicine 2024). A LinkNet (Chaurasia and Culurciello, VCIP 2017) in three dimensions;
layers and their names are those of deepbet 1.0.2, so that its weights fit.
"""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["SIDE", "LinkNet"]

SIDE = 128  # voxels along each side of what it sees


class LinkNet(nn.Module):
    """(B, 1, 128, 128, 128) image -> (B, 2, 128, 128, 128) probabilities of background and brain."""

    def __init__(self) -> None:
        super().__init__()
        self.init = nn.Sequential(
            nn.Conv3d(1, 16, 7, stride=2, padding=3, bias=False),
            nn.InstanceNorm3d(16),
            nn.ReLU(),
            nn.MaxPool3d(3, stride=2, padding=1),
        )
        self.down0, self.down1 = _Down(16, 16, 1), _Down(16, 32, 2)
        self.down2, self.down3 = _Down(32, 64, 2), _Down(64, 128, 2)
        self.up0, self.up1 = _Up(128, 64, 2), _Up(64, 32, 2)
        self.up2, self.up3 = _Up(32, 16, 2), _Up(16, 16, 1)
        self.tp_conv1 = nn.Sequential(
            nn.ConvTranspose3d(16, 8, 3, stride=2, padding=1, output_padding=1),
            nn.InstanceNorm3d(8),
            nn.ReLU(),
        )
        self.conv = nn.Sequential(nn.Conv3d(8, 8, 3, padding=1), nn.InstanceNorm3d(8), nn.ReLU())
        self.tp_conv2 = nn.ConvTranspose3d(8, 2, 2, stride=2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        first = self.init(image)
        half = self.down0(first)
        quarter = self.down1(half)
        eighth = self.down2(quarter)
        now = self.up0(self.down3(eighth)) + eighth
        now = self.up1(now) + quarter
        now = self.up2(now) + half
        now = self.up3(now) + first
        return torch.softmax(self.tp_conv2(self.conv(self.tp_conv1(now))), 1)


class _Down(nn.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.block1 = _Block(before, after, stride)
        self.block2 = _Block(after, after, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.block2(self.block1(image))


class _Block(nn.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv3d(before, after, 3, stride=stride, padding=1, bias=False),
            nn.InstanceNorm3d(after),
            nn.ReLU(),
            nn.Conv3d(after, after, 3, padding=1, bias=False),
            nn.InstanceNorm3d(after),
        )
        self.downsample: nn.Module = nn.Identity()
        if before != after:
            self.downsample = nn.Sequential(
                nn.Conv3d(before, after, 1, stride=stride, bias=False), nn.InstanceNorm3d(after)
            )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.double_conv(image) + self.downsample(image))


class _Up(nn.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        middle = before // 4
        self.conv1 = nn.Sequential(
            nn.Conv3d(before, middle, 1, bias=False), nn.InstanceNorm3d(middle), nn.ReLU()
        )
        self.tp_conv = nn.Sequential(
            nn.ConvTranspose3d(
                middle, middle, 3, stride=stride, padding=1, output_padding=stride - 1, bias=False
            ),
            nn.InstanceNorm3d(middle),
            nn.ReLU(),
        )
        self.conv2 = nn.Sequential(
            nn.Conv3d(middle, after, 1, bias=False), nn.InstanceNorm3d(after), nn.ReLU()
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.conv2(self.tp_conv(self.conv1(image)))
