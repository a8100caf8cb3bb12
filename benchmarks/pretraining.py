"""Does pre-training without labels make a few labels go further? Every pretext x {CFB, plain block} x
labelled cases x seeds x folds.

    bench="python benchmarks/pretraining.py"
    $bench prepare --setting small --data ../shared/data/brats --runs runs/pretraining
    $bench train   --setting small --runs runs/pretraining [--arms slem scratch] [--minutes 9] ...
    $bench score   --setting small --data ../shared/data/brats --runs runs/pretraining
    $bench table   --setting small  # pretraining_table.py, from results/pretraining.csv, all its settings

The same on another organ's cases, in a table of its own (results/pretraining_abdomen.csv): a setting names
its recipe and its table.

    slem demo runs/phantoms --cases 16 --body abdomen
    $bench prepare --setting abdomen_tiny --data runs/phantoms --runs runs/pretraining
    # then train, score, table

Everything continues where it was stopped and runs in pieces: by arms, labels, seeds and folds, and for so
many minutes. `train`, `cost` and `weights` need only the prepared cache and torch, numpy, scipy, safetensors,
pyyaml, tqdm and tensorboard, so they run on a GPU machine that has neither the scans nor MONAI; `score` then
compares what they predicted with the truth on the images' own grid.

Within a setting all arms have the same network, data, fine-tuning steps, augmentation and seeds; only the
initial weights differ, or the block at the bottleneck: cfb 1 is the contextual fusion block, cfb 0 a plain
residual block of as many weights. Pre-training sees the images of the fold's training cases and never those
of its test cases; fine-tuning sees n of the training cases, nested (the 4 are among the 8). Rates are the
recipes' and were tuned for no arm.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from pretraining_arms import ARMS, EVERY, SETTINGS, VARIANTS
from pretraining_bench import CURVES, KEY, Bench, Truths, Unit

from slem_app.finetune.run import finetune
from slem_app.pretext.run import pretrain
from slem_app.weights import load_pretrained

RESULTS = Path(__file__).parent / "results"


def units(bench: Bench, asked: argparse.Namespace) -> list[Unit]:
    """In an order in which every piece is a comparison: few labels first, then seeds, folds, blocks, and the
    arms innermost.
    """
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


def write(
    rows: Sequence[Mapping[str, object]], path: Path, columns: Sequence[str], keys: int = len(KEY)
) -> None:
    """Put rows into a table, in place of older ones whose first `keys` columns are the same.

    Raises:
        ValueError: the table holds other columns, e.g. another organ's.
    """

    def key(row: Mapping[str, object]) -> tuple[str, ...]:
        return tuple(str(row[c]) for c in columns[:keys])

    old = read_rows(path)
    if old and tuple(old[0]) != tuple(columns):
        raise ValueError(
            f"{path} holds the columns {', '.join(old[0])}, the new rows {', '.join(columns)}: give them "
            f"a table of their own, --results"
        )
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


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one stage."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=("prepare", "train", "score", "cost", "weights", "table"))
    parser.add_argument("--setting", choices=SETTINGS, default="small")
    parser.add_argument("--data", type=Path, help="folder of labelled studies, for prepare and score")
    parser.add_argument("--runs", type=Path, default=Path("runs/pretraining"))
    parser.add_argument(
        "--arms",
        nargs="+",
        choices=EVERY,
        metavar="ARM",
        help=f"default: {' '.join(ARMS)}; also {' '.join(VARIANTS)}, each also as ARM_probe",
    )
    parser.add_argument("--cfb", nargs="+", type=int, choices=(0, 1), default=(1, 0))
    parser.add_argument("--labels", nargs="+", type=int)
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument(
        "--folds", nargs="+", type=int, help="run folds side by side in processes of their own"
    )
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin nothing new after so long")
    parser.add_argument("--times", type=int, default=1, help="weights: how many times the setting's steps")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument(
        "--results", type=Path, help="table of every case; default: results/TABLE.csv of the setting"
    )
    asked = parser.parse_args(arguments)
    if asked.threads:
        torch.set_num_threads(asked.threads)
    bench = Bench(asked.setting, asked.runs, asked.device, asked.workers)
    asked.results = asked.results or RESULTS / f"{bench.shared.table}.csv"
    if asked.stage in ("prepare", "score") and asked.data is None:
        parser.error(f"{asked.stage} needs --data")
    STAGES[asked.stage](bench, asked)


def _train(bench: Bench, asked: argparse.Namespace) -> None:
    begun, scored = time.monotonic(), known(bench, asked.results)
    # rows outlive the runs that they came from
    todo = [unit for unit in units(bench, asked) if unit not in scored]
    for number, unit in enumerate(todo, 1):
        if time.monotonic() - begun > 60 * asked.minutes:
            print(
                f"{asked.minutes:g} minutes are over: {number - 1} of {len(todo)} done; call again to "
                f"continue"
            )
            return
        bench.train(unit)
        print(f"{number}/{len(todo)} {unit.name}", flush=True)


def known(bench: Bench, results: Path) -> set[Unit]:
    """What the table has already."""
    rows = [row for row in read_rows(results) if row["setting"] == bench.setting]
    return {Unit(row["arm"], *(int(row[name]) for name in ("cfb", "labels", "seed", "fold"))) for row in rows}


def _score(bench: Bench, asked: argparse.Namespace) -> None:
    truths, scored = Truths(asked.data, bench.labels), known(bench, asked.results)
    write(bench.curves(), beside(asked.results, "curves"), CURVES, 6)
    for unit in units(bench, asked):
        if unit not in scored and (bench.folder / "finetune" / unit.name / "predicted.npz").exists():
            rows = bench.score(unit, truths)
            write(rows, asked.results, bench.columns)
            sizes = [
                dict(zip(bench.sizes, (row["case"], round(truths.volume_ml(row["case"]), 1)), strict=True))
                for row in rows
            ]
            write(sizes, beside(asked.results, "sizes"), bench.sizes, 1)
            print(
                unit.name,
                " ".join(f"{r} {np.mean([row[r] for row in rows]):.3f}" for r in bench.regions),
                flush=True,
            )


def _cost(bench: Bench, asked: argparse.Namespace) -> None:
    rows = list(bench.cost(asked.arms or list(ARMS)))
    with beside(asked.results, f"cost_{bench.setting}").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        print(row)


def _weights(bench: Bench, asked: argparse.Namespace) -> None:
    """What is bundled: the encoder pre-trained on every case, and the model fine-tuned from it on
    every case.
    """
    arm, ids = (asked.arms or ["slem_restore"])[0], bench.cache.ids()
    folder = bench.folder / "weights" / arm
    parent = None
    if EVERY[arm].recipe:
        first = bench.pretext_recipe(arm, 1, 0)
        first = replace(first, settings=replace(first.settings, steps=asked.times * first.settings.steps))
        pretrain(first, bench.cache, ids, folder / "pretext", (), bench.device, bench.workers)
        parent = load_pretrained(folder / "pretext" / "model")
    recipe = bench.finetune_recipe(arm, 1, 0)
    recipe = replace(recipe, settings=replace(recipe.settings, steps=asked.times * recipe.settings.steps))
    finetune(recipe, bench.cache, ids, folder / "finetune", parent, bench.device, bench.workers)
    print(f"encoder in {folder / 'pretext' / 'model'}, model in {folder / 'finetune' / 'model'}")


def _table(bench: Bench, asked: argparse.Namespace) -> None:
    from pretraining_table import report

    report(asked.results, {name: setting.about for name, setting in SETTINGS.items()}, bench.regions)


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
