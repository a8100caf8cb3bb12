"""One setting of `pretraining.py`: its cases, folds and recipes, and what is done with them: pre-train,
fine-tune, predict, score.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from pretraining_arms import EVERY, SETTINGS, Setting

from slem_app.finetune.recipe import FinetuneRecipe
from slem_app.finetune.recipe import load_recipe as load_finetune
from slem_app.finetune.run import finetune
from slem_app.labels import LabelSet
from slem_app.network import parameters
from slem_app.predict import Predictor
from slem_app.pretext.recipe import PretextRecipe
from slem_app.pretext.recipe import load_recipe as load_pretext
from slem_app.pretext.run import pretrain
from slem_app.regions import restore
from slem_app.training.state import Curve
from slem_app.types import Grid
from slem_app.volumes.cache import CaseCache
from slem_app.volumes.prepare import Prepared
from slem_app.weights import load_model, load_pretrained
from slem_app.weights.fields import merge, to_table

if TYPE_CHECKING:  # their readers are not on a training server
    from slem_app.studies import Study, StudySource

__all__ = ["CURVES", "KEY", "Bench", "Patients", "Truths", "Unit", "column"]

KEY = ("setting", "arm", "cfb", "labels", "seed", "fold", "case")
CURVES = ("setting", "arm", "cfb", "seed", "fold", "step", "loss", "score", "chance")


@dataclass(frozen=True)
class Unit:
    """One fine-tuning with the pre-training it needs."""

    arm: str
    cfb: int
    labels: int
    seed: int
    fold: int

    @property
    def name(self) -> str:
        return f"{self.arm}-cfb{self.cfb}-n{self.labels}-seed{self.seed}-fold{self.fold}"


@dataclass(frozen=True)
class Bench:
    """The runs of one setting."""

    setting: str
    """Name in SETTINGS."""
    runs: Path
    """Folder of all settings' runs."""
    device: str = "cpu"
    """torch device."""
    workers: int = 0
    """Loader processes."""

    @property
    def shared(self) -> Setting:
        return SETTINGS[self.setting]

    @property
    def labels(self) -> LabelSet:
        """Labels and regions of the model that is fine-tuned."""
        return load_finetune(self.shared.recipe).card.labels

    @property
    def regions(self) -> dict[str, str]:
        """Column of the table -> region, as the card calls it."""
        return {column(region.name): region.name for region in self.labels.regions}

    @property
    def columns(self) -> tuple[str, ...]:
        """Of the table: what was run, Dice of each region, HD95 of each."""
        return (*KEY, *self.regions, *(f"hd95_{name}" for name in self.regions))

    @property
    def sizes(self) -> tuple[str, str]:
        """Columns of the table of sizes: the case, and the volume of its first region, the widest where
        regions are nested.
        """
        return "case", f"{next(iter(self.regions))}_ml"

    @property
    def folder(self) -> Path:
        return self.runs / self.setting

    @property
    def cache(self) -> CaseCache:
        return CaseCache(self.folder / "cache")

    def fold(self, number: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Training and test cases of a fold: every case is tested once, by its place in the sorted list."""
        ids = self.cache.ids()
        test = ids[number :: self.shared.folds]
        return tuple(i for i in ids if i not in test), test

    def labelled(self, unit: Unit) -> tuple[str, ...]:
        """The labelled cases of a unit: the first n of an order that only seed and fold decide."""
        train, _ = self.fold(unit.fold)
        order = np.random.default_rng([unit.seed, unit.fold]).permutation(len(train))
        return tuple(sorted(train[n] for n in order[: unit.labels]))

    def network(self, cfb: int) -> dict[str, object]:
        return {**self.shared.network, "context": "cfb" if cfb else "plain"}

    def finetune_recipe(self, arm: str, cfb: int, seed: int) -> FinetuneRecipe:
        """The setting's recipe with the setting's and the arm's differences."""
        recipe, this = load_finetune(self.shared.recipe), EVERY[arm]
        changes = {**self.shared.finetune, **this.finetune, "seed": seed}
        if this.longer:
            changes["steps"] = int(changes["steps"]) + int(self.shared.pretext["steps"])
        settings = replace(recipe.settings, **changes)
        size = int(self.shared.preparation["multiple"]) * (128 // int(self.shared.preparation["multiple"]))
        card = replace(
            recipe.card,
            network=replace(recipe.card.network, **self.network(cfb)),
            preparation=replace(recipe.card.preparation, **self.shared.preparation),
            inference=replace(recipe.card.inference, window=(size,) * 3, mirror=()),
        )
        return FinetuneRecipe(card, settings)

    def pretext_recipe(self, arm: str, cfb: int, seed: int) -> PretextRecipe:
        """The pretext recipe with the setting's and the arm's differences."""
        this = dict(EVERY[arm].pretext)
        changes = merge(
            to_table(load_pretext("slem").settings), {**self.shared.pretext, "seed": seed}, "setting"
        )
        changes["steps"] *= this.pop("longer", 1)
        card = self.finetune_recipe(arm, cfb, seed).card
        parts = {
            "sequences": list(card.sequences),
            "network": to_table(card.network),
            "preparation": to_table(card.preparation),
        }
        recipe = load_pretext(EVERY[arm].recipe, **parts, **this, **changes)
        about = (
            f"Encoder for {card.name}, setting {self.setting} of benchmarks/pretraining.py, pre-trained "
            f"by {recipe.task.name}."
        )
        return replace(recipe, name=f"{card.name}_ssl", description=about)

    def pretrained(self, arm: str, cfb: int, seed: int, fold: int) -> Path | None:
        """The folder of the encoder that an arm starts from, trained if it is not there yet; None for
        scratch.
        """
        this = EVERY[arm]
        if not this.recipe:
            return None
        seed = seed if self.shared.pretext_per_seed else 0
        # arms may share it
        same = next(
            name
            for name, other in EVERY.items()
            if (other.recipe, other.pretext) == (this.recipe, this.pretext)
        )
        folder = self.folder / "pretext" / f"{same}-cfb{cfb}-seed{seed}-fold{fold}"
        if not (folder / "model" / "encoder.yaml").exists():
            train, test = self.fold(fold)
            start = time.perf_counter()
            report = pretrain(
                self.pretext_recipe(arm, cfb, seed),
                self.cache,
                train,
                folder,
                test,
                self.device,
                self.workers,
            )
            figures = {
                **report.measured.figures,
                "seconds": time.perf_counter() - start,
                "speed": report.outcome.throughput(),
            }
            confusion = report.measured.confusion.tolist() if report.measured.confusion is not None else []
            (folder / "measured.json").write_text(json.dumps({**figures, "confusion": confusion}, indent=1))
            _tidy(folder)
        return folder / "model"

    def train(self, unit: Unit) -> None:
        """Pre-train if need be, fine-tune, predict the fold's test cases; what was done before is not done
        again.
        """
        folder = self.folder / "finetune" / unit.name
        if (folder / "predicted.npz").exists():
            return
        parent = self.pretrained(unit.arm, unit.cfb, unit.seed, unit.fold)
        recipe = self.finetune_recipe(unit.arm, unit.cfb, unit.seed)
        finetune(
            recipe,
            self.cache,
            self.labelled(unit),
            folder,
            load_pretrained(parent) if parent else None,
            self.device,
            self.workers,
        )
        predictor = Predictor(load_model(folder / "model", self.device), self.device)
        found = {}
        for case in self.fold(unit.fold)[1]:
            cached = self.cache.load(case)
            images = np.array(cached.images, dtype=np.float32)
            prepared = Prepared(images, cached.present, predictor.card.sequences, cached.grid, cached.grid)
            found[case] = np.round(255 * predictor.probabilities(prepared)).astype(np.uint8)
        np.savez_compressed(folder / "new.npz", **found)
        (folder / "new.npz").rename(folder / "predicted.npz")
        _tidy(folder)

    def score(self, unit: Unit, truths: Truths) -> list[dict[str, object]]:
        """One row a test case, on the grid of its own images."""
        from slem_app.evaluate.scores import region_scores  # needs MONAI, which a training server lacks

        card = self.finetune_recipe(unit.arm, unit.cfb, unit.seed).card
        rows = []
        with np.load(self.folder / "finetune" / unit.name / "predicted.npz") as file:
            predicted = {case: file[case].astype(np.float32) / 255 for case in file.files}
        for case, probabilities in predicted.items():
            expected, grid = truths[case]
            found = restore(probabilities, self.cache.load(case).grid, grid, card.labels, card.postprocess)
            scores = region_scores(found, expected, grid, card.labels)
            row = {
                "setting": self.setting,
                "arm": unit.arm,
                "cfb": unit.cfb,
                "labels": unit.labels,
                "seed": unit.seed,
                "fold": unit.fold,
                "case": case,
            }
            rows.append(row | {column(name): round(value, 4) for name, value in scores.items()})
        return rows

    def curves(self) -> list[dict[str, object]]:
        """The pretexts' figures on each fold's test cases while they were trained, a row a checkpoint; the
        arm is the first that shares the run.
        """
        rows = []
        for path in sorted((self.folder / "pretext").glob("*/measured.csv")):
            arm, cfb, seed, fold = path.parent.name.rsplit("-", 3)
            run = {
                "setting": self.setting,
                "arm": arm,
                "cfb": cfb[len("cfb") :],
                "seed": seed[len("seed") :],
                "fold": fold[len("fold") :],
            }
            rows += [run | {name: row[name] for name in CURVES[5:]} for row in Curve.read(path)]
        return rows

    def prepare(self, data: Path) -> None:
        """Fill the cache with the labelled patients, each a case, and with the supervoxels."""
        from slem_app.finetune.cases import cache_cases
        from slem_app.pretext.samples import annotate
        from slem_app.studies import open_source

        card = self.finetune_recipe("scratch", 1, 0).card

        def seen(case: str) -> None:
            print("prepared", case, flush=True)

        report = cache_cases(
            Patients(open_source(data)), self.cache, card.sequences, card.preparation, card.labels, seen
        )
        for case, reason in report.skipped.items():
            print(f"left out {case}: {reason}")
        annotate(self.cache, report.ready, self.pretext_recipe("supervoxel", 1, 0).task)

    def cost(self, arms: Sequence[str], steps: int = 8) -> Iterator[dict[str, object]]:
        """Seconds of a step of each pretext, one after the other on this machine, samples included."""
        for arm in [a for a in arms if EVERY[a].recipe]:
            recipe = self.pretext_recipe(arm, 1, 0)
            quick = replace(recipe, settings=replace(recipe.settings, steps=steps, save_every=steps))
            folder = self.folder / "cost" / arm
            shutil.rmtree(folder, ignore_errors=True)
            outcome = pretrain(
                quick, self.cache, self.fold(0)[0], folder, (), self.device, self.workers, progress=False
            ).outcome
            yield {
                "task": arm,
                "seconds a step": round(outcome.seconds / steps, 3),
                "of which waiting for data": round(outcome.waited / steps, 3),
                "weights (M)": round(parameters(outcome.network) / 1e6, 2),
            }


class Truths(dict):
    """Case -> its truth on its own grid, read when asked for."""

    def __init__(self, data: Path, labels: LabelSet) -> None:
        super().__init__()
        from slem_app.studies import open_source

        self.source, self.labels = open_source(data), labels

    def __missing__(self, case: str) -> tuple[np.ndarray, Grid]:
        from slem_app.finetune.cases import truth

        self[case] = truth(self.source.study(case), self.labels)
        return self[case]

    def volume_ml(self, case: str) -> float:
        """Of the first region."""
        labels, grid = self[case]
        return float(
            self.labels.region_masks(labels)[0].sum() * abs(np.linalg.det(grid.affine[:3, :3])) / 1000
        )


@dataclass(frozen=True)
class Patients:
    """Studies without their parts, so that a case of the comparison is a patient.

    A part is another sequence with a truth of its own, as CHAOS's T2: one sequence alone, drawn in another
    breath-hold.
    """

    source: StudySource
    """Of all studies."""

    def ids(self) -> Sequence[str]:
        """Of the patients."""
        return self.source.ids()

    def study(self, case: str) -> Study:
        """One patient, all sequences, the truth of the study itself."""
        return replace(self.source.study(case), parts=())


def column(region: str) -> str:
    """A region's column: 'WT' -> wt, 'right kidney' -> right_kidney."""
    return region.lower().replace(" ", "_")


def _tidy(folder: Path) -> None:
    """A finished run needs neither its checkpoint nor its event files: thousands of them fill a disk."""
    (folder / "checkpoint.pt").unlink(missing_ok=True)
    shutil.rmtree(folder / "tensorboard", ignore_errors=True)
