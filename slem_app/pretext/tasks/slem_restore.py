"""SLeM and more, our own step beyond the paper: from the same collage also every sequence at every voxel,
through the decoder.

Naming the arrangement is a global task; telling from a T1 block what the FLAIR shows there is a dense one,
and it trains the decoder that the segmentation uses. L = L_class (`slem`) + weight * mean |restored - x| over
the head and the sequences that the case has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from slem_app.errors import BadSetting
from slem_app.network import SegmenterConfig
from slem_app.pretext.heads import RestoreHead
from slem_app.pretext.restore import explained, masked_error
from slem_app.pretext.task import Features, Sample, Task, View
from slem_app.pretext.tasks.slem import Slem

__all__ = ["SlemRestore"]


class _Both(nn.Module):
    """The collage's head and the restoring one."""

    def __init__(self, name: nn.Module, restore: nn.Module) -> None:
        super().__init__()
        self.name, self.restore = name, restore

    def forward(self, features: Features, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {**self.name(features, inputs), **self.restore(features, inputs)}


@dataclass(frozen=True)
class SlemRestore(Task):
    """Collage classification with restoration.

    Raises:
        BadSetting: a weight that is not positive.
    """

    name: ClassVar[str] = "slem_restore"
    least: ClassVar[int] = 2
    decodes: ClassVar[bool] = True

    weight: float = 2.0
    """Of the restoration."""
    slem: Slem = field(default_factory=Slem)
    """The collage."""

    def __post_init__(self) -> None:
        if self.weight <= 0:
            raise BadSetting(f"the weight of the restoration must be positive, got {self.weight:g}")

    def slots(self, sequences: int) -> int:
        return 1

    def refuse(self, shape: Sequence[int], present: np.ndarray) -> str:
        return self.slem.refuse(shape, present)

    def classes(self, sequences: int) -> list[list[int]]:
        return self.slem.classes(sequences)

    def sample(self, view: View, rng: np.random.Generator, stride: int) -> Sample:
        inputs, targets = self.slem.sample(view, rng, stride)
        return Sample(
            inputs,
            {**targets, "truth": torch.from_numpy(view.images), "where": torch.from_numpy(view.tissue)},
        )

    def head(self, config: SegmenterConfig) -> nn.Module:
        return _Both(
            self.slem.head(config), RestoreHead(config.channels[0], config.sequences, config.stem_stride)
        )

    def losses(
        self, outputs: Mapping[str, torch.Tensor], targets: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        restoring = masked_error(outputs["restored"], targets["truth"], targets["where"], power=1)
        return self.slem.losses(outputs, targets) + self.weight * restoring

    def metrics(
        self, outputs: Mapping[str, torch.Tensor], targets: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Those of `slem`, and 'explained', the share of the sequences' variance that is restored."""
        return {
            **self.slem.metrics(outputs, targets),
            "explained": explained(outputs["restored"], targets["truth"], targets["where"]),
        }

    def confusion(
        self, outputs: Mapping[str, torch.Tensor], targets: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        return self.slem.confusion(outputs, targets)

    def describe(self, sample: Sample, sequences: Sequence[str]) -> list[str]:
        return self.slem.describe(sample, sequences)
