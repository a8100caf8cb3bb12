"""Supervised training: the shared loop over patches, with the region heads' loss; how fast each part of the
network learns.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import torch
from torch import nn

from slem_app.errors import BadSetting
from slem_app.finetune.interact import InteractiveLosses
from slem_app.finetune.losses import deep_loss
from slem_app.finetune.pairs import PairedLosses
from slem_app.finetune.patches import Patches, Varied
from slem_app.finetune.settings import FinetuneSettings
from slem_app.finetune.soup import Soup
from slem_app.labels import LabelSet
from slem_app.network import Segmenter
from slem_app.predict import best_precision
from slem_app.training import State, TrainingFailed, fit, ranks
from slem_app.volumes.cache import CaseCache
from slem_app.weights.transfer import PARTS

__all__ = ["TrainingFailed", "train"]

# what a pretext trains and a freeze stops, with the decoder where it trained one; the fusion must fit anew
TRUNK = ("stem", "levels", "context")


def train(
    network: Segmenter,
    cache: CaseCache,
    ids: Sequence[str],
    settings: FinetuneSettings,
    folder: Path,
    device: str = "cpu",
    workers: int = 0,
    progress: bool = True,
    on_checkpoint: Callable[[int, Segmenter], bool | None] | None = None,
    labels: LabelSet | None = None,
    mirrors: Sequence[int] = (0, 1, 2),
    sequences: Sequence[str] = (),
    decoder: bool = False,
) -> Segmenter:
    """Train `network` and return the moving average of its weights.

    Under torchrun every process calls this; the global batch is split among them and rank 0 writes.

    Args:
        network: fresh or pre-trained, trained in place.
        cache: prepared cases.
        ids: those to train on.
        settings: of the run.
        folder: for checkpoint.pt, settings.json and TensorBoard; a checkpoint found there is continued.
        device: torch device of this process.
        workers: loader processes.
        progress: show a bar with the time left.
        on_checkpoint: called by rank 0 with the step and the averaged network after each checkpoint; where it
            returns True training stops.
        labels: the model's; needed only for training with a simulated reader.
        mirrors: the card's.
        sequences: the card's, in the order of the slots; needed where settings name some.
        decoder: the network's decoder is pre-trained too, so a freeze and the trunk's rates are for it as
            well.

    Raises:
        BadSetting: the folder holds a run with other settings, the batch does not split among the processes,
            or a patch that the network cannot take.
        BadStudy: no case to train on.
        BadWeights: the checkpoint is damaged.
        StorageFailed: the disk refused a checkpoint.
        TrainingFailed: the loss became NaN.
    """
    _check(settings, network, ranks()[1])
    trunk = _trunk(network, settings, decoder)
    state = State(
        folder, {**dataclasses.asdict(settings), "cases": sorted(ids)}, dataclasses.asdict(FinetuneSettings())
    )
    probe = settings.frozen >= 1
    for parameter in trunk.values():
        parameter.requires_grad_(not probe)

    def freeze(step: int) -> None:
        if step < settings.frozen * settings.steps:
            for parameter in trunk.values():
                parameter.grad = None

    patches = Patches(cache, sorted(ids), settings, mirrors)
    losses: nn.Module
    if settings.interact.share:
        losses = _interactive(network, labels, patches, settings)
    else:
        losses = _automatic(network, sequences, settings)
    soup = Soup(folder, settings.steps, settings.soup) if settings.soup else None

    def checkpointed(step: int, averaged: nn.Module) -> bool | None:
        if soup is not None:
            soup.add(step, averaged)
        return on_checkpoint(step, cast(Segmenter, averaged)) if on_checkpoint is not None else None

    outcome = fit(
        network,
        Varied(patches, losses),
        patches,
        settings,
        state,
        device,
        workers,
        progress,
        factor=_factors(network, settings, trunk),
        on_gradients=freeze if settings.frozen and not probe else None,
        on_checkpoint=checkpointed,
        unused=network.config.prompts > 0,
    )
    if soup is not None and ranks()[0] == 0:
        soup.into(outcome.network)
    return cast(Segmenter, outcome.network.requires_grad_(True))


def _check(settings: FinetuneSettings, network: Segmenter, world: int) -> None:
    config = network.config
    if settings.batch % world:
        raise BadSetting(f"batch {settings.batch} does not split evenly among {world} processes")
    if any(n % config.multiple for n in settings.patch) or max(settings.patch) < 2 * config.multiple:
        raise BadSetting(
            f"patch {settings.patch}: this network takes multiples of {config.multiple} voxels, one of "
            f"them at least {2 * config.multiple}"
        )
    if len(settings.deep_weights) <= len(network.deep_heads):
        raise BadSetting(
            f"deep_weights {settings.deep_weights}: this network has {1 + len(network.deep_heads)} heads, "
            "each needs a weight"
        )


class _Losses(nn.Module):
    """Network and loss as one module, since DistributedDataParallel wraps a forward: a batch of varied
    patches -> (1,).
    """

    def __init__(self, network: Segmenter, weights: Sequence[float]) -> None:
        super().__init__()
        self.network, self.weights = network, weights

    def forward(self, batch: Sequence[torch.Tensor]) -> torch.Tensor:
        images, present, regions, _ = batch
        with torch.autocast(
            images.device.type, torch.bfloat16, enabled=best_precision(images.device) == "bfloat16"
        ):
            outputs = self.network.deep(images, present)
        return deep_loss(outputs, regions, self.weights)[None]


def _automatic(network: Segmenter, sequences: Sequence[str], settings: FinetuneSettings) -> nn.Module:
    if settings.pairs.on:
        return PairedLosses(network, sequences, settings)
    return _Losses(network, settings.deep_weights)


def _interactive(
    network: Segmenter, labels: LabelSet | None, patches: Patches, settings: FinetuneSettings
) -> InteractiveLosses:
    if labels is None:
        raise BadSetting("interact.share is set: training with a simulated reader needs the model's labels")
    return InteractiveLosses(network, labels, patches.spacing, settings)


def _trunk(network: Segmenter, settings: FinetuneSettings, decoder: bool = False) -> dict[str, nn.Parameter]:
    """The weights that a freeze and the trunk's rates are about, by name."""
    parts = (*TRUNK, "decoder") if decoder else TRUNK
    beginnings = tuple(prefix for part in parts if part not in settings.fresh for prefix in PARTS[part])
    return {name: parameter for name, parameter in network.named_parameters() if name.startswith(beginnings)}


def _factors(
    network: Segmenter, settings: FinetuneSettings, trunk: dict[str, nn.Parameter]
) -> Callable[[str], float] | None:
    """Factor of the learning rate by a weight's name; None where all are 1."""
    reader = settings.interact
    if settings.encoder_rate == 1 and settings.layer_decay == 1 and not reader.share:
        return None
    levels = len(network.config.channels)

    def factor(name: str) -> float:
        if name.startswith("encoder.prompt."):
            return reader.rate if reader.share else 1.0
        if name not in trunk:
            return 1.0
        if name.startswith(PARTS["decoder"]):
            return settings.encoder_rate
        part, level = name.split(".")[1:3]
        # the bottleneck is one below the decoder
        below = levels + 1 if part == "stem" else levels - int(level)
        return settings.encoder_rate * settings.layer_decay**below

    return factor
