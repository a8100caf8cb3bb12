"""Convolution, norm and residual block: the parts that encoder, decoder and contextual block share."""

from __future__ import annotations

from typing import TypeVar, cast

import torch
from torch import nn
from torch.nn import functional as F

from slem_app.preemption import yield_point
from slem_app.types import triple

N = TypeVar("N", bound=nn.Module)

__all__ = ["ConvNorm", "InstanceNorm", "ResidualBlock", "SpaceToChannels", "channels_to_space"]


def channels_last(network: N, device: torch.device | str) -> N:
    """The network on a device, its weights in the memory order in which convolutions in 3D are fastest."""
    return network.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # not in torch's types


class InstanceNorm(nn.Module):
    """Instance norm with learned scale and shift; `zero` starts the scale at zero, so that a residual branch
    begins as nothing.

    torch's own layer folds samples into channels, which copies a channels-last map twice; a batch of one is
    the same as batch norm, which does not, and halves the time of a training step on a CPU.
    """

    def __init__(self, channels: int, zero: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels) if zero else torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, I, J, K) -> same shape."""
        if x.device.type != "cpu":
            return F.instance_norm(x, weight=self.weight, bias=self.bias)
        maps = [F.batch_norm(one, None, None, self.weight, self.bias, training=True) for one in x.split(1)]
        return maps[0] if len(maps) == 1 else torch.cat(maps)


class ConvNorm(nn.Sequential):
    """Convolution ('same' size at stride 1), norm, and leaky ReLU unless `act` is off."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: tuple[int, int, int] = (3, 3, 3),
        dilation: int = 1,
        act: bool = True,
        zero: bool = False,
    ) -> None:
        padding = triple(dilation * (k // 2) for k in kernel)
        layers = [
            nn.Conv3d(inputs, outputs, kernel, padding=padding, dilation=dilation, bias=False),
            InstanceNorm(outputs, zero),
        ]
        super().__init__(*layers, *([nn.LeakyReLU(0.01, inplace=True)] if act else []))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, I, J, K) -> (N, C', I, J, K)."""
        yield_point()
        return cast(torch.Tensor, super().forward(x))


class ResidualBlock(nn.Module):
    """Two convolutions around a shortcut (He et al. 2016, eq. 1); 1x1x1 shortcut where the
    channels change.
    """

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int, int] = (3, 3, 3)) -> None:
        super().__init__()
        self.first = ConvNorm(inputs, outputs, kernel)
        self.second = ConvNorm(outputs, outputs, kernel, act=False)
        self.shortcut = (
            nn.Identity() if inputs == outputs else ConvNorm(inputs, outputs, (1, 1, 1), act=False)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, I, J, K) -> (N, C', I, J, K)."""
        return F.leaky_relu(self.second(self.first(x)) + self.shortcut(x), 0.01, inplace=True)


class SpaceToChannels(nn.Module):
    """Fold each cube of `stride` voxels into channels: a stem at low resolution that drops nothing."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, I, J, K) -> (N, C s^3, I/s, J/s, K/s)."""
        n, c, i, j, k = x.shape
        s = self.stride
        x = x.reshape(n, c, i // s, s, j // s, s, k // s, s).permute(0, 1, 3, 5, 7, 2, 4, 6)
        return x.reshape(n, c * s**3, i // s, j // s, k // s)


def channels_to_space(x: torch.Tensor, stride: int) -> torch.Tensor:
    """(N, C s^3, I, J, K) -> (N, C, I s, J s, K s): the inverse of SpaceToChannels."""
    n, c, i, j, k = x.shape
    s = stride
    x = x.reshape(n, c // s**3, s, s, s, i, j, k).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return x.reshape(n, c // s**3, i * s, j * s, k * s)
