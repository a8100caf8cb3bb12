"""A control: SLeM's collages with labels that were drawn anew for every sample, so that there is nothing to
learn.

What pre-training gives although its labels mean nothing (statistics of the input, a longer training) shows
here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from slem_app.network import SegmenterConfig
from slem_app.pretext.labelsets import draw_word
from slem_app.pretext.task import HeadView, Sample, Task
from slem_app.pretext.tasks.slem import Slem

__all__ = ["Placebo"]


@dataclass(frozen=True)
class Placebo(Task):
    """Collage classification by shuffled labels."""

    name: ClassVar[str] = "placebo"
    least: ClassVar[int] = 2

    slem: Slem = field(default_factory=Slem)
    """The collage."""

    def slots(self, sequences: int) -> int:
        return 1

    def refuse(self, shape: Sequence[int], present: np.ndarray) -> str:
        return self.slem.refuse(shape, present)

    def classes(self, sequences: int) -> list[list[int]]:
        return self.slem.classes(sequences)

    def sample(self, view: HeadView, rng: np.random.Generator, stride: int) -> Sample:
        inputs, targets = self.slem.sample(view, rng, stride)
        word = draw_word(
            self.slem.kind_for(view.present),
            self.slem.blocks,
            tuple(np.flatnonzero(view.present).tolist()),
            rng,
        )
        return Sample(inputs, {**targets, "word": torch.from_numpy(word)})

    def head(self, config: SegmenterConfig) -> nn.Module:
        return self.slem.head(config)

    def losses(
        self, outputs: Mapping[str, torch.Tensor], targets: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        return self.slem.losses(outputs, targets)

    def metrics(
        self, outputs: Mapping[str, torch.Tensor], targets: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        return self.slem.metrics(outputs, targets)

    def describe(self, sample: Sample, sequences: Sequence[str]) -> list[str]:
        return ["labels mean nothing", *self.slem.describe(sample, sequences)]
