"""`slem adapt`: make a model at home in an archive, without labels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from slem_app.cli.gather_studies import gather_studies
from slem_app.errors import BadSetting

if TYPE_CHECKING:
    from slem_app.adapt import AdaptReport
    from slem_app.evaluate.evaluate import Evaluation
    from slem_app.studies import StudySource
    from slem_app.weights import Card, Model

__all__ = ["Adapt"]


@dataclass(frozen=True)
class Adapt:
    """Continue training a model on an archive's own studies, labelled or not; resumes an interrupted run.

    It learns to name exchanged sequences on your scanners' images (SLeM), and to say of incomplete studies
    what it says of complete ones. No label is learnt; labelled studies there show whether it became better.
    On several processes or machines: torchrun --nproc-per-node N -m slem_app.cli adapt ...
    """

    data: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of studies; a study needs at least two of the model's sequences."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder of the run; the model is written to OUT/model, for `slem publish OUT/model --store STORE`."""
    model: str = "slem_brain"
    """Name of a model, or its folder."""
    steps: int = 400
    """Number of steps."""
    batch: int = 2
    """Views in each step, over all processes."""
    seed: int = 0
    """Seed for all random numbers."""
    measured: int = 12
    """Maximum number of labelled studies on which the model is evaluated before and after; 0: none."""
    cache: Path | None = None
    """Folder for prepared cases. Default: OUT/cache."""
    device: str = "auto"
    """cpu, cuda, cuda:1 ... or auto."""
    workers: int = 0
    """Number of loader processes."""

    def run(self) -> None:
        """Prepare the studies, train, measure, save."""
        from slem_app.adapt.round import fitting_view, plan, share_out
        from slem_app.adapt.run import adapt
        from slem_app.adapt.settings import AdaptSettings
        from slem_app.training import (
            device_of_this_process,
            first_process,
            first_process_first,
            join_processes,
            leave_processes,
        )
        from slem_app.volumes.cache import CaseCache
        from slem_app.weights import load_model, save_model

        if not self.data:
            raise BadSetting("DATA is empty: give at least one folder of studies")
        model = load_model(self.model)
        changes = {"batch": self.batch, "seed": self.seed}
        settings = plan(self.steps, min(50, self.steps), changes)
        device = device_of_this_process(self.device)
        join_processes(device)
        cache = CaseCache(self.cache or self.out / "cache")
        with first_process_first():
            least = AdaptSettings().task.least
            ready = gather_studies(self.data, cache, model.card.sequences, model.card.preparation, least)
        ids, held_out = share_out(ready)
        settings = fitting_view(settings, cache, ids, model.card.network.multiple)
        report = adapt(model, cache, ids, settings, self.out, held_out, device, self.workers)
        first = first_process()
        leave_processes()
        if first:
            card = save_model(self.out / "model", report.card, report.network)
            print(f"{card.name}: adapted to {len(report.used)} studies; in {self.out / 'model'}")
            print("\n".join(agreed(report)))
            print("\n".join(self.compared(model, report, device)))
            print(
                f"to serve it: slem publish {self.out / 'model'} STORE (slem models STORE --back undoes it)"
            )

    def sources(self) -> list[StudySource]:
        """The folders, opened."""
        from slem_app.studies import open_source

        return [open_source(folder) for folder in self.data]

    def compared(self, model: Model, report: AdaptReport, device: str) -> list[str]:
        """Dice on labelled studies before and after, as lines."""
        from slem_app.evaluate.evaluate import evaluate
        from slem_app.predict import Predictor

        places = [(source, case) for source in self.sources() for case in source.ids()]
        labelled = [(source, case) for source, case in places if source.study(case).label is not None]
        if not labelled or not self.measured:
            return ["no labelled study was measured: whether it became better is for you to see"]
        lines = []
        adapted = replace(model, card=report.card, network=report.network)
        for name, one in (("before", model), ("after", adapted)):
            predictor = Predictor(one, device)
            found = [evaluate(predictor, source, [case]) for source, case in labelled[: self.measured]]
            lines.append(f"Dice {name}: {means(found, one.card)}")
        return [
            f"{min(len(labelled), self.measured)} labelled studies, whose labels were not used for training:",
            *lines,
        ]


def means(found: list[Evaluation], card: Card) -> str:
    """'WT 0.812, TC 0.700': means over cases."""
    told = []
    for region in card.labels.regions:
        values = [row.dice for one in found for row in one.rows if row.region == region.name]
        told += [f"{region.name} {sum(values) / len(values):.3f}"] if values else []
    return ", ".join(told) or "no study could be compared"


def agreed(report: AdaptReport) -> list[str]:
    """How much of a complete study's result incomplete ones show."""
    if not report.after:
        return ["too few studies to hold some out: how it does on incomplete studies was not measured"]
    lines = ["Dice of what is found with some sequences and of what was found with all:"]
    return lines + [
        f"  {name}: {report.before[name]:.3f} -> {report.after[name]:.3f}" for name in report.after
    ]
