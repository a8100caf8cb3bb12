"""What is lost when sequences are missing: Dice of all 15 subsets of the four, by cross-validation, in three
ways.

    python benchmarks/missing.py prepare --setting small --data ../shared/data/brats --runs runs/missing
    python benchmarks/missing.py train   --setting small --runs runs/missing [--minutes 9] [--folds 0]
    python benchmarks/missing.py score   --setting small --data ../shared/data/brats --runs runs/missing
    python benchmarks/missing.py table   --setting small

dropping: trained with sequences dropped at random (`augment.keep_sequence` 0.75, the default), missing ones
flagged. complete: the same training without dropping, missing ones flagged. zeros: the model of `complete`,
missing ones filled with zeros and said to be there, as is often done.

Network, data, steps, augmentation and seeds are the same. Every stage continues where it was stopped. `train`
needs only the prepared cache and torch, so it runs where there are no scans; `score` compares with the truth
on the images' own grid. A missing sequence is taken away from the prepared case: grid and crop are still
those of all four, which are skull-stripped alike.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import platform
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
import torch

from slem_app.finetune.recipe import FinetuneRecipe, load_recipe
from slem_app.finetune.run import finetune
from slem_app.predict import Predictor
from slem_app.predict.grids import covering
from slem_app.volumes.cache import CaseCache
from slem_app.volumes.prepare import Prepared
from slem_app.weights import load_model

RESULTS = Path(__file__).parent / "results"
REGIONS = ("WT", "TC", "ET")
KEEP = {"dropping": 0.75, "complete": 1.0}
ARMS = {"dropping": "dropping", "complete": "complete", "zeros": "complete"}  # arm -> whose model it uses
COLUMNS = ("setting", "arm", "seed", "fold", "case", "subset", *REGIONS)
KEY = COLUMNS[:6]
FULL = "t1n+t1c+t2w+t2f"


@dataclass(frozen=True)
class Setting:
    """What all arms share."""

    about: str
    """One line for the table."""
    network: Mapping[str, object]
    """Differences of the network from the brain recipe's."""
    preparation: Mapping[str, object]
    """Differences of the preparation."""
    finetune: Mapping[str, object]
    """Differences of FinetuneSettings."""
    folds: int = 4
    """Test folds by patient."""
    surrounding: str = "2 CPU cores shared with other work"
    """Where it is meant to run."""


SETTINGS = {
    "small": Setting(
        "whole heads at 3 mm, network of 0.4 M weights, 500 steps of 2",
        {
            "channels": [12, 24, 48],
            "stem_channels": 12,
            "blocks": [1, 1, 2],
            "context_levels": [2],
            "deep_supervision": 1,
        },
        {"spacing": [3.0, 3.0, 3.0], "multiple": 8},
        {"steps": 500, "batch": 2, "patch": [48, 64, 48], "rate": 3e-3, "save_every": 50, "average": 0.98},
    ),
    "large": Setting(
        "the served network at 1.5 mm, recipe `brain`, 4200 steps of 4",
        {},
        {},
        {"steps": 4200, "batch": 4, "save_every": 1000},
        surrounding="one NVIDIA H200, six minutes for eight trainings side by side",
    ),
    "smoke": Setting(
        "some steps, to see that it runs",
        {
            "channels": [4, 8],
            "stem_channels": 4,
            "blocks": [1, 1],
            "context_levels": [1],
            "deep_supervision": 0,
        },
        {"spacing": [6.0, 6.0, 6.0], "multiple": 4},
        {"steps": 2, "batch": 2, "patch": [24, 32, 24]},
        folds=2,
    ),
}


def subsets(sequences: Sequence[str]) -> Iterator[tuple[str, tuple[bool, ...]]]:
    """Name and flags of every set of sequences but the empty one, the full set first, then by how many are
    missing.
    """
    for flags in sorted(
        itertools.product((True, False), repeat=len(sequences)), key=lambda flags: -sum(flags)
    ):
        if any(flags):
            yield "+".join(name for name, here in zip(sequences, flags, strict=True) if here), flags


@dataclass(frozen=True)
class Bench:
    """The runs of one setting and seed."""

    setting: str
    """Name in SETTINGS."""
    runs: Path
    """Folder of all settings' runs."""
    seed: int = 0
    """Of weights and patches."""
    device: str = "cpu"
    """torch device."""
    workers: int = 0
    """Loader processes."""

    @property
    def cache(self) -> CaseCache:
        return CaseCache(self.runs / self.setting / "cache")

    def recipe(self, training: str) -> FinetuneRecipe:
        """The brain recipe with the setting's differences."""
        recipe, shared = load_recipe("brain"), SETTINGS[self.setting]
        settings = replace(recipe.settings, **shared.finetune, seed=self.seed)
        card = replace(
            recipe.card,
            network=replace(recipe.card.network, **shared.network),
            preparation=replace(recipe.card.preparation, **shared.preparation),
            inference=replace(recipe.card.inference, mirror=()),
        )
        return FinetuneRecipe(
            card, replace(settings, augment=replace(settings.augment, keep_sequence=KEEP[training]))
        )

    def test(self, fold: int) -> tuple[str, ...]:
        """Every case is tested once, by its place in the sorted list."""
        return self.cache.ids()[fold :: SETTINGS[self.setting].folds]

    def folder(self, training: str, fold: int) -> Path:
        return self.runs / self.setting / f"{training}-seed{self.seed}-fold{fold}"

    def trained(self, training: str, fold: int) -> bool:
        return (self.folder(training, fold) / "model" / "card.yaml").exists()

    def train(self, training: str, fold: int) -> None:
        """Continue one training to its end."""
        folder = self.folder(training, fold)
        if not self.trained(training, fold):
            finetune(
                self.recipe(training),
                self.cache,
                [i for i in self.cache.ids() if i not in self.test(fold)],
                folder,
                None,
                self.device,
                self.workers,
            )
            (folder / "checkpoint.pt").unlink(missing_ok=True)
            shutil.rmtree(folder / "tensorboard", ignore_errors=True)

    def prepare(self, data: Path) -> None:
        """Fill the cache."""
        from slem_app.finetune.cases import cache_cases
        from slem_app.studies import open_source

        card = self.recipe("complete").card
        report = cache_cases(
            open_source(data),
            self.cache,
            card.sequences,
            card.preparation,
            card.labels,
            lambda case: print("prepared", case, flush=True),
        )
        for case, reason in report.skipped.items():
            print(f"left out {case}: {reason}")

    def score(self, arm: str, fold: int, data: Path) -> Iterator[dict[str, object]]:
        """A row for every test case and subset."""
        from slem_app.evaluate.scores import region_scores  # needs MONAI, which a training server lacks
        from slem_app.finetune.cases import truth
        from slem_app.studies import open_source

        predictor = Predictor(load_model(self.folder(ARMS[arm], fold) / "model", self.device), self.device)
        card, source = predictor.card, open_source(data)
        for case in self.test(fold):
            cached = self.cache.load(case)
            expected, grid = truth(source.study(case), card.labels)
            # nothing is found outside the prepared head, and no label lies there
            box = covering(cached.grid, grid)
            if np.count_nonzero(expected[box]) != np.count_nonzero(expected):
                raise ValueError(f"{case}: labels outside the prepared head")
            expected, grid = (
                expected[box],
                grid.crop(tuple(s.start for s in box), tuple(s.stop - s.start for s in box)),
            )
            for subset, flags in subsets(card.sequences):
                here = np.array(flags)
                images = np.where(here[:, None, None, None], np.array(cached.images, dtype=np.float32), 0)
                seen = np.ones_like(here) if arm == "zeros" else here
                found = predictor.predict(Prepared(images, seen, card.sequences, cached.grid, grid)).array
                scores = region_scores(found, expected, grid, card.labels, surface=False)
                yield dict(zip(KEY, (self.setting, arm, self.seed, fold, case, subset), strict=True)) | {
                    r: round(scores[r], 4) for r in REGIONS
                }


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of all settings; none if the file is not there."""
    return list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []


def add_rows(rows: Sequence[Mapping[str, object]], path: Path) -> None:
    """Put rows into the file of all settings, in place of older ones of the same kind."""

    def key(row: Mapping[str, object]) -> tuple[str, ...]:
        return tuple(str(row[c]) for c in KEY)

    both = {key(row): row for row in [*read_rows(path), *rows]}
    with path.with_suffix(".new").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(both[k] for k in sorted(both))
    path.with_suffix(".new").replace(path)


def _prepare(bench: Bench, asked: argparse.Namespace) -> None:
    bench.prepare(asked.data)


def _train(bench: Bench, asked: argparse.Namespace) -> None:
    begun = time.monotonic()
    for fold, training in itertools.product(asked.folds, asked.trainings):
        if time.monotonic() - begun > 60 * asked.minutes:
            print(f"{asked.minutes:g} minutes are over: call again to continue")
            return
        bench.train(training, fold)
        print(f"fold {fold} {training}", flush=True)


def _score(bench: Bench, asked: argparse.Namespace) -> None:
    path = asked.results / "missing.csv"
    known = {(row["setting"], row["arm"], row["seed"], row["fold"]) for row in read_rows(path)}
    for fold, arm in itertools.product(asked.folds, ARMS):
        if bench.trained(ARMS[arm], fold) and (bench.setting, arm, str(bench.seed), str(fold)) not in known:
            rows = list(bench.score(arm, fold, asked.data))
            add_rows(rows, path)
            print(
                f"fold {fold} {arm}:",
                " ".join(f"{r} {np.mean([row[r] for row in rows]):.3f}" for r in REGIONS),
                flush=True,
            )


def _table(bench: Bench, asked: argparse.Namespace) -> None:
    import missing_table
    from page import commit, write_page

    shared = SETTINGS[bench.setting]
    where = f"{date.today()}, commit {commit()}, {platform.machine()}, torch {torch.__version__}"
    about = f"{shared.about}; {shared.folds} folds; {shared.surrounding}"
    text = missing_table.text(
        read_rows(asked.results / "missing.csv"), bench.setting, about, where, shared.folds
    )
    path = asked.results / ("missing.md" if bench.setting == "small" else f"missing_{bench.setting}.md")
    print(write_page(path, text))


STAGES = {"prepare": _prepare, "train": _train, "score": _score, "table": _table}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one stage."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--setting", choices=SETTINGS, default="small")
    parser.add_argument("--data", type=Path, help="folder of labelled studies, for prepare and score")
    parser.add_argument("--runs", type=Path, default=Path("runs/missing"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--folds", nargs="+", type=int)
    parser.add_argument("--trainings", nargs="+", choices=KEEP, default=tuple(KEEP))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no training after so long")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0)
    asked = parser.parse_args(arguments)
    if asked.threads:
        torch.set_num_threads(asked.threads)
    if asked.stage in ("prepare", "score") and asked.data is None:
        parser.error(f"{asked.stage} needs --data")
    asked.folds = asked.folds or range(SETTINGS[asked.setting].folds)
    STAGES[asked.stage](Bench(asked.setting, asked.runs, asked.seed, asked.device, asked.workers), asked)


if __name__ == "__main__":
    main()
