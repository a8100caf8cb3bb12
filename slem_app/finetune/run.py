"""One whole fine-tuning: from cached cases to a saved model. Started by the command line and by torchrun
alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from slem_app.errors import BadWeights
from slem_app.finetune.loop import train
from slem_app.finetune.recipe import FinetuneRecipe
from slem_app.network import Segmenter, build, flops, parameters
from slem_app.training import (
    device_of_this_process,
    first_process,
    first_process_first,
    join_processes,
    leave_processes,
)
from slem_app.volumes.cache import CaseCache
from slem_app.weights import Card, Model, Pretrained, save_model
from slem_app.weights.store import LARGEST
from slem_app.weights.transfer import PARTS, transfer

__all__ = [
    "cost",
    "device_of_this_process",
    "finetune",
    "first_process",
    "first_process_first",
    "join_processes",
    "leave_processes",
]


def finetune(
    recipe: FinetuneRecipe,
    cache: CaseCache,
    ids: Sequence[str],
    folder: Path,
    parent: Model | Pretrained | None = None,
    device: str = "cpu",
    workers: int = 0,
    progress: bool = True,
) -> Card:
    """Train a model and save it to `folder`/model; the run itself (checkpoint, settings, curves) lies in
    `folder`.

    Args:
        recipe: card and settings.
        cache: prepared cases.
        ids: those to train on.
        folder: of the run; an unfinished run found there is continued.
        parent: a model to go on from, or a pre-trained encoder to take over; None starts from the seed.
        device: torch device of this process.
        workers: loader processes.
        progress: show a bar.

    Returns:
        The card as saved.

    Raises:
        BadWeights: the parent's network does not fit the recipe's, or the network is too large for a weight
            file.
        See also `train`.
    """
    torch.manual_seed(recipe.settings.seed)
    network = build(recipe.card.network)
    if 2 * parameters(network) > LARGEST:
        raise BadWeights(
            f"a network of {parameters(network):,} weights makes a file above {LARGEST / 2**20:.0f} MiB: "
            f"use fewer channels"
        )
    decoder = False
    if isinstance(parent, Pretrained):
        taken = transfer(parent, network, recipe.card.sequences, recipe.settings.fresh).taken
        decoder = any(name.startswith(PARTS["decoder"]) for name in taken)
    elif parent is not None:
        _take_over(parent, network)
    trained = train(
        network,
        cache,
        ids,
        recipe.settings,
        folder,
        device,
        workers,
        progress,
        labels=recipe.card.labels,
        mirrors=recipe.card.mirrors,
        sequences=recipe.card.sequences,
        decoder=decoder,
    )
    if isinstance(parent, Model) and not parent.card.network.prompts:
        keep(parent, trained, recipe.settings.interact.kept)
    steps, batch = recipe.settings.steps, recipe.settings.batch
    card = replace(
        recipe.card,
        parent=f"{parent.card.name} {parent.card.version}" if parent else recipe.card.parent,
        figures={**recipe.card.figures, **cost(trained, recipe.settings.patch)},
        training=recipe.card.training
        or (
            f"{len(set(ids))} cases, {steps} steps of {batch} patches, seed {recipe.settings.seed}, torch "
            f"{torch.__version__}"
        ),
    )
    return save_model(folder / "model", card, trained) if first_process() else card


def keep(parent: Model, network: Segmenter, kept: float) -> None:
    """Take back the share 1 - `kept` of what training changed in the weights that the parent has too
    (`network` is changed in place).
    """
    state = network.state_dict()
    device = next(iter(state.values())).device
    own = {name: tensor.to(device) for name, tensor in parent.network.state_dict().items()}
    network.load_state_dict(
        {**state, **{name: before + kept * (state[name] - before) for name, before in own.items()}}
    )


def cost(network: Segmenter, shape: tuple[int, int, int]) -> dict[str, float]:
    """What the network costs, as the card's figures tell it."""
    size = "x".join(map(str, shape))
    return {
        "million weights": round(parameters(network) / 1e6, 3),
        f"GFLOP a pass over {size} voxels": round(flops(network, shape) / 1e9, 1),
    }


def _take_over(parent: Model, network: Segmenter) -> None:
    """All weights of the parent; prompt channels that it does not have stay zero, which changes nothing until
    they learn.

    Raises:
        BadWeights: the networks differ in more than that.
    """
    config = network.config
    without = (
        replace(parent.card.network, prompts=config.prompts)
        if not parent.card.network.prompts
        else parent.card.network
    )
    if without != config:
        raise BadWeights(
            f"{parent.card.name} has another network than the recipe: {parent.card.network} instead of "
            f"{config}"
        )
    network.load_state_dict({**network.state_dict(), **parent.network.state_dict()})
