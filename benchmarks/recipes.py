"""Which recipe of fine-tuning is better? Arms side by side: the same cases, folds, seeds and network passes.

    python benchmarks/recipes.py prepare --setting large --data ../shared/data/brats --runs runs/recipes
    python benchmarks/recipes.py train   --setting large --runs runs/recipes --arms old new --folds 0 1
    python benchmarks/recipes.py score   --setting large --data ../shared/data/brats --runs runs/recipes
    python benchmarks/recipes.py table

Six folds by patient, each with its share of cases without and with little enhancing tumour. Every stage
continues where it was stopped. `train` also predicts the test cases, with all 15 sets of sequences; `score`
compares them with the truth on the images' own grid. A missing sequence is taken away from the prepared case.

On a machine that has python 3.12 and torch but neither the scans nor their readers (see gpu.md):

    python benchmarks/recipes.py pack   --setting large --runs runs/recipes --pack runs/large.tar.xz   # here
    python benchmarks/recipes.py unpack --setting large --runs RUNS --pack runs/large.tar.xz           # there
    python benchmarks/recipes.py train  --setting large --runs RUNS --arms old new --beside --minutes 8
    python benchmarks/recipes.py out    --setting large --runs RUNS --arms old new --models new --out OUT
    python benchmarks/recipes.py into   --setting large --runs runs/recipes --out OUT                # here

`--beside` trains all units at once, a process each, under MPS where there is a GPU. The fold `all` leaves
nothing out: the model to be bundled. The fold `apart` leaves out the six cases that most tables are of.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from recipes_arms import ARMS, SETTINGS
from recipes_bench import APART, EVERY_CASE, KEY, REGIONS, Bench, Unit

RESULTS = Path(__file__).parent / "results"
COLUMNS = (*KEY, "steps", *REGIONS, *(f"{r}{kind}" for r in REGIONS for kind in ("_ml", "_true_ml")))


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of all settings; none if the file is not there."""
    return list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []


def add_rows(rows: Sequence[Mapping[str, object]], path: Path) -> None:
    """Put rows into the file of all settings, in place of older ones of the same unit, case and subset."""

    def key(row: Mapping[str, object]) -> tuple[str, ...]:
        return tuple(str(row[c]) for c in KEY)

    both = {key(row): row for row in [*read_rows(path), *rows]}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".new").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(both[k] for k in sorted(both))
    path.with_suffix(".new").replace(path)


def units(bench: Bench, asked: argparse.Namespace) -> list[Unit]:
    """Fold by fold, so that every piece is a comparison of the arms."""
    wanted = asked.folds or [str(k) for k in range(bench.shared.folds)]
    return [
        Unit(arm, seed, fold)
        for seed in asked.seeds
        for fold in wanted
        for arm in asked.arms or ("old", "new")
    ]


def _train(bench: Bench, asked: argparse.Namespace) -> None:
    begun, todo = time.monotonic(), [u for u in units(bench, asked) if not bench.finished(u)]
    if asked.beside:
        _beside(bench, todo, asked)
        return
    for unit in todo:
        if time.monotonic() - begun > 60 * asked.minutes:
            print(f"{asked.minutes:g} minutes are over: call again to continue")
            return
        bench.train(unit)
        print(unit.name, f"{time.monotonic() - begun:.0f} s", flush=True)


def _beside(bench: Bench, todo: Sequence[Unit], asked: argparse.Namespace) -> None:
    """All units at once, each in a process of its own; what is not done in time is ended, its last checkpoint
    kept.
    """
    begun, environment = time.monotonic(), {**os.environ, "OMP_NUM_THREADS": "1"}
    mps = bench.device.startswith("cuda") and shutil.which("nvidia-cuda-mps-control")
    if mps:
        environment |= {"CUDA_MPS_PIPE_DIRECTORY": "/tmp/mps", "CUDA_MPS_LOG_DIRECTORY": "/tmp/mps"}
        Path("/tmp/mps").mkdir(exist_ok=True)
        subprocess.run(["nvidia-cuda-mps-control", "-d"], env=environment, check=False)
    running = {}
    for unit in todo:
        log = bench.place(unit) / "log.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            running[unit] = subprocess.Popen(
                _alone(bench, unit), env=environment, stdout=file, stderr=subprocess.STDOUT
            )
    while any(p.poll() is None for p in running.values()) and time.monotonic() - begun < 60 * asked.minutes:
        time.sleep(1)
    for process in running.values():
        if process.poll() is None:
            process.terminate()
            process.wait()
    if mps:
        subprocess.run(["nvidia-cuda-mps-control"], input=b"quit", env=environment, check=False)
    for unit in todo:
        tail = (bench.place(unit) / "log.txt").read_text(errors="replace")[-300:]
        print(unit.name, "done" if bench.finished(unit) else f"NOT done: {tail}", flush=True)
    print(f"{time.monotonic() - begun:.0f} s", flush=True)


def _alone(bench: Bench, unit: Unit) -> list[str]:
    """The command that trains one unit."""
    return [
        *(sys.executable, __file__, "train", "--setting", bench.setting, "--runs", str(bench.runs)),
        *("--arms", unit.arm, "--folds", unit.fold, "--seeds", str(unit.seed), "--device", bench.device),
        *("--workers", str(bench.workers), "--steps", str(bench.steps), "--parent", bench.parent),
        *("--threads", "1"),
    ]


def _score(bench: Bench, asked: argparse.Namespace) -> None:
    path = asked.results / "recipes.csv"
    known = {tuple(row[c] for c in KEY[:4]) for row in read_rows(path)}
    for unit in units(bench, asked):
        named = (bench.setting, unit.arm, str(unit.seed), unit.fold)
        if unit.fold != EVERY_CASE and bench.predicted(unit).exists() and named not in known:
            rows = list(bench.score(unit, asked.data))
            add_rows(rows, path)
            means = (f"{r} {sum(float(row[r]) for row in rows) / len(rows):.3f}" for r in REGIONS)
            print(unit.name, "mean over subsets", *means, flush=True)


def _pack(bench: Bench, asked: argparse.Namespace) -> None:
    print(f"{bench.pack(asked.pack) / 2**20:.1f} MiB in {asked.pack}")


def _out(bench: Bench, asked: argparse.Namespace) -> None:
    bench.out(units(bench, asked), asked.models, asked.out)
    for path in sorted(asked.out.glob("*.tar")):
        print(f"{path.name} {path.stat().st_size / 2**20:.1f} MiB")


def _table(bench: Bench, asked: argparse.Namespace) -> None:
    from page import write_page
    from recipes_table import text

    rows = [row for row in read_rows(asked.results / "recipes.csv") if row["setting"] == bench.setting]
    print(write_page(asked.results / f"recipes_{bench.setting}.md", text(rows, bench.setting)))


STAGES = {
    "prepare": lambda bench, asked: bench.prepare(asked.data),
    "pack": _pack,
    "unpack": lambda bench, asked: bench.unpack(asked.pack),
    "train": _train,
    "out": _out,
    "into": lambda bench, asked: bench.into(asked.out),
    "score": _score,
    "table": _table,
}
NEEDS = {
    "prepare": "data",
    "score": "data",
    "pack": "pack",
    "unpack": "pack",
    "out": "out",
    "into": "out",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one stage."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--setting", choices=SETTINGS, default="large")
    parser.add_argument("--data", type=Path, help="folder of labelled studies, for prepare and score")
    parser.add_argument("--runs", type=Path, default=Path("runs/recipes"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--arms", nargs="+", choices=ARMS, help="default: old new")
    parser.add_argument("--folds", nargs="+", help=f"numbers, {APART} or {EVERY_CASE}; default: all numbers")
    parser.add_argument("--seeds", nargs="+", type=int, default=(0,))
    parser.add_argument("--steps", type=int, default=0, help="default: the setting's")
    parser.add_argument("--parent", default="", help="encoder or model to start from; {fold} is put in")
    parser.add_argument("--beside", action="store_true", help="all at once, a process each")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin, or wait, no longer")
    parser.add_argument("--pack", type=Path, help="the .tar.xz, for pack and unpack")
    parser.add_argument("--out", type=Path, help="folder of what comes back, for out and into")
    parser.add_argument("--models", nargs="+", choices=ARMS, default=(), help="out: models of these arms")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0)
    asked = parser.parse_args(arguments)
    if asked.threads:
        torch.set_num_threads(asked.threads)
    needed = NEEDS.get(asked.stage)
    if needed and getattr(asked, needed) is None:
        parser.error(f"{asked.stage} needs --{needed}")
    bench = Bench(asked.setting, asked.runs, asked.device, asked.workers, asked.steps, asked.parent)
    STAGES[asked.stage](bench, asked)


if __name__ == "__main__":
    main()
