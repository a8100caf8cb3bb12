"""One whole pre-training: from cached cases to a saved encoder. Started by the command line and by torchrun
alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
import yaml
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from slem_app.network import SegmenterConfig
from slem_app.pretext.network import PretextLosses, PretextNetwork, autocast
from slem_app.pretext.recipe import PretextRecipe
from slem_app.pretext.samples import Samples, annotate, unfit, usable
from slem_app.training import Outcome, State, first_process, first_process_first, fit
from slem_app.training.state import Curve
from slem_app.volumes.cache import CaseCache
from slem_app.weights import EncoderCard, save_pretrained
from slem_app.weights.fields import to_table

__all__ = ["Measured", "PretrainReport", "load_network", "measure", "pretrain"]

FIGURES = ("score", "chance", "blocks", "explained")


@dataclass(frozen=True, eq=False)
class Measured:
    """A task's figures on cases that were not trained on."""

    figures: Mapping[str, float]
    """Means over samples: 'score', 'chance', 'loss' and the task's own."""
    confusion: torch.Tensor | None
    """(M, M) counts, true sequence by named sequence, for tasks that name sequences."""


@dataclass(frozen=True, eq=False)
class PretrainReport:
    """What came of a run."""

    card: EncoderCard
    """As saved in `folder`/model."""
    used: tuple[str, ...]
    """Cases trained on."""
    skipped: Mapping[str, str]
    """Case -> why the task cannot use it."""
    measured: Measured | None
    """On the held-out cases, by the final weights; None without any."""
    outcome: Outcome
    """Throughput and network."""


def pretrain(
    recipe: PretextRecipe,
    cache: CaseCache,
    ids: Sequence[str],
    folder: Path,
    held_out: Sequence[str] = (),
    device: str = "cpu",
    workers: int = 0,
    progress: bool = True,
    card: EncoderCard | None = None,
) -> PretrainReport:
    """Train an encoder and save it to `folder`/model; the run itself (checkpoint, settings, curves) lies in
    `folder`.

    Args:
        recipe: what and how.
        cache: prepared cases.
        ids: those to train on.
        folder: of the run; an unfinished run found there is continued.
        held_out: cases that are only measured on, at every checkpoint; they change nothing.
        device: torch device of this process.
        workers: loader processes.
        progress: show bars.
        card: with data and terms filled in; default: the recipe's.

    Raises:
        BadStudy: no case that the task can use, or a sequence that no case has.
        See also `training.fit`.
    """
    folder, settings, task = Path(folder), recipe.settings, recipe.task
    used, skipped = usable(cache, sorted(ids), task, recipe.sequences)
    held_out = [case for case in sorted(held_out) if not unfit(cache.load(case), task)]
    with first_process_first():
        _annotate(cache, [*used, *held_out], recipe, progress)
    torch.manual_seed(settings.seed)
    network = PretextNetwork(task, recipe.network)
    state = State(
        folder,
        {**recipe.table(), "cases": list(used), "classes": task.classes(len(recipe.sequences))},
        {"network": to_table(SegmenterConfig())},
    )
    samples = Samples(
        cache,
        used,
        task,
        settings.view,
        recipe.network.multiple,
        settings.steps * settings.batch,
        settings.seed,
        pool=settings.pool,
    )
    curve = _HeldOut(recipe, cache, held_out, folder, device) if held_out else None
    outcome = fit(
        network,
        PretextLosses(network, task, settings.precision),
        samples,
        settings,
        state,
        device,
        workers,
        progress,
        on_checkpoint=curve,
    )
    measured = measure(outcome.network, recipe, cache, held_out, device) if held_out else None
    card = card or recipe.card()
    made = (
        f"{len(used)} cases, {settings.steps} steps of {settings.batch} samples, seed "
        f"{settings.seed}, torch {torch.__version__}"
    )
    card = replace(card, training=card.training or made)
    if measured is not None:
        card = replace(
            card,
            figures={
                **card.figures,
                **{f"held-out {name}": round(value, 4) for name, value in measured.figures.items()},
            },
        )
    if first_process():
        (folder / "recipe.yaml").write_text(
            yaml.safe_dump(recipe.table(), sort_keys=False, default_flow_style=None, width=140)
        )
        card = save_pretrained(folder / "model", card, outcome.network)
    return PretrainReport(card, used, skipped, measured, outcome)


def measure(
    network: nn.Module,
    recipe: PretextRecipe,
    cache: CaseCache,
    ids: Sequence[str],
    device: str = "cpu",
    samples: int = 0,
) -> Measured:
    """The task's figures on some cases, plain views, always the same samples.

    Args:
        network: a `PretextNetwork`.
        recipe: task and settings.
        cache: prepared cases.
        ids: those to measure on.
        device: where.
        samples: how many; default: the recipe's `measured`.
    """
    task, settings = recipe.task, recipe.settings
    _annotate(cache, ids, recipe, progress=False)
    data = Samples(
        cache,
        sorted(ids),
        task,
        settings.view,
        recipe.network.multiple,
        samples or settings.measured,
        settings.seed,
        measuring=True,
    )
    sums: dict[str, list[torch.Tensor]] = {}
    confusion = None
    training = network.training
    network.eval().to(device)
    with torch.inference_mode():
        for inputs, targets in DataLoader(data, batch_size=settings.batch):
            inputs, targets = (
                {name: tensor.to(device) for name, tensor in part.items()} for part in (inputs, targets)
            )
            with autocast(torch.device(device), settings.precision):
                outputs = network(inputs)
            for name, values in {
                "loss": task.losses(outputs, targets),
                **task.metrics(outputs, targets),
            }.items():
                sums.setdefault(name, []).append(values.cpu())
            more = task.confusion(outputs, targets)
            if more is not None:
                confusion = more if confusion is None else confusion + more
    network.train(training)
    return Measured(
        {name: float(torch.cat(values).mean()) for name, values in sums.items()},
        confusion.cpu() if confusion is not None else None,
    )


def load_network(recipe: PretextRecipe, folder: Path, device: str = "cpu") -> PretextNetwork:
    """The averaged network of a run's last checkpoint, heads included, for measuring."""
    network = PretextNetwork(recipe.task, recipe.network)
    average = torch.optim.swa_utils.AveragedModel(network)
    average.load_state_dict(
        torch.load(Path(folder) / "checkpoint.pt", map_location=device, weights_only=True)["average"]
    )
    return cast(PretextNetwork, average.module.to(device).eval())


class _HeldOut:
    """Measures at every checkpoint and keeps the curve, `measured.csv`."""

    def __init__(
        self, recipe: PretextRecipe, cache: CaseCache, ids: Sequence[str], folder: Path, device: str
    ) -> None:
        self.recipe, self.cache, self.ids, self.device = recipe, cache, ids, device
        self.path = folder / "measured.csv"
        self.curve: Curve | None = None

    def __call__(self, step: int, network: nn.Module) -> None:
        figures = measure(network, self.recipe, self.cache, self.ids, self.device).figures
        if self.curve is None:
            self.curve = Curve(self.path, ("step", "loss", *FIGURES), step - 1)
        self.curve.add(
            step=step, **{name: value for name, value in figures.items() if name in ("loss", *FIGURES)}
        )


def _annotate(cache: CaseCache, ids: Sequence[str], recipe: PretextRecipe, progress: bool) -> None:
    if recipe.task.annotates:
        with tqdm(
            total=len(ids), desc=f"{recipe.task.name} maps", unit="case", disable=not progress, leave=False
        ) as bar:
            annotate(cache, ids, recipe.task, lambda _: bar.update())
