"""Masked restoration: cubes are blanked in each sequence by itself, whole sequences are dropped, and all of
it is restored.

After M3AE (Liu et al., AAAI 2023, section 3.1 and eq. 1: min || F(S(x, masks)) - x ||^2, cubes of 16^3
blanked over all modalities together with whole modalities) and the block masking a modality of Vox-MMSD
(2025). Unlike M3AE a dropped sequence is a flag, which the fusion leaves out, and there is no test-time
optimised substitute image. The strong modern rival of a classification pretext.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from slem_app.errors import BadSetting
from slem_app.network import SegmenterConfig
from slem_app.pretext.heads import RestoreHead
from slem_app.pretext.restore import explained, masked_error
from slem_app.pretext.task import HeadView, Sample, Task

__all__ = ["Masked", "draw_mask"]


def draw_mask(
    shape: Sequence[int], sequences: int, cube: Sequence[int], share: float, rng: np.random.Generator
) -> np.ndarray:
    """(M, I, J, K) bool: cubes of `cube` voxels along I, J, K, the same share of them in every sequence,
    chosen for each by itself.
    """
    counts = [-(-n // side) for n, side in zip(shape, cube, strict=True)]
    total = int(np.prod(counts))
    blanked = np.argsort(rng.random((sequences, total)), axis=1) < round(share * total)
    whole = blanked.reshape(sequences, *counts)
    for axis, side in enumerate(cube, 1):
        whole = whole.repeat(side, axis=axis)
    return whole[:, : shape[0], : shape[1], : shape[2]]


@dataclass(frozen=True)
class Masked(Task):
    """Restoration of masked cubes.

    Raises:
        BadSetting: a value out of range.
    """

    name: ClassVar[str] = "masked"
    decodes: ClassVar[bool] = True

    cube: float = 24.0
    """mm of a cube's side: 16 voxels of 1.5 mm."""
    share: float = 0.75
    """Share of the cubes that is blanked, in each sequence."""
    drop: float = 0.25
    """Probability that a sequence is dropped whole; one always stays."""
    power: int = 2
    """2: squared error, as M3AE; 1: absolute."""

    def __post_init__(self) -> None:
        if self.cube <= 0 or not 0 < self.share < 1 or not 0 <= self.drop < 1 or self.power not in (1, 2):
            raise BadSetting(f"cube must be positive, share and drop between 0 and 1, power 1 or 2: {self}")

    def slots(self, sequences: int) -> int:
        return sequences

    def sample(self, view: HeadView, rng: np.random.Generator, stride: int) -> Sample:
        m = len(view.present)
        cube = [max(1, round(self.cube / mm)) for mm in view.spacing]
        mask = draw_mask(view.images.shape[1:], m, cube, self.share, rng)
        keep = view.present & (rng.random(m) >= self.drop)
        if not keep.any():
            keep[rng.choice(np.flatnonzero(view.present))] = True
        where = (mask | ~keep[:, None, None, None]) & view.tissue
        return Sample(
            {"images": torch.from_numpy(np.where(mask, 0, view.images)), "present": torch.from_numpy(keep)},
            {"truth": torch.from_numpy(view.images), "where": torch.from_numpy(where)},
        )

    def head(self, config: SegmenterConfig) -> nn.Module:
        return RestoreHead(config.channels[0], config.sequences, config.stem_stride)

    def losses(
        self, outputs: Mapping[str, torch.Tensor], targets: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Mean error over the voxels of the head that were hidden, dropped sequences included."""
        return masked_error(outputs["restored"], targets["truth"], targets["where"], self.power)

    def metrics(
        self, outputs: Mapping[str, torch.Tensor], targets: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """'score' the share of the hidden voxels' variance that is explained; 'chance' 0, their mean."""
        score = explained(outputs["restored"], targets["truth"], targets["where"])
        return {"score": score, "chance": torch.zeros_like(score)}

    def describe(self, sample: Sample, sequences: Sequence[str]) -> list[str]:
        kept = [name for name, here in zip(sequences, sample.inputs["present"].tolist(), strict=True) if here]
        return [f"{self.share:.0%} hidden", "of " + " ".join(kept)]
