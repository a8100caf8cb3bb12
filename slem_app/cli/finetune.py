"""`slem finetune`: train a segmenter on labelled studies."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from slem_app.cli.evaluate import report
from slem_app.errors import BadSetting, BadStudy

if TYPE_CHECKING:
    from slem_app.studies import StudySource
    from slem_app.volumes.cache import CaseCache
    from slem_app.weights import Card

__all__ = ["Finetune"]


@dataclass(frozen=True)
class Finetune:
    """Train a segmenter on labelled studies; resumes an interrupted run.

    On several GPUs: torchrun --nproc-per-node N -m slem_app.cli finetune ...
    """

    data: tuple[Path, ...]
    """Folders of studies with segmentations."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder of the run; the model is written to OUT/model."""
    recipe: str = "brain"
    """Name of a bundled recipe, or a .yaml file."""
    parent: str = ""
    """Model or pre-trained encoder to start from (name or folder). Default: random weights."""
    coding: str = ""
    """Label coding of the segmentations, if it cannot be determined (see `slem inspect`)."""
    cache: Path | None = None
    """Folder for prepared cases. Default: OUT/cache."""
    steps: int | None = None
    """Number of steps. Default: the recipe's."""
    batch: int | None = None
    """Patches in each step, over all processes. Default: the recipe's."""
    seed: int | None = None
    """Seed for weights and patches. Default: the recipe's."""
    held_out: float = 0.0
    """Share of the patients that are not used for training. They are evaluated at the end: Dice, RAVD, ASSD
    and MSSD, with each row in OUT/held_out.csv.
    """
    device: str = "auto"
    """cpu, cuda, cuda:1 ... or auto."""
    workers: int = 0
    """Number of loader processes."""

    def run(self) -> None:
        """Prepare the cases, train, save."""
        from slem_app.finetune.recipe import load_recipe
        from slem_app.finetune.run import (
            device_of_this_process,
            finetune,
            first_process,
            first_process_first,
            join_processes,
            leave_processes,
        )
        from slem_app.volumes.cache import CaseCache
        from slem_app.weights import load_parent

        device = device_of_this_process(self.device)
        if not self.data:
            raise BadSetting("--data is empty: give at least one folder of studies")
        join_processes(device)
        changes = {
            name: getattr(self, name)
            for name in ("steps", "batch", "seed")
            if getattr(self, name) is not None
        }
        recipe = load_recipe(self.recipe, **changes)
        cache = CaseCache(self.cache or self.out / "cache")
        with first_process_first():
            patients = self.prepare(cache, recipe.card)
        held = _held_out(sorted(set(patients.values())), self.held_out)
        ready = tuple(case for case, patient in patients.items() if patient not in held)
        card = finetune(
            recipe,
            cache,
            ready,
            self.out,
            load_parent(self.parent) if self.parent else None,
            device,
            self.workers,
        )
        first = first_process()  # asked before they part: alone, every process is the first
        leave_processes()
        if first:
            print(
                f"{card.name}: {len(ready)} cases, {recipe.settings.steps} steps; model in "
                f"{self.out / 'model'}"
            )
            print("; ".join(f"{name} {figure:g}" for name, figure in card.figures.items()))
            self.evaluate(held, device)

    def evaluate(self, held: Collection[str], device: str) -> None:
        """Compare the trained model with the truth of the patients that it has not seen."""
        from slem_app.evaluate.evaluate import Evaluation, evaluate
        from slem_app.predict import Predictor
        from slem_app.weights import load_model

        if not held:
            return
        predictor = Predictor(load_model(self.out / "model"), device)
        found = [
            evaluate(predictor, source, [case for case in source.ids() if case in held])
            for source in self.sources()
        ]
        print(f"on {len(held)} patients not trained on ({', '.join(sorted(held))}):")
        report(
            Evaluation(
                tuple(row for one in found for row in one.rows),
                {c: r for one in found for c, r in one.skipped.items()},
            ),
            self.out / "held_out.csv",
        )

    def sources(self) -> list[StudySource]:
        """The folders, opened."""
        from slem_app.studies import open_source

        return [open_source(folder, self.coding or None) for folder in self.data]

    def prepare(self, cache: CaseCache, card: Card) -> dict[str, str]:
        """Bring the studies into the cache; says which were left out and why. Returns case -> patient."""
        from tqdm import tqdm

        from slem_app.finetune.cases import cache_cases
        from slem_app.finetune.run import first_process

        sources = self.sources()
        _check_names(sources)
        ready: dict[str, str] = {}
        for source in sources:
            with tqdm(
                total=len(source),
                desc=f"preparing {source.root.name}",
                unit="case",
                disable=not first_process(),
            ) as bar:
                found = cache_cases(
                    source, cache, card.sequences, card.preparation, card.labels, lambda _: bar.update()
                )
            ready |= found.patients
            for case, reason in found.skipped.items() if first_process() else ():
                print(f"left out {case}: {reason}")
        if not ready:
            raise BadStudy(f"no usable labelled study in {', '.join(map(str, self.data))}")
        return ready


def _held_out(patients: Sequence[str], share: float) -> frozenset[str]:
    """The patients that are kept back: evenly out of the sorted list, at least one and never all.

    Raises:
        BadSetting: a share that cannot be.
    """
    if not 0 <= share < 1:
        raise BadSetting(f"--held-out is a share from 0 to below 1, got {share:g}")
    count = min(len(patients) - 1, max(1, round(share * len(patients)))) if share else 0
    if share and count < 1:
        raise BadSetting(
            f"--held-out {share:g} of {len(patients)} patient leaves none to train on: give more studies, or "
            "0"
        )
    return frozenset(patients[int((n + 0.5) * len(patients) / count)] for n in range(count))


def _check_names(sources: Sequence[StudySource]) -> None:
    """Refuse a case name that stands for two cases: one of them would silently take the other's place."""
    seen: dict[str, Path] = {}
    for source in sources:
        for case in source.ids():
            if case in seen:
                raise BadStudy(
                    f"case {case!r} is in {seen[case]} and in {source.root}: rename one of them, or leave "
                    "one folder out"
                )
            seen[case] = source.root
