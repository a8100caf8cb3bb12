"""Does pre-training without labels make a few labels go further? Every pretext x {CFB, plain block} x labelled cases x seeds x folds.

    python benchmarks/pretraining.py prepare --setting small --data ../shared/data/brats --runs runs/pretraining
    python benchmarks/pretraining.py train   --setting small --runs runs/pretraining [--arms slem scratch] [--minutes 9] ...
    python benchmarks/pretraining.py score   --setting small --data ../shared/data/brats --runs runs/pretraining
    python benchmarks/pretraining.py table                   # pretraining_table.py, from results/pretraining.csv

Everything continues where it was stopped and runs in pieces: by arms, labels, seeds and folds, and for so many minutes. `train`, `cost`
and `weights` need only the prepared cache and torch, numpy, scipy, safetensors, pyyaml, tqdm and tensorboard, so they run on a GPU
machine that has neither the scans nor MONAI; `score` then compares what they predicted with the truth on the images' own grid.

Within a setting all arms have the same network, data, fine-tuning steps, augmentation and seeds; only the initial weights differ, or the
block at the bottleneck: cfb 1 is the contextual fusion block, cfb 0 a plain residual block of as many weights. Pre-training sees the images
of the fold's training cases and never those of its test cases; fine-tuning sees n of the training cases, nested (the 4 are among the 8).
Rates are the recipes' and were tuned for no arm.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from pretraining_arms import ARMS, EVERY, SETTINGS, VARIANTS, Setting

from slem_app.finetune.recipe import Recipe as FinetuneRecipe
from slem_app.finetune.recipe import load_recipe as load_finetune
from slem_app.finetune.run import finetune
from slem_app.network import parameters
from slem_app.predict import Predictor
from slem_app.pretext.recipe import Recipe as PretextRecipe
from slem_app.pretext.recipe import load_recipe as load_pretext
from slem_app.pretext.run import pretrain
from slem_app.regions import restore
from slem_app.training.state import Curve
from slem_app.types import Grid
from slem_app.volumes.cache import CaseCache
from slem_app.volumes.prepare import Prepared
from slem_app.weights import load_model, load_pretrained
from slem_app.weights.fields import merge, to_table

RESULTS = Path(__file__).parent / "results" / "pretraining.csv"
COLUMNS = ("setting", "arm", "cfb", "labels", "seed", "fold", "case", "wt", "tc", "et", "hd95_wt", "hd95_tc", "hd95_et")
CURVES = ("setting", "arm", "cfb", "seed", "fold", "step", "loss", "score", "chance")
SIZES = ("case", "wt_ml")


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
        """The brain recipe with the setting's and the arm's differences."""
        recipe, this = load_finetune("brain"), EVERY[arm]
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
        changes = merge(to_table(load_pretext("slem").settings), {**self.shared.pretext, "seed": seed}, "setting")
        changes["steps"] *= this.pop("longer", 1)
        preparation = to_table(replace(load_finetune("brain").card.preparation, **self.shared.preparation))
        return load_pretext(EVERY[arm].recipe, network=self.network(cfb), preparation=preparation, **this, **changes)

    def pretrained(self, arm: str, cfb: int, seed: int, fold: int) -> Path | None:
        """The folder of the encoder that an arm starts from, trained if it is not there yet; None for scratch."""
        this = EVERY[arm]
        if not this.recipe:
            return None
        seed = seed if self.shared.pretext_per_seed else 0
        same = next(name for name, other in EVERY.items() if (other.recipe, other.pretext) == (this.recipe, this.pretext))  # arms may share it
        folder = self.folder / "pretext" / f"{same}-cfb{cfb}-seed{seed}-fold{fold}"
        if not (folder / "model" / "encoder.yaml").exists():
            train, test = self.fold(fold)
            start = time.perf_counter()
            report = pretrain(self.pretext_recipe(arm, cfb, seed), self.cache, train, folder, test, self.device, self.workers)
            figures = {**report.measured.figures, "seconds": time.perf_counter() - start, "speed": report.outcome.throughput()}
            confusion = report.measured.confusion.tolist() if report.measured.confusion is not None else []
            (folder / "measured.json").write_text(json.dumps({**figures, "confusion": confusion}, indent=1))
            _tidy(folder)
        return folder / "model"

    def train(self, unit: Unit) -> None:
        """Pre-train if need be, fine-tune, predict the fold's test cases; what was done before is not done again."""
        folder = self.folder / "finetune" / unit.name
        if (folder / "predicted.npz").exists():
            return
        parent = self.pretrained(unit.arm, unit.cfb, unit.seed, unit.fold)
        recipe = self.finetune_recipe(unit.arm, unit.cfb, unit.seed)
        finetune(recipe, self.cache, self.labelled(unit), folder, load_pretrained(parent) if parent else None, self.device, self.workers)
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
        from slem_app.finetune.scores import region_scores  # needs MONAI, which a training server lacks

        card = self.finetune_recipe(unit.arm, unit.cfb, unit.seed).card
        rows = []
        with np.load(self.folder / "finetune" / unit.name / "predicted.npz") as file:
            predicted = {case: file[case].astype(np.float32) / 255 for case in file.files}
        for case, probabilities in predicted.items():
            expected, grid = truths[case]
            found = restore(probabilities, self.cache.load(case).grid, grid, card.labels, card.postprocess)
            scores = region_scores(found, expected, grid, card.labels)
            row = {"setting": self.setting, "arm": unit.arm, "cfb": unit.cfb, "labels": unit.labels, "seed": unit.seed, "fold": unit.fold, "case": case}
            rows.append(row | {name.lower(): round(value, 4) for name, value in scores.items()})
        return rows

    def curves(self) -> list[dict[str, object]]:
        """The pretexts' figures on each fold's test cases while they were trained, a row a checkpoint; the arm is the first that shares the run."""
        rows = []
        for path in sorted((self.folder / "pretext").glob("*/measured.csv")):
            arm, cfb, seed, fold = path.parent.name.rsplit("-", 3)
            run = {"setting": self.setting, "arm": arm, "cfb": cfb[len("cfb") :], "seed": seed[len("seed") :], "fold": fold[len("fold") :]}
            rows += [run | {name: row[name] for name in CURVES[5:]} for row in Curve.read(path)]
        return rows

    def prepare(self, data: Path) -> None:
        """Fill the cache with the labelled cases, and with the supervoxels."""
        from slem_app.finetune.cases import cache_cases
        from slem_app.pretext.samples import annotate
        from slem_app.studies import open_source

        card = self.finetune_recipe("scratch", 1, 0).card
        report = cache_cases(open_source(data), self.cache, card.sequences, card.preparation, card.labels, lambda case: print("prepared", case, flush=True))
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
            outcome = pretrain(quick, self.cache, self.fold(0)[0], folder, (), self.device, self.workers, progress=False).outcome
            yield {
                "task": arm,
                "seconds a step": round(outcome.seconds / steps, 3),
                "of which waiting for data": round(outcome.waited / steps, 3),
                "weights (M)": round(parameters(outcome.network) / 1e6, 2),
            }


class Truths(dict):
    """Case -> its truth on its own grid, read when asked for."""

    def __init__(self, data: Path) -> None:
        super().__init__()
        from slem_app.studies import open_source

        self.source, self.labels = open_source(data), load_finetune("brain").card.labels

    def __missing__(self, case: str) -> tuple[np.ndarray, Grid]:
        from slem_app.finetune.cases import truth

        self[case] = truth(self.source.study(case), self.labels)
        return self[case]


    def volume_ml(self, case: str) -> float:
        """Of the whole tumour."""
        labels, grid = self[case]
        return float((labels > 0).sum() * abs(np.linalg.det(grid.affine[:3, :3])) / 1000)


def units(bench: Bench, asked: argparse.Namespace) -> list[Unit]:
    """In an order in which every piece is a comparison: few labels first, then seeds, folds, blocks, and the arms innermost."""
    shared = bench.shared
    return [
        Unit(arm, cfb, labels, seed, fold)
        for seed in asked.seeds or shared.seeds
        for labels in asked.labels or shared.labels
        for fold in asked.folds or range(shared.folds)
        for cfb in asked.cfb
        for arm in asked.arms or ARMS
    ]


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of the table of all settings; none if it is not there."""
    return list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []


def write(rows: Sequence[Mapping[str, object]], path: Path = RESULTS, columns: Sequence[str] = COLUMNS, keys: int = 7) -> None:
    """Put rows into a table, in place of older ones whose first `keys` columns are the same."""
    key = lambda row: tuple(str(row[c]) for c in columns[:keys])  # noqa: E731
    old = read_rows(path)
    both = {key(row): row for row in [*old, *rows]}
    path.parent.mkdir(exist_ok=True)
    new = path.with_suffix(".new")
    with new.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(both[k] for k in sorted(both))
    new.replace(path)


def beside(results: Path, what: str) -> Path:
    """The file of a further table: pretraining.csv -> pretraining_WHAT.csv."""
    return results.with_name(f"{results.stem}_{what}.csv")


def _tidy(folder: Path) -> None:
    """A finished run needs neither its checkpoint nor its event files: thousands of them fill a disk."""
    (folder / "checkpoint.pt").unlink(missing_ok=True)
    shutil.rmtree(folder / "tensorboard", ignore_errors=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("prepare", "train", "score", "cost", "weights", "table"))
    parser.add_argument("--setting", choices=SETTINGS, default="small")
    parser.add_argument("--data", type=Path, help="folder of labelled studies, for prepare and score")
    parser.add_argument("--runs", type=Path, default=Path("runs/pretraining"))
    parser.add_argument("--arms", nargs="+", choices=EVERY, metavar="ARM", help=f"default: {' '.join(ARMS)}; also {' '.join(VARIANTS)}, each also as ARM_probe")
    parser.add_argument("--cfb", nargs="+", type=int, choices=(0, 1), default=(1, 0))
    parser.add_argument("--labels", nargs="+", type=int)
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--folds", nargs="+", type=int, help="run folds side by side in processes of their own")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin nothing new after so long")
    parser.add_argument("--times", type=int, default=1, help="weights: how many times the setting's steps")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS)
    asked = parser.parse_args(arguments)
    if asked.threads:
        torch.set_num_threads(asked.threads)
    bench = Bench(asked.setting, asked.runs, asked.device, asked.workers)
    if asked.stage in ("prepare", "score") and asked.data is None:
        parser.error(f"{asked.stage} needs --data")
    STAGES[asked.stage](bench, asked)


def _train(bench: Bench, asked: argparse.Namespace) -> None:
    begun, scored = time.monotonic(), known(bench, asked.results)
    todo = [unit for unit in units(bench, asked) if unit not in scored]  # rows outlive the runs that they came from
    for number, unit in enumerate(todo, 1):
        if time.monotonic() - begun > 60 * asked.minutes:
            print(f"{asked.minutes:g} minutes are over: {number - 1} of {len(todo)} done; call again to continue")
            return
        bench.train(unit)
        print(f"{number}/{len(todo)} {unit.name}", flush=True)


def known(bench: Bench, results: Path) -> set[Unit]:
    """What the table has already."""
    rows = [row for row in read_rows(results) if row["setting"] == bench.setting]
    return {Unit(row["arm"], *(int(row[name]) for name in ("cfb", "labels", "seed", "fold"))) for row in rows}


def _score(bench: Bench, asked: argparse.Namespace) -> None:
    truths, scored = Truths(asked.data), known(bench, asked.results)
    write(bench.curves(), beside(asked.results, "curves"), CURVES, 6)
    for unit in units(bench, asked):
        if unit not in scored and (bench.folder / "finetune" / unit.name / "predicted.npz").exists():
            rows = bench.score(unit, truths)
            write(rows, asked.results)
            write([{"case": row["case"], "wt_ml": round(truths.volume_ml(row["case"]), 1)} for row in rows], beside(asked.results, "sizes"), SIZES, 1)
            print(unit.name, " ".join(f"{r} {np.mean([row[r] for row in rows]):.3f}" for r in ("wt", "tc", "et")), flush=True)


def _cost(bench: Bench, asked: argparse.Namespace) -> None:
    rows = list(bench.cost(asked.arms or list(ARMS)))
    with beside(asked.results, f"cost_{bench.setting}").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        print(row)


def _weights(bench: Bench, asked: argparse.Namespace) -> None:
    """What is bundled: the encoder pre-trained on every case, and the model fine-tuned from it on every case."""
    arm, ids = (asked.arms or ["slem_restore"])[0], bench.cache.ids()
    folder = bench.folder / "weights" / arm
    parent = None
    if EVERY[arm].recipe:
        first = bench.pretext_recipe(arm, 1, 0)
        first = replace(first, settings=replace(first.settings, steps=asked.times * first.settings.steps))
        pretrain(first, bench.cache, ids, folder / "pretext", (), bench.device, bench.workers, card=replace(first.card(), name="slem_brain_ssl"))
        parent = load_pretrained(folder / "pretext" / "model")
    recipe = bench.finetune_recipe(arm, 1, 0)
    recipe = replace(recipe, settings=replace(recipe.settings, steps=asked.times * recipe.settings.steps))
    finetune(recipe, bench.cache, ids, folder / "finetune", parent, bench.device, bench.workers)
    print(f"encoder in {folder / 'pretext' / 'model'}, model in {folder / 'finetune' / 'model'}")


def _table(bench: Bench, asked: argparse.Namespace) -> None:
    from pretraining_table import report

    report(asked.results, {name: setting.about for name, setting in SETTINGS.items()})


STAGES = {
    "prepare": lambda bench, asked: bench.prepare(asked.data),
    "train": _train,
    "score": _score,
    "cost": _cost,
    "weights": _weights,
    "table": _table,
}

if __name__ == "__main__":
    main()
