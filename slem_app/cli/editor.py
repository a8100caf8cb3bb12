"""`slem editor`: train the editor of a model, the network behind its clicks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from slem_app.errors import BadSetting

__all__ = ["Editor"]


@dataclass(frozen=True)
class Editor:
    """Train the network behind a model's clicks on labelled studies; resumes an interrupted run.

    On several cores or GPUs: torchrun --nproc-per-node N -m slem_app.cli editor ...
    """

    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder of the run; the editor is written to OUT/editor."""
    data: Path | None = None
    """Folder of studies with segmentations. Default: train on the cases in OUT/starts, or --starts."""
    model: str = "slem_brain"
    """Model whose results are corrected (name or folder)."""
    recipe: str = "brain_editor"
    """Name of a bundled recipe, or a .yaml file."""
    parent: str = ""
    """Editor (name or folder) whose weights training starts from. Default: random weights."""
    starts: Path | None = None
    """Folder for prepared cases with automatic results of varied quality. Default: OUT/starts."""
    held_out: tuple[str, ...] = ()
    """Cases that are not used for training."""
    steps: int | None = None
    """Number of steps. Default: the recipe's."""
    batch: int | None = None
    """Views in each step, over all processes. Default: the recipe's."""
    rate: float | None = None
    """Peak learning rate. Default: the recipe's."""
    seed: int | None = None
    """Seed for weights and samples. Default: the recipe's."""
    device: str = "auto"
    """cpu, cuda, cuda:1 ... or auto."""
    workers: int = 0
    """Number of loader processes."""

    def run(self) -> None:
        """Prepare the cases, train, save."""
        from tqdm import tqdm

        from slem_app.finetune.editing.disturb import StartSettings, make_starts
        from slem_app.finetune.editing.run import train_editor
        from slem_app.finetune.editing.settings import load_editor_recipe
        from slem_app.finetune.editing.starts import Starts
        from slem_app.finetune.run import (
            device_of_this_process,
            first_process,
            first_process_first,
            join_processes,
            leave_processes,
        )
        from slem_app.predict import Predictor
        from slem_app.studies import open_source
        from slem_app.weights import load_editor, load_model

        device = device_of_this_process(self.device)
        join_processes(device)
        names = ("steps", "batch", "rate", "seed")
        changes = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        recipe = load_editor_recipe(self.recipe, **changes)
        starts = Starts(self.starts or self.out / "starts")
        model = load_model(self.model)
        if self.data is not None:
            with first_process_first():
                source = open_source(self.data)
                predictor = Predictor(model, device)
                with tqdm(total=len(source), desc="starts", unit="case", disable=not first_process()) as bar:
                    make_starts(
                        source,
                        predictor,
                        starts,
                        (recipe.card.spacing,) * 3,
                        StartSettings(seed=recipe.settings.seed),
                        seen=lambda _: bar.update(),
                    )
        if unknown := sorted(set(self.held_out) - set(starts.ids())):
            raise BadSetting(f"--held-out names cases that do not exist: {', '.join(unknown)}")
        ids = [case for case in starts.ids() if case not in self.held_out]
        parent = load_editor(self.parent) if self.parent else None
        labels = model.card.labels
        card = train_editor(recipe, starts, ids, labels, self.out, device, self.workers, parent=parent)
        first = first_process()  # asked before they part: alone, every process is the first
        leave_processes()
        if first:
            print(f"{card.name}: {card.training}; in {self.out / 'editor'}")
            print(f"to use it, put this folder, called {card.name}, beside the models and into their card:")
            print(f"editor: {card.name}")
