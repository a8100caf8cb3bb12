"""One whole training of an editor: from cached cases to a saved one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from slem_app.errors import BadSetting
from slem_app.finetune.editing.losses import CorrectionLosses
from slem_app.finetune.editing.samples import EditingSamples
from slem_app.finetune.editing.settings import EditorRecipe, EditorSettings
from slem_app.finetune.editing.starts import Starts
from slem_app.labels import LabelSet
from slem_app.network import EditorNetwork, parameters
from slem_app.training import State, fit
from slem_app.weights.editor import EditorCard, EditorModel, save_editor

__all__ = ["train_editor"]


def train_editor(
    recipe: EditorRecipe,
    starts: Starts,
    ids: Sequence[str],
    labels: LabelSet,
    folder: Path,
    device: str = "cpu",
    workers: int = 0,
    progress: bool = True,
    parent: EditorModel | None = None,
) -> EditorCard:
    """Train an editor and save it to `folder`/editor; an unfinished run in `folder` is continued.

    Args:
        recipe: card and settings.
        starts: cases with automatic results.
        ids: those to train on.
        labels: of the model whose results these are.
        folder: of the run.
        device: torch device.
        workers: loader processes.
        progress: show a bar.
        parent: an editor of the same shape, from whose weights training starts.

    Returns:
        The card as saved.

    Raises:
        BadSetting: cases of other sequences than the recipe's, a view that the network cannot take, or a
            parent of another shape.
        BadStudy: no case.
        TrainingFailed: the loss became NaN.
        StorageFailed: the disk refused a checkpoint.
    """
    card, settings = recipe.card, recipe.settings
    note = starts.note()
    if tuple(note["sequences"]) != card.sequences or tuple(note["labels"]) != labels.names:
        raise BadSetting(
            f"the cases in {starts.folder} have the sequences {note['sequences']} and labels "
            f"{note['labels']}, the recipe {list(card.sequences)}, the model {list(labels.names)}"
        )
    if settings.view % card.network.multiple:
        raise BadSetting(f"view {settings.view}: this network takes multiples of {card.network.multiple}")
    torch.manual_seed(settings.seed)
    network = EditorNetwork(card.network)
    begin = {"parent": ""}
    if parent is not None:
        if (parent.card.network, parent.card.sequences) != (card.network, card.sequences):
            raise BadSetting(
                f"{parent.card.name} {parent.card.version} has another network or other sequences than the "
                f"recipe: it cannot be trained on with it"
            )
        network.load_state_dict(parent.network.state_dict())
        begin = {"parent": parent.card.sha256}
    samples = EditingSamples(starts, sorted(ids), labels, card.spacing, settings)
    state = State(
        folder,
        {**dataclasses.asdict(settings), "cases": sorted(ids), **begin},
        {**dataclasses.asdict(EditorSettings()), "parent": ""},
    )
    losses = CorrectionLosses(network, labels, settings)
    outcome = fit(network, losses, samples, settings, state, device, workers, progress)
    before = f"{parent.card.training}; then " if parent is not None else ""
    training = (
        f"{before}{len(set(ids))} cases, {settings.steps} steps of {settings.batch} views of "
        f"{settings.view} voxels a side, seed {settings.seed}, torch {torch.__version__}"
    )
    figures = {**card.figures, "million weights": round(parameters(outcome.network) / 1e6, 3)}
    return save_editor(folder / "editor", replace(card, training=training, figures=figures), outcome.network)
