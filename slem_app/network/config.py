"""Settings of the segmenter: everything that decides its weights' names and shapes."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["SegmenterConfig"]


@dataclass(frozen=True)
class SegmenterConfig:
    """Shape of one SLeM segmenter.

    Raises:
        ValueError: a number out of range.
    """

    sequences: int = 4
    """M, slots for sequences, 1..8; which sequence has which slot is in the card."""
    regions: int = 3
    """R, sigmoid channels of the result."""
    channels: tuple[int, ...] = (24, 48, 96, 128)
    """Feature channels of each level, finest first; each level halves the resolution."""
    stem_channels: int = 12
    """Channels of the stem that every sequence passes with the same weights."""
    stem_stride: int = 2
    """Voxels of the input per voxel of the first level, along each axis."""
    blocks: tuple[int, ...] = (1, 1, 2, 2)
    """Residual blocks of each encoder level."""
    kernel: tuple[int, int, int] = (3, 3, 3)
    """Kernel of all spatial convolutions; (3, 3, 1) for thick slices along K."""
    context: str = "cfb"
    """Contextual block: 'cfb', 'dac', 'aspp', 'plain' (as many weights, one scale) or 'none'."""
    context_levels: tuple[int, ...] = (3,)
    """Levels whose encoder output passes a contextual block; len(channels) - 1 is the bottleneck."""
    context_dilations: tuple[int, ...] = (1, 2, 3)
    """Dilations of its parallel branches."""
    prompts: int = 0
    """P, prompt channels; they enter after the fusion of the sequences through a layer that starts at zero.
    """
    deep_supervision: int = 2
    """Coarser levels with a head of their own in training."""
    prior: float = 0.02
    """Share of foreground assumed at the start: sets the heads' bias."""
    differences: tuple[tuple[int, int], ...] = field(default=(), metadata={"younger": True})
    """Derived sequences, each (a, b): slot a minus slot b, voxel by voxel, there only where both are, e.g.
    T1c - T1. The network makes them itself and gives each a fusion slot behind the sequences' own.
    """

    def __post_init__(self) -> None:
        for name in ("channels", "blocks", "kernel", "context_levels", "context_dilations"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "differences", tuple(tuple(pair) for pair in self.differences))
        if not 1 <= self.sequences <= 8:
            raise ValueError(f"a segmenter takes 1 to 8 sequences, got {self.sequences}")
        if len(self.blocks) != len(self.channels) or len(self.channels) < 2:
            raise ValueError(
                f"channels {self.channels} and blocks {self.blocks} need one entry a level, at least two "
                f"levels"
            )
        if any(not 0 <= level < len(self.channels) for level in self.context_levels):
            raise ValueError(
                f"context_levels {self.context_levels} are not levels 0..{len(self.channels) - 1}"
            )
        if self.deep_supervision >= len(self.channels):
            raise ValueError(
                f"deep_supervision {self.deep_supervision} needs as many levels above the bottleneck"
            )
        if self.regions < 1 or self.stem_stride < 1 or self.prompts < 0 or not 0 < self.prior < 1:
            raise ValueError(
                "regions and stem_stride must be positive, prompts not negative, prior between 0 and 1"
            )

        self._check_differences()

    def _check_differences(self) -> None:
        for pair in self.differences:
            if len(set(pair)) != 2 or not set(pair) <= set(range(self.sequences)):
                raise ValueError(
                    f"differences {self.differences}: each names two different slots out of 0 to "
                    f"{self.sequences - 1}"
                )

    @property
    def slots(self) -> int:
        """Slots of the fusion: the sequences and what is derived from them."""
        return self.sequences + len(self.differences)

    @property
    def multiple(self) -> int:
        """Input sizes must be multiples of this many voxels."""
        return self.stem_stride * 2 ** (len(self.channels) - 1)
