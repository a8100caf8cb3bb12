"""The network of a pretext: the segmenter's own encoder, its decoder where the task restores, and the task's
head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import nn

from slem_app.errors import BadSetting
from slem_app.network import Decoder, Encoder, SegmenterConfig
from slem_app.predict import best_precision
from slem_app.pretext.task import NetworkMaps, Task

__all__ = ["PretextLosses", "PretextNetwork", "autocast"]


class PretextNetwork(nn.Module):
    """Weights named as in `Segmenter`: encoder.*, decoder.*; and head.*, which is the task's own.

    Args:
        task: what is learned.
        config: the segmenter that the encoder is meant for.

    Raises:
        BadSetting: a segmenter with prompt channels.
    """

    def __init__(self, task: Task, config: SegmenterConfig) -> None:
        super().__init__()
        if config.prompts:
            raise BadSetting(
                "prompts have no part in a pretext: set the recipe's network.prompts to 0, they are added in "
                "fine-tuning"
            )
        slots = task.slots(config.sequences)
        derived = config.differences if slots == config.sequences else ()  # one image has no difference
        self.encoder = Encoder(replace(config, sequences=slots, differences=derived))
        self.decoder = Decoder(config) if task.decodes else None
        self.head = task.head(config)

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """A batch of `Sample.inputs` -> the head's outputs."""
        maps = self.encoder(inputs["images"], inputs["present"])
        decoded = self.decoder(maps)[0] if self.decoder is not None else None
        return self.head(NetworkMaps(maps, decoded), inputs)


class PretextLosses(nn.Module):
    """Network, autocast and loss as one module: a batch of `Sample`s -> (N,) losses."""

    def __init__(self, network: PretextNetwork, task: Task, precision: str) -> None:
        super().__init__()
        self.network, self.task, self.precision = network, task, precision

    def forward(self, batch: tuple[Mapping[str, torch.Tensor], Mapping[str, torch.Tensor]]) -> torch.Tensor:
        inputs, targets = batch
        with autocast(inputs["images"].device, self.precision):
            outputs = self.network(inputs)
        return self.task.losses(outputs, targets)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which the network runs: 'bfloat16', 'float32' or 'auto'."""
    return torch.autocast(
        device.type,
        torch.bfloat16,
        enabled=(best_precision(device) if precision == "auto" else precision) == "bfloat16",
    )
