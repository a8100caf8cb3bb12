"""SLeM and more, our own step beyond the paper: from the same collage (`slem`) or the same exchanged slots
(`slem_slots`) also every sequence at every voxel, through the decoder.

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
from slem_app.pretext.task import HeadView, NetworkMaps, Sample, Task
from slem_app.pretext.tasks.slem import Slem
from slem_app.pretext.tasks.slem_slots import SlemSlots

__all__ = ["SlemRestore", "SlemSlotsRestore"]


class _Both(nn.Module):
    """The collage's head and the restoring one."""

    def __init__(self, name: nn.Module, restore: nn.Module) -> None:
        super().__init__()
        self.name, self.restore = name, restore

    def forward(self, features: NetworkMaps, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {**self.name(features, inputs), **self.restore(features, inputs)}


@dataclass(frozen=True)
class Restoring(Task):
    """A task that names arrangements, with restoration. Abstract: subclasses give `slem` its type and
    default.

    Raises:
        BadSetting: a weight that is not positive.
    """

    least: ClassVar[int] = 2
    decodes: ClassVar[bool] = True

    weight: float = 2.0
    """Of the restoration."""
    slem: Slem | SlemSlots = field(default_factory=Slem)
    """The arrangement that is named."""

    def __post_init__(self) -> None:
        if self.weight <= 0:
            raise BadSetting(f"the weight of the restoration must be positive, got {self.weight:g}")

    def slots(self, sequences: int) -> int:
        return self.slem.slots(sequences)

    def refuse(self, shape: Sequence[int], present: np.ndarray) -> str:
        return self.slem.refuse(shape, present)

    def classes(self, sequences: int) -> list[list[int]]:
        return self.slem.classes(sequences)

    def sample(self, view: HeadView, rng: np.random.Generator, stride: int) -> Sample:
        inputs, targets = self.slem.sample(view, rng, stride)
        truth = {"truth": torch.from_numpy(view.images), "where": torch.from_numpy(view.tissue)}
        return Sample(inputs, {**targets, **truth})

    def head(self, config: SegmenterConfig) -> nn.Module:
        restore = RestoreHead(config.channels[0], config.sequences, config.stem_stride)
        return _Both(self.slem.head(config), restore)

    def losses(
        self, outputs: Mapping[str, torch.Tensor], targets: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        restoring = masked_error(outputs["restored"], targets["truth"], targets["where"], power=1)
        return self.slem.losses(outputs, targets) + self.weight * restoring

    def metrics(
        self, outputs: Mapping[str, torch.Tensor], targets: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Those of the naming task, and 'explained', the share of the sequences' variance that is
        restored.
        """
        shares = explained(outputs["restored"], targets["truth"], targets["where"])
        return {**self.slem.metrics(outputs, targets), "explained": shares}

    def confusion(
        self, outputs: Mapping[str, torch.Tensor], targets: Mapping[str, torch.Tensor]
    ) -> torch.Tensor | None:
        return self.slem.confusion(outputs, targets)

    def describe(self, sample: Sample, sequences: Sequence[str]) -> list[str]:
        return self.slem.describe(sample, sequences)


@dataclass(frozen=True)
class SlemRestore(Restoring):
    """Collage classification with restoration."""

    name: ClassVar[str] = "slem_restore"

    slem: Slem = field(default_factory=Slem)
    """The collage."""


@dataclass(frozen=True)
class SlemSlotsRestore(Restoring):
    """Naming of exchanged slots with restoration: stem, slots, trunk, block and decoder all carry over."""

    name: ClassVar[str] = "slem_slots_restore"

    slem: SlemSlots = field(default_factory=SlemSlots)
    """The exchange."""
