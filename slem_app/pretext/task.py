"""What a pretext task is: from one unlabelled case to inputs and targets, a head on the encoder, a loss and a
metric.

A task is a frozen dataclass whose fields are its options. All tasks see the same views of the same cached
cases, train the same encoder and pass through the same loop, so that only the task differs between them.
Random numbers come from the generator that is given.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import nn

from slem_app.network import SegmenterConfig
from slem_app.volumes.cache import CachedCase

__all__ = ["HeadView", "NetworkMaps", "Sample", "Task"]


@dataclass(frozen=True, eq=False)
class HeadView:
    """One whole head, cut or padded to a fixed size, before a task does anything to it."""

    images: np.ndarray
    """(M, I, J, K) float32: mean 0, sd 1 in the head, 0 outside and where a sequence is missing."""
    present: np.ndarray
    """(M,) bool."""
    spacing: tuple[float, float, float] = (1.5, 1.5, 1.5)
    """mm of a voxel along I, J, K."""
    notes: np.ndarray | None = None
    """(I, J, K) int32, what the task's `annotate` made, seen from the same side; None where it makes nothing.
    """

    @property
    def tissue(self) -> np.ndarray:
        """(M, I, J, K) bool: where each sequence shows something."""
        return self.images != 0


class Sample(NamedTuple):
    """What the loader hands on; default collation stacks every tensor."""

    inputs: dict[str, torch.Tensor]
    """'images' (slots, I, J, K) float32, 'present' (slots,) bool, and what the head needs."""
    targets: dict[str, torch.Tensor]
    """What the loss and the metric need."""


class NetworkMaps(NamedTuple):
    """What a head may look at."""

    maps: list[torch.Tensor]
    """Encoder maps, finest first, the last one is the bottleneck: (N, C, i, j, k)."""
    decoded: torch.Tensor | None
    """The decoder's finest map, (N, C, i, j, k), for tasks that train it."""


class Task(ABC):
    """A self-supervised task. Subclasses are final frozen dataclasses; `name` is their file's."""

    name: ClassVar[str]
    decodes: ClassVar[bool] = False
    """True where the task trains the decoder too."""
    annotates: ClassVar[bool] = False
    """True where `annotate` makes something that is kept beside the cached case."""
    least: ClassVar[int] = 1
    """Sequences that a case needs: 2 where the task is to tell them apart."""

    @abstractmethod
    def slots(self, sequences: int) -> int:
        """Slots of the encoder for a data set of `sequences` sequences: 1 for a task on one image, else one
        each.
        """

    @abstractmethod
    def sample(self, view: HeadView, rng: np.random.Generator, stride: int) -> Sample:
        """Make one sample.

        Args:
            view: one head.
            rng: for every choice.
            stride: voxels of the input per voxel of the bottleneck.
        """

    @abstractmethod
    def head(self, config: SegmenterConfig) -> nn.Module:
        """A module whose forward takes (Features, inputs) and gives the outputs; `config` is the
        segmenter's.
        """

    @abstractmethod
    def losses(
        self, outputs: Mapping[str, torch.Tensor], targets: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """(N,) float32, one loss a sample."""

    @abstractmethod
    def metrics(
        self, outputs: Mapping[str, torch.Tensor], targets: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """(N,) figures a sample; 'score' is the one that counts, higher is better, and 'chance' is what blind
        guessing gives.
        """

    @abstractmethod
    def describe(self, sample: Sample, sequences: Sequence[str]) -> list[str]:
        """The sample's class or target in words, for the picture of samples."""

    def refuse(self, shape: Sequence[int], present: np.ndarray) -> str:
        """Why a case of this size (I, J, K) and these sequences cannot be used, or ''."""
        return ""

    def annotate(self, case: CachedCase) -> np.ndarray | None:
        """(I, J, K) int32 made once a case and kept in the cache, or None."""
        return None

    def classes(self, sequences: int) -> list[list[int]]:
        """The table of classes, kept with the checkpoint; empty where there is none or it is too long to
        list.
        """
        return []

    def confusion(
        self, outputs: Mapping[str, torch.Tensor], targets: Mapping[str, torch.Tensor]
    ) -> torch.Tensor | None:
        """(M, M) counts, true sequence by named sequence, for tasks that name sequences."""
        return None
