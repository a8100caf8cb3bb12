"""Cross-validated accuracy on labelled studies: train on the other folds, predict each test case as the
server would, list every case.

    python benchmarks/accuracy.py --data ../shared/data/brats --runs runs/accuracy

Every fold is a run of its own that continues where it was stopped, so the benchmark can be killed and called
again, and folds can be trained side by side (--only 0, --only 1, ...). The table is written when all folds
are there. Figures are those of the last step: no test case chooses a checkpoint.
"""

from __future__ import annotations

import csv
import platform
import sys
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import torch
import tyro
from cases import enhancing, split
from page import commit, write_page

from slem_app.cli.finetune import Finetune
from slem_app.evaluate.scores import bootstrap, region_scores
from slem_app.finetune.cases import truth
from slem_app.finetune.recipe import FinetuneRecipe, load_recipe
from slem_app.finetune.run import finetune
from slem_app.grouping import group
from slem_app.labels import LabelSet
from slem_app.predict import Predictor
from slem_app.studies import open_source
from slem_app.types import Grid
from slem_app.volumes.cache import CaseCache
from slem_app.weights import load_model, load_parent

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Accuracy:
    """Cross-validation of a recipe."""

    runs: Path
    """Folder for cache, checkpoints and models."""
    data: Path | None = None
    """Folder of labelled studies. Default: train, with --only, on what the cache holds."""
    recipe: str = "brain"
    """Name or file."""
    split: str = "six"
    """Folds by patient: 'six' of all cases, each with its share of those without or with little enhancing
    tumour; 'four' of the first sixteen by name, as in older tables.
    """
    folds: int = 0
    """Number of test folds; default: the split's."""
    only: tuple[int, ...] = ()
    """Train these folds alone and write no table."""
    steps: int = 0
    """Steps; default: the recipe's."""
    batch: int = 0
    """Patches a step; default: the recipe's."""
    seed: int = 0
    """Of weights and patches."""
    threads: int = 0
    """torch threads; default: torch's."""
    device: str = "cpu"
    """torch device."""
    workers: int = 0
    """Loader processes."""
    parents: Path | None = None
    """Folder of such runs whose fold models are continued, each by the same fold. Default: from nothing."""
    name: str = "accuracy"
    """Name of the result files."""

    def run(self) -> None:
        """Train what is missing, then score."""
        if self.threads:
            torch.set_num_threads(self.threads)
        if not self.only and self.data is None:
            raise SystemExit(
                "the table compares with the truth on the images' own grid: give --data, or train some "
                "folds alone with --only"
            )
        changes = {name: value for name, value in (("steps", self.steps), ("batch", self.batch)) if value}
        recipe = load_recipe(self.recipe, seed=self.seed, **changes)
        cache = CaseCache(self.runs / "cache")
        if self.data:
            self.prepare(cache, recipe)
        tests = split(cache, self.split, self.folds)
        ids = tuple(case for test in tests for case in test)
        for k in self.only or range(len(tests)):
            folder = self.runs / f"fold{k}"
            if not (folder / "model" / "card.yaml").exists():
                parent = load_parent(self.parents / f"fold{k}" / "model") if self.parents else None
                finetune(
                    recipe,
                    cache,
                    [i for i in ids if i not in tests[k]],
                    folder,
                    parent,
                    self.device,
                    self.workers,
                )
        if not self.only:
            rows = [row for k, test in enumerate(tests) for row in self.score(k, test)]
            self.write(recipe, rows)

    def prepare(self, cache: CaseCache, recipe: FinetuneRecipe) -> None:
        """Fill the cache."""
        Finetune((self.data,), self.runs, self.recipe).prepare(cache, recipe.card)

    def score(self, fold: int, test: tuple[str, ...]) -> list[dict[str, object]]:
        """One row a test case, through the same path that serves."""
        predictor = Predictor(load_model(self.runs / f"fold{fold}" / "model"), self.device)
        source, rows = open_source(self.data), []
        for case in test:
            study = source.study(case)
            expected, grid = truth(study, predictor.card.labels)
            start = time.perf_counter()
            result = predictor.predict_case(group(study))
            seconds = time.perf_counter() - start
            scores = region_scores(result.array, expected, grid, predictor.card.labels)
            rows.append(
                {
                    "case": case,
                    "fold": fold,
                    **{k: round(v, 4) for k, v in scores.items()},
                    **self.volumes(result.array, expected, grid, predictor.card.labels),
                    "seconds": round(seconds, 2),
                }
            )
            print(rows[-1], flush=True)
        return rows

    @staticmethod
    def volumes(found: np.ndarray, expected: np.ndarray, grid: Grid, labels: LabelSet) -> dict[str, float]:
        """ET_ml found and ET_true_ml, where the model has such a region."""
        masks = zip(labels.regions, labels.region_masks(found), labels.region_masks(expected), strict=True)
        ml = abs(np.linalg.det(grid.affine[:3, :3])) / 1000
        table: dict[str, float] = {}
        for region, here, there in masks:
            if region.name == "ET":
                table = {
                    "ET_ml": round(float(here.sum() * ml), 2),
                    "ET_true_ml": round(float(there.sum() * ml), 2),
                }
        return table

    def write(self, recipe: FinetuneRecipe, rows: list[dict[str, object]]) -> None:
        """results/NAME.csv and results/NAME.md."""
        rows = sorted(rows, key=lambda row: str(row["case"]))
        with (RESULTS / f"{self.name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        regions = [region.name for region in recipe.card.labels.regions]
        columns = [*regions, *(f"hd95_{r}" for r in regions)]
        count = len({row["fold"] for row in rows})
        lines = [
            f"# Accuracy: {count}-fold cross-validation by patient, {len(rows)} cases",
            "",
            f"`python {' '.join(sys.argv)}`; {date.today()}, commit {commit()}, {platform.machine()}, "
            f"{torch.get_num_threads()} threads, "
            f"torch {torch.__version__}.",
            f"Recipe `{self.recipe}`, {recipe.settings.steps} steps of {recipe.settings.batch} patches, "
            f"seed {self.seed}. Dice on the images' own grid; "
            "both masks empty",
            (
                "counts 1, one empty counts 0 (hd95: 0 and 374 mm). Weights of the last step; no test case "
                "chose a checkpoint."
            ),
            "",
            "| case | fold | " + " | ".join(columns) + " |",
            "|---|---|" + "---|" * len(columns),
            *(
                f"| {row['case']} | {row['fold']} | "
                + " | ".join(f"{row[c]:.3f}" if c in regions else f"{row[c]:.1f}" for c in columns)
                + " |"
                for row in rows
            ),
            "",
            "| region | mean Dice | sd | bootstrap 95 % interval | median | mean hd95 (mm) |",
            "|---|---|---|---|---|---|",
        ]
        for region in regions:
            values = [float(row[region]) for row in rows]
            b = bootstrap(values)
            distance = sum(float(row[f"hd95_{region}"]) for row in rows) / len(rows)
            lines.append(
                f"| {region} | {b['mean']:.3f} | {b['sd']:.3f} | {b['low']:.3f} to {b['high']:.3f} | "
                f"{sorted(values)[len(values) // 2]:.3f} | {distance:.1f} |"
            )
        if "ET_ml" in rows[0]:
            lines += ["", "## Enhancing tumour", "", *enhancing({"all folds": rows})]
        write_page(RESULTS / f"{self.name}.md", "\n".join(lines))
        print("\n".join(lines[-12:]))


if __name__ == "__main__":
    tyro.cli(Accuracy).run()
