"""The SLeM segmenter: stem and fusion of the sequences, residual encoder, contextual fusion, decoder, one
sigmoid head a region.

The first level already lies at 1/stem_stride of the input's resolution, and the head unfolds its channels
into voxels again: full-resolution output at the cost of a network of half the resolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from slem_app.network.blocks import ConvNorm, ResidualBlock, SpaceToChannels, channels_to_space
from slem_app.network.config import SegmenterConfig
from slem_app.network.context import context_block
from slem_app.network.fusion import SequenceFusion, SequenceStem, with_differences, with_presence

__all__ = ["Decoder", "Encoder", "Segmenter", "build"]


class Encoder(nn.Module):
    """Stem, fusion, residual levels and contextual blocks: the part that a pretext task trains."""

    def __init__(self, config: SegmenterConfig) -> None:
        super().__init__()
        self.differences = config.differences
        self.stem = SequenceStem(config.stem_channels, config.stem_stride, config.kernel)
        self.fusion = SequenceFusion(config.slots, config.stem_channels, config.channels[0])
        self.prompt: nn.Module | None = None
        if config.prompts:
            mixed = nn.Conv3d(config.prompts * config.stem_stride**3, config.channels[0], 1, bias=True)
            nn.init.zeros_(mixed.weight)
            # the bias stays zero, so that prompts of all zero are the automatic use for ever
            mixed.bias = nn.Parameter(torch.zeros(config.channels[0]), requires_grad=False)
            self.prompt = nn.Sequential(SpaceToChannels(config.stem_stride), mixed)
        self.down = nn.ModuleList()
        self.levels = nn.ModuleList()
        for level, channels in enumerate(config.channels):
            before = config.channels[max(0, level - 1)]
            self.down.append(
                nn.Identity() if level == 0 else nn.Conv3d(before, channels, 2, stride=2, bias=False)
            )
            self.levels.append(
                nn.Sequential(
                    *(ResidualBlock(channels, channels, config.kernel) for _ in range(config.blocks[level]))
                )
            )
        self.context = nn.ModuleDict()
        if config.context != "none":
            for level in config.context_levels:
                self.context[str(level)] = context_block(
                    config.context, config.channels[level], config.context_dilations, config.kernel
                )

    def forward(
        self, images: torch.Tensor, present: torch.Tensor, prompts: torch.Tensor | None = None
    ) -> list[torch.Tensor]:
        """(N, M, I, J, K), (N, M) bool, (N, P, I, J, K) or None -> feature maps, finest first."""
        return self.levels_of(self.fuse(images, present), prompts)

    def fuse(self, images: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """(N, M, I, J, K), (N, M) bool -> (N, C, I/s, J/s, K/s): the sequences as one map, before
        any prompt.
        """
        return self.fuse_each(images, [present])[0]

    def fuse_each(self, images: torch.Tensor, presents: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """`fuse` for several answers to what is present; the stem, which does not depend on it, runs once."""
        if self.differences:
            images = with_differences(images, self.differences)
            presents = [with_presence(present, self.differences) for present in presents]
        n, m = images.shape[:2]
        features = self.stem(images.reshape(n * m, 1, *images.shape[2:]))  # NM C I/s J/s K/s
        features = features.reshape(n, m, *features.shape[1:])
        return [self.fusion(features, present) for present in presents]

    def levels_of(self, x: torch.Tensor, prompts: torch.Tensor | None = None) -> list[torch.Tensor]:
        """Fused (N, C, I/s, J/s, K/s), prompts (N, P, I, J, K) or None -> feature maps, finest first."""
        if self.prompt is not None and prompts is not None:
            x = x + self.prompt(prompts)
        x = x.contiguous(memory_format=torch.channels_last_3d)
        maps = []
        for level, (down, blocks) in enumerate(zip(self.down, self.levels, strict=True)):
            x = blocks(down(x))
            if str(level) in self.context:
                x = self.context[str(level)](x)
            maps.append(x)
        return maps


class Decoder(nn.Module):
    """Up from the bottleneck with skips; one residual step a level."""

    def __init__(self, config: SegmenterConfig) -> None:
        super().__init__()
        pairs = list(zip(config.channels[1:], config.channels[:-1], strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose3d(low, high, 2, stride=2, bias=False) for low, high in pairs)
        self.fuse = nn.ModuleList(ConvNorm(2 * high, high, config.kernel) for _, high in pairs)

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """Encoder maps, finest first -> decoder maps, finest first (without the bottleneck)."""
        x, outputs = maps[-1], []
        for level in reversed(range(len(self.up))):
            x = self.fuse[level](torch.cat([self.up[level](x), maps[level]], dim=1))
            outputs.append(x)
        return outputs[::-1]


class Segmenter(nn.Module):
    """Images of M sequences -> logits of R regions on the same voxels."""

    def __init__(self, config: SegmenterConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.head = nn.Conv3d(config.channels[0], config.regions * config.stem_stride**3, 1)
        self.deep_heads = nn.ModuleList(
            nn.Conv3d(config.channels[level], config.regions, 1)
            for level in range(1, 1 + config.deep_supervision)
            if level < len(config.channels) - 1
        )
        for head in (self.head, *self.deep_heads):
            nn.init.constant_(head.bias, math.log(config.prior / (1 - config.prior)))
            nn.init.normal_(head.weight, std=0.01)

    def forward(
        self, images: torch.Tensor, present: torch.Tensor, prompts: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Segment.

        Args:
            images: (N, M, I, J, K) normalised intensities, I, J, K multiples of `config.multiple`; anything
                where missing.
            present: (N, M) bool, at least one a row.
            prompts: (N, P, I, J, K) or None for automatic use, which equals all zero.

        Returns:
            (N, R, I, J, K) logits.

        Raises:
            ValueError: a size that is no multiple or too small, another number of sequences, flags or prompts
                that do not fit.
        """
        return self.deep(images, present, prompts)[0]

    def deep(
        self, images: torch.Tensor, present: torch.Tensor, prompts: torch.Tensor | None = None
    ) -> list[torch.Tensor]:
        """Logits at full resolution, then those of the coarser heads (each half the size of the one before),
        for training.
        """
        self._check(images, present, prompts)
        return self._heads(self.encoder(images, present, prompts))

    def fuse(self, images: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """What of a pass does not depend on prompts, for reuse: (N, C, I/s, J/s, K/s), to be cropped at
        multiples of s.
        """
        return self.encoder.fuse(images, present)

    def fuse_each(self, images: torch.Tensor, presents: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """`fuse` of the same images for several answers to what is present, at less than the cost of each by
        itself.
        """
        return self.encoder.fuse_each(images, presents)

    def deep_fused(self, fused: torch.Tensor, prompts: torch.Tensor | None = None) -> list[torch.Tensor]:
        """`deep` from what `fuse` gave, or from a crop of it whose voxels (times s) are multiples of
        `config.multiple`.
        """
        if any(n * self.config.stem_stride % self.config.multiple for n in fused.shape[2:]):
            raise ValueError(
                f"a fused map of {tuple(fused.shape[2:])} must have sizes that are multiples of "
                f"{self.config.multiple // self.config.stem_stride}"
            )
        return self._heads(self.encoder.levels_of(fused, prompts))

    def decoded(self, fused: torch.Tensor) -> torch.Tensor:
        """The finest feature maps behind the logits, without prompts: (N, C, I/s, J/s, K/s) from what `fuse`
        gave or a crop as for `deep_fused`.
        """
        return self.decoder(self.encoder.levels_of(fused))[0]

    def logits(self, decoded: torch.Tensor) -> torch.Tensor:
        """(N, R, I, J, K) from what `decoded` gave."""
        return channels_to_space(self.head(decoded), self.config.stem_stride)

    def _heads(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        maps = self.decoder(maps)
        return [self.logits(maps[0]), *(head(maps[level]) for level, head in enumerate(self.deep_heads, 1))]

    def _check(self, images: torch.Tensor, present: torch.Tensor, prompts: torch.Tensor | None) -> None:
        m, multiple = self.config.sequences, self.config.multiple
        sizes = tuple(images.shape[2:])
        if (
            images.ndim != 5
            or images.shape[1] != m
            or any(n % multiple or n == 0 for n in sizes)
            or all(n == multiple for n in sizes)
        ):
            raise ValueError(
                f"images of shape {tuple(images.shape)}: (N, {m}, I, J, K) is needed, with sizes that are "
                f"multiples of {multiple}, one of them at least {2 * multiple}"
            )
        if present.shape != images.shape[:2] or present.dtype != torch.bool:
            raise ValueError(
                f"present of shape {tuple(present.shape)}, {present.dtype}: bool of shape "
                f"{tuple(images.shape[:2])} is needed"
            )
        if prompts is not None and prompts.shape != (len(images), self.config.prompts, *sizes):
            raise ValueError(
                f"prompts of shape {tuple(prompts.shape)}: {(len(images), self.config.prompts, *sizes)} is "
                "needed, one channel a kind of prompt"
            )


def build(config: SegmenterConfig) -> Segmenter:
    """The segmenter that `config` describes, with fresh weights."""
    return Segmenter(config)
