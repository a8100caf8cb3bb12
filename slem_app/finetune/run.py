"""One whole fine-tuning: from cached cases to a saved model. Started by the command line and by torchrun alike."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import distributed

from slem_app.errors import BadSetting, BadWeights
from slem_app.finetune.loop import train
from slem_app.finetune.recipe import Recipe
from slem_app.network import build, parameters
from slem_app.volumes.cache import CaseCache
from slem_app.weights import Card, Model, save_model
from slem_app.weights.store import LARGEST

__all__ = ["device_of_this_process", "finetune", "first_process", "first_process_first", "join_processes", "leave_processes"]


def finetune(
    recipe: Recipe,
    cache: CaseCache,
    ids: Sequence[str],
    folder: Path,
    parent: Model | None = None,
    device: str = "cpu",
    workers: int = 0,
    progress: bool = True,
) -> Card:
    """Train a model and save it to `folder`/model; the run itself (checkpoint, settings, curves) lies in `folder`.

    Args:
        recipe: card and settings.
        cache: prepared cases.
        ids: those to train on.
        folder: of the run; an unfinished run found there is continued.
        parent: weights to start from; None starts from the seed.
        device: torch device of this process.
        workers: loader processes.
        progress: show a bar.

    Returns:
        The card as saved.

    Raises:
        BadWeights: the parent's network differs from the recipe's, or the network is too large for a weight file.
        See also `train`.
    """
    torch.manual_seed(recipe.settings.seed)
    network = build(recipe.card.network)
    if 2 * parameters(network) > LARGEST:
        raise BadWeights(f"a network of {parameters(network):,} weights makes a file above {LARGEST / 2**20:.0f} MiB: use fewer channels")
    if parent is not None:
        if parent.card.network != recipe.card.network:
            raise BadWeights(f"{parent.card.name} has another network than the recipe: {parent.card.network} instead of {recipe.card.network}")
        network.load_state_dict(parent.network.state_dict())
    trained = train(network, cache, ids, recipe.settings, folder, device, workers, progress)
    steps, batch = recipe.settings.steps, recipe.settings.batch
    card = replace(
        recipe.card,
        parent=f"{parent.card.name} {parent.card.version}" if parent else recipe.card.parent,
        training=recipe.card.training or f"{len(set(ids))} cases, {steps} steps of {batch} patches, seed {recipe.settings.seed}, torch {torch.__version__}",
    )
    return save_model(folder / "model", card, trained) if first_process() else card


def join_processes(device: str) -> None:
    """Join the processes that torchrun started, if it did: NCCL on GPUs, gloo on CPUs."""
    if device.startswith("cuda"):
        torch.cuda.set_device(device)  # NCCL talks over the current GPU, which is the first one of all until told otherwise
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")


def leave_processes() -> None:
    """Part from them again."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def first_process() -> bool:
    """True in the process that writes and prints, and where there is only one."""
    return not distributed.is_initialized() or distributed.get_rank() == 0


@contextmanager
def first_process_first() -> Iterator[None]:
    """Let rank 0 pass before the others, so that what it writes to a shared disk is there for them."""
    alone = not distributed.is_initialized()
    if not alone and distributed.get_rank() > 0:
        distributed.barrier()
    yield
    if not alone and distributed.get_rank() == 0:
        distributed.barrier()


def device_of_this_process(device: str) -> str:
    """'auto' -> this process's own GPU, else the CPU; 'cuda' -> its own GPU; anything else as it is.

    Raises:
        BadSetting: no such device here.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device in ("auto", "cuda"):
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if count or device == "cuda" else "cpu"
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise BadSetting(f"unknown device {device!r}: use auto, cpu, cuda or cuda:N") from error
    if found.type == "cuda" and (found.index or 0) >= count:
        raise BadSetting(f"there is no device {device}: torch sees {count} GPUs here; use auto or cpu")
    return device
