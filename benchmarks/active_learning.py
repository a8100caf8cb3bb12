"""Does it matter which case is labelled next? Simulated annotation from 2 to 12 labelled cases, every
strategy, several seeds and folds.

    python benchmarks/active_learning.py --data ../shared/data/brats --runs runs/active_learning --minutes 60
    python benchmarks/active_learning.py --runs runs/active_learning --table  # the table alone, from the CSV

Everything continues where it was stopped and runs in pieces: by strategies, seeds and folds, and for so many
minutes (nothing new is begun after them; call again). All of `tiny` takes about 100 minutes of one idle core
(`--setting tiny --threads 1`; a round takes 16 s of processor time). All of `small` takes about 5 hours on 2
idle cores (84 runs of 6 rounds; guess from single rounds); with `nice -n 10` it stays out of the way of other
work. On a GPU: `--setting large --device cuda --workers 14` (guess: 6 hours; begin with
`--seeds 0 --folds 0`). To see that it works, in a minute: `--setting smoke --strategies random balanced`.

Within a fold the test cases are never chosen from. A run begins with 2 random cases (the same for all
strategies of a seed), trains, is scored on the test cases, asks the strategy of the server
(`slem_app.selection`) for the next 2, and goes on from the weights it has with all labelled cases. Scores are
Dice on the network's grid. The area under the learning curve is the mean Dice of WT, TC and ET over the
number of labelled cases, 0 to 1. Its interval is by bootstrap over runs (seed and fold), since the test cases
of a run share one model.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from active_learning_arms import ARMS, SETTINGS
from active_learning_table import report
from page import write_page
from pretraining import Bench, read_rows
from pretraining_arms import SETTINGS as TRAINING

from slem_app.evaluate.scores import region_scores
from slem_app.files import atomic_file
from slem_app.finetune.run import finetune
from slem_app.predict import Predictor
from slem_app.regions import PostProcess, decide
from slem_app.selection import LabelMap, Measures, Pool, choices, measure
from slem_app.volumes.cache import CachedCase
from slem_app.volumes.prepare import Prepared
from slem_app.weights import load_model

RESULTS = Path(__file__).parent / "results" / "active_learning.csv"
COLUMNS = (
    "setting",
    "strategy",
    "seed",
    "fold",
    "round",
    "labelled",
    "case",
    "wt",
    "tc",
    "et",
    "train_s",
    "measure_s",
    "chosen",
)


@dataclass(frozen=True)
class Run:
    """One simulated annotation."""

    strategy: str
    """Name in STRATEGIES."""
    seed: int
    """Of cases, patches and draws."""
    fold: int
    """Which cases are tested."""


@dataclass(frozen=True)
class Round:
    """One round that is done."""

    labelled: tuple[str, ...]
    """Cases that it was trained on."""
    scores: Mapping[str, Mapping[str, float]]
    """Test case -> region -> Dice."""
    train_s: float
    """Seconds of the training."""
    measure_s: float = 0.0
    """Seconds of measuring and choosing."""
    chosen: tuple[str, ...] = ()
    """What is labelled next."""


class Simulation:
    """All runs of one setting."""

    def __init__(self, setting: str, runs: Path, device: str = "cpu", workers: int = 0) -> None:
        self.name, self.setting, self.device, self.workers = setting, SETTINGS[setting], device, workers
        self.bench = Bench(setting, runs, device, workers)
        self.card = self.bench.finetune_recipe("scratch", 1, 0).card

    def prepare(self, data: Path) -> None:
        """Fill the cache with the labelled cases."""
        from slem_app.finetune.cases import cache_cases
        from slem_app.studies import open_source

        report = cache_cases(
            open_source(data), self.bench.cache, self.card.sequences, self.card.preparation, self.card.labels
        )
        for case, reason in report.skipped.items():
            print(f"left out {case}: {reason}")

    def folder(self, run: Run, number: int) -> Path:
        """Of one round; the first one belongs to all strategies."""
        return (
            self.bench.folder
            / f"{run.strategy if number else 'start'}-seed{run.seed}-fold{run.fold}"
            / f"round{number}"
        )

    def round(self, run: Run, number: int) -> Round | None:
        """A round that is done."""
        path = self.folder(run, number) / (f"{run.strategy}.json")
        return _read_round(path) if path.is_file() else None

    def do(self, run: Run, number: int) -> Round:
        """Train, score and choose; what an interrupted call has finished of it is not done again."""
        folder, pool = self.folder(run, number), self.bench.fold(run.fold)[0]
        labelled = (
            self._first(run, pool)
            if number == 0
            else (*self.round(run, number - 1).labelled, *self.round(run, number - 1).chosen)
        )
        done = self._trained(run, number, labelled)
        begin = time.perf_counter()
        last = number + 1 == self.setting.rounds or len(labelled) == len(pool)
        chosen = () if last else self._choose(run, number, labelled)
        result = replace(done, measure_s=time.perf_counter() - begin, chosen=chosen)
        _write_json(folder / f"{run.strategy}.json", {**vars(result)})
        return result

    def _first(self, run: Run, pool: Sequence[str]) -> tuple[str, ...]:
        order = np.random.default_rng([run.seed, run.fold]).permutation(len(pool))
        return tuple(pool[n] for n in order[: self.setting.start])

    def _trained(self, run: Run, number: int, labelled: tuple[str, ...]) -> Round:
        """The round's model and its scores on the test cases."""
        folder = self.folder(run, number)
        if (folder / "trained.json").is_file():
            return _read_round(folder / "trained.json")
        recipe = self.bench.finetune_recipe("scratch", 1, 1000 * run.seed + number)
        recipe = replace(
            recipe,
            settings=replace(recipe.settings, steps=self.setting.steps if number else self.setting.first),
        )
        parent = load_model(self.folder(run, number - 1) / "model") if number else None
        begin = time.perf_counter()
        finetune(
            recipe, self.bench.cache, labelled, folder, parent, self.device, self.workers, progress=False
        )
        seconds = time.perf_counter() - begin
        predictor = Predictor(load_model(folder / "model"), self.device)
        result = Round(
            labelled, {case: self._score(predictor, case) for case in self.bench.fold(run.fold)[1]}, seconds
        )
        _write_json(folder / "trained.json", vars(result))
        (folder / "checkpoint.pt").unlink(missing_ok=True)
        shutil.rmtree(folder / "tensorboard", ignore_errors=True)
        return result

    def _score(self, predictor: Predictor, case: str) -> dict[str, float]:
        cached = self.bench.cache.load(case)
        probabilities = predictor.probabilities(self._prepared(cached))
        found = decide(probabilities, self.card.labels, self.card.postprocess, cached.grid.voxel_volume)
        scores = region_scores(found, self._truth(cached), cached.grid, self.card.labels, surface=False)
        return {name.lower(): round(value, 4) for name, value in scores.items()}

    def _choose(self, run: Run, number: int, labelled: tuple[str, ...]) -> tuple[str, ...]:
        """What the strategy wants labelled next, knowing what the server would know."""
        pool = self.bench.fold(run.fold)[0]
        left = tuple(case for case in pool if case not in labelled)
        measures = {} if run.strategy == "random" else self._measures(run, number, pool)
        labelled_ml = dict.fromkeys(self.card.labels.names, 0.0)
        for case in labelled:
            cached = self.bench.cache.load(case)
            truth = self._truth(cached)
            for label in self.card.labels.labels:
                labelled_ml[label.name] += float(
                    np.count_nonzero(truth == label.value) * cached.grid.voxel_volume / 1000
                )
        given = choices(
            run.strategy,
            Pool(left, measures, labelled, labelled_ml),
            np.random.default_rng([run.seed, run.fold, number]),
        )
        return tuple(choice.case for choice, _ in zip(given, range(self.setting.each), strict=False))

    def _measures(self, run: Run, number: int, cases: Sequence[str]) -> dict[str, Measures]:
        """Of all cases by the round's model, compared with the round before."""
        folder = self.folder(run, number)
        if not (folder / "measures.json").is_file():
            predictor = Predictor(load_model(folder / "model"), self.device)
            before = self._segmentations(self.folder(run, number - 1)) if number else {}
            tables, found = {}, {}
            for case in cases:
                measures, segmentation = measure(
                    predictor, self._prepared(self.bench.cache.load(case)), before.get(case)
                )
                tables[case], found[case] = measures.to_table(), segmentation.array
            with atomic_file(folder / "segmentations.npz", durable=False) as file:
                np.savez_compressed(file, **found)
            _write_json(folder / "measures.json", tables)
        return {
            case: Measures.from_table(table)
            for case, table in json.loads((folder / "measures.json").read_text()).items()
        }

    def _segmentations(self, folder: Path) -> dict[str, LabelMap]:
        with np.load(folder / "segmentations.npz") as file:
            return {case: LabelMap(file[case], self.bench.cache.load(case).grid) for case in file.files}

    def _prepared(self, cached: CachedCase) -> Prepared:
        return Prepared(
            np.array(cached.images, dtype=np.float32),
            cached.present,
            self.card.sequences,
            cached.grid,
            cached.grid,
        )

    def _truth(self, cached: CachedCase) -> np.ndarray:
        return decide(
            np.array(cached.regions, dtype=np.float32) / 255,
            self.card.labels,
            PostProcess(),
            cached.grid.voxel_volume,
        )

    def rows(self, run: Run) -> list[dict[str, object]]:
        """One row a round and test case."""
        found = []
        for number in range(self.setting.rounds):
            if (done := self.round(run, number)) is None:
                break
            shared = {
                "setting": self.name,
                "strategy": run.strategy,
                "seed": run.seed,
                "fold": run.fold,
                "round": number,
                "labelled": len(done.labelled),
            }
            costs = {
                "train_s": round(done.train_s, 1),
                "measure_s": round(done.measure_s, 1),
                "chosen": " ".join(done.chosen),
            }
            found += [{**shared, "case": case, **scores, **costs} for case, scores in done.scores.items()]
        return found


def _read_round(path: Path) -> Round:
    table = json.loads(path.read_text())
    return Round(**{**table, "labelled": tuple(table["labelled"]), "chosen": tuple(table["chosen"])})


def _write_json(path: Path, table: Mapping[str, object]) -> None:
    with atomic_file(path, durable=False) as file:
        file.write(json.dumps(table).encode())


def write(rows: Sequence[Mapping[str, object]], path: Path) -> None:
    """Put rows into the CSV, in place of older ones of the same round and case."""

    def key(row: Mapping[str, object]) -> tuple[str, ...]:
        return tuple(str(row[c]) for c in COLUMNS[:7])

    both = {key(row): row for row in [*read_rows(path), *rows]}
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    with new.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(both[k] for k in sorted(both))
    new.replace(path)


def simulate(simulation: Simulation, runs: Sequence[Run], minutes: float, results: Path) -> bool:
    """Do what is left to do of the runs; False when the time was over before."""
    begun = time.monotonic()
    for run in runs:
        for number in range(simulation.setting.rounds):
            if simulation.round(run, number) is not None:
                continue
            if time.monotonic() - begun > 60 * minutes:
                print(f"{minutes:g} minutes are over: call again to continue")
                return False
            done = simulation.do(run, number)
            dice = np.mean([list(scores.values()) for scores in done.scores.values()])
            chosen = ", ".join(done.chosen) or "nothing: the last round"
            print(
                (
                    f"{run.strategy} seed {run.seed} fold {run.fold}: {len(done.labelled)} labelled, Dice "
                    f"{dice:.3f}, next {chosen}"
                ),
                flush=True,
            )
        write(simulation.rows(run), results)
    return True


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a piece, then write the table of all pieces."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, help="folder of labelled studies; not needed once they are prepared"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/active_learning"))
    parser.add_argument("--setting", choices=SETTINGS, default="small")
    parser.add_argument("--strategies", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--folds", nargs="+", type=int)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin nothing new after so long")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--results", type=Path, help="the CSV; the table lies beside it")
    parser.add_argument("--table", action="store_true", help="only write the table")
    asked = parser.parse_args(arguments)
    if asked.threads:
        torch.set_num_threads(asked.threads)
    results = asked.results or (
        RESULTS if asked.setting != "smoke" else asked.runs / "smoke" / "active_learning.csv"
    )
    if not asked.table:
        simulation = Simulation(asked.setting, asked.runs, asked.device, asked.workers)
        if asked.data is not None:
            simulation.prepare(asked.data)
        folds = asked.folds if asked.folds is not None else range(TRAINING[asked.setting].folds)
        seeds = asked.seeds if asked.seeds is not None else simulation.setting.seeds
        # every piece is a comparison
        runs = [
            Run(strategy, seed, fold) for seed in seeds for fold in folds for strategy in asked.strategies
        ]
        simulate(simulation, runs, asked.minutes, results)
    if rows := read_rows(results):
        print(write_page(results.with_suffix(".md"), report(rows)))


if __name__ == "__main__":
    main()
