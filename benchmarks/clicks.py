r"""How much clicks mend: a simulated reader corrects held-out cases, click by click, through the path that
serves.

    python benchmarks/clicks.py --data ../shared/data/brats --runs runs/clicks

`--runs` holds one run a fold as `benchmarks/accuracy.py` makes them (fold0/model, fold1/model ...): each
model corrects only cases it never saw. The reader clicks into the interior of the error that costs most Dice
(`slem_app.prompts.reader`), always with the right label unless --wrong is given. Every click is a row in
results/NAME.csv, so every figure in results/NAME.md can be recomputed.

    python benchmarks/accuracy.py --data ../shared/data/brats --runs runs/automatic --steps 1000
    python benchmarks/clicks.py --data ../shared/data/brats --runs runs/automatic --editor slem_brain_editor
"""

from __future__ import annotations

import csv
import json
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
import torch
import tyro
from cases import split
from page import commit, write_page

from slem_app.evaluate.scores import bootstrap, region_scores
from slem_app.finetune.cases import truth
from slem_app.grouping import group
from slem_app.labels import LabelSet
from slem_app.predict import Predictor, Refiner
from slem_app.prompts import Click, ReaderSettings, SimulatedReader
from slem_app.studies import open_source
from slem_app.volumes.cache import CaseCache
from slem_app.weights import load_editor, load_model

RESULTS = Path(__file__).parent / "results"
SHOWN = (0, 1, 3, 5, 10)  # clicks after which Dice is listed
GOALS = (0.85, 0.90)
SCORED = 5  # clicks of DSC_AUC and DSC_Final


@dataclass(frozen=True)
class Clicks:
    """Accuracy over clicks, by cross-validation."""

    data: Path
    """Folder of labelled studies."""
    runs: Path
    """Folder of fold runs."""
    editor: str = ""
    """Name or folder of the editor that answers the clicks; default: the models'."""
    split: str = "six"
    """Folds that the runs were made with, as `accuracy.py` names them: 'six', or 'four' in older tables."""
    folds: int = 0
    """Their number; default: the split's."""
    only: tuple[int, ...] = ()
    """Score these folds alone."""
    clicks: int = 10
    """Clicks a case."""
    measure: str = "share"
    """How the reader weighs errors: share (of Dice) or volume (mm3)."""
    jitter: float = 0.25
    """How far from an error's deepest voxel the reader may click, as a share of the depth."""
    wrong: float = 0.0
    """Share of clicks with a wrong label."""
    seed: int = 0
    """Of the reader."""
    threads: int = 0
    """torch threads; default: torch's."""
    name: str = "clicks"
    """Name of the result files."""

    def check_unseen(self, fold: int, test: Sequence[str]) -> None:
        """Refuse a fold whose model was trained on one of its test cases."""
        trained = json.loads((self.runs / f"fold{fold}" / "settings.json").read_text())["cases"]
        if seen := sorted({*trained} & {*test}):
            raise SystemExit(
                f"fold {fold} was trained on {', '.join(seen)}: give the --split and --folds that it was "
                "trained with"
            )

    def run(self) -> None:
        """Correct every held-out case, write the table."""
        if self.threads:
            torch.set_num_threads(self.threads)
        source = open_source(self.data)
        tests = split(CaseCache(self.runs / "cache"), self.split, self.folds)
        rows: list[dict[str, object]] = []
        for fold in self.only or range(len(tests)):
            self.check_unseen(fold, tests[fold])
            model = load_model(self.runs / f"fold{fold}" / "model")
            if self.editor:
                model = replace(model, editor=load_editor(self.editor))
            refiner = Refiner(Predictor(model))
            for case in tests[fold]:
                rows += self.case(refiner, source.study(case), fold)
        labels = refiner.card.labels
        RESULTS.mkdir(exist_ok=True)
        with (RESULTS / f"{self.name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        editor = refiner.predictor.model.editor
        who = f"editor {editor.card.name} {editor.card.version}" if editor else "no editor: the rule"
        text = self.table(rows, labels, f"{refiner.card.name}, {who}")
        print(write_page(RESULTS / f"{self.name}.md", text))

    def case(self, refiner: Refiner, study: object, fold: int) -> list[dict[str, object]]:
        """One row a click of one case; the row of click 0 is the automatic result."""
        labels = refiner.card.labels
        expected, grid = truth(study, labels)
        prepared, _ = refiner.predictor.prepare_case(group(study))
        result, detail = refiner.start(prepared), refiner.detail(prepared)
        reader = SimulatedReader(labels, ReaderSettings(self.measure, self.jitter, self.wrong))
        rng = np.random.default_rng([self.seed, hash_of(study.id)])
        scores = region_scores(result.prediction.array, expected, grid, labels, surface=False)
        rows = [
            {
                "case": study.id,
                "fold": fold,
                "click": 0,
                "label": "",
                "aimed": "",
                "improved": "",
                "changed": 0,
                "seconds": 0.0,
                **rounded(scores),
            }
        ]
        for n in range(1, self.clicks + 1):
            shots = reader.shots(expected, result.prediction.array, grid.spacing, rng)
            if not shots:  # nothing is wrong any more
                rows.append(
                    {
                        **rows[-1],
                        "click": n,
                        "label": "",
                        "aimed": "",
                        "improved": "",
                        "changed": 0,
                        "seconds": 0.0,
                    }
                )
                continue
            before, scores_before = result.prediction.array, scores
            start = time.perf_counter()
            result = refiner.refine(
                prepared,
                result,
                result.prompts.with_click(Click.on(grid, shots[0].index, shots[0].label, labels)),
                detail,
            )
            seconds = time.perf_counter() - start
            scores = region_scores(result.prediction.array, expected, grid, labels, surface=False)
            aimed = shots[0].regions
            rows.append(
                {
                    "case": study.id,
                    "fold": fold,
                    "click": n,
                    "label": shots[0].label or "background",
                    "aimed": "+".join(aimed),
                    "improved": int(sum(scores[r] - scores_before[r] for r in aimed) > 0),
                    "changed": int((before != result.prediction.array).sum()),
                    "seconds": round(seconds, 3),
                    **rounded(scores),
                }
            )
        print(f"{study.id}: " + ", ".join(f"{r['click']}: {mean(r, labels):.3f}" for r in rows), flush=True)
        return rows

    def table(self, rows: Sequence[Mapping[str, object]], labels: LabelSet, model: str) -> str:
        """The result as Markdown."""
        regions = [region.name for region in labels.regions]
        cases = sorted({str(row["case"]) for row in rows})
        curve = {(str(row["case"]), int(row["click"])): row for row in rows}
        shown = [n for n in SHOWN if n <= self.clicks]
        told = [row for row in rows if row["improved"] != ""]
        lines = [
            f"# Clicks: Dice after n clicks of a simulated reader, {len(cases)} held-out cases",
            "",
            (
                f"`python {' '.join(sys.argv)}`; {date.today()}, commit {commit()}, {platform.machine()}, "
                f"{torch.get_num_threads()} threads,"
            ),
            f"torch {torch.__version__}. Model {model}. The reader clicks into the error that costs most",
            (
                f"({self.measure}), right label in {1 - self.wrong:.0%} of clicks; jitter "
                f"{self.jitter}, seed "
                f"{self.seed}."
            ),
            "Dice on the images' own grid; both masks empty counts 1, one empty 0.",
            "",
            "| clicks | " + " | ".join(regions) + " | mean | worst case's " + regions[0] + " |",
            "|---|" + "---|" * (len(regions) + 2),
        ]
        for n in shown:
            each = {r: [float(curve[case, n][r]) for case in cases] for r in regions}
            lines.append(
                f"| {n} | "
                + " | ".join(f"{np.mean(each[r]):.3f}" for r in regions)
                + f" | {np.mean(list(each.values())):.3f} | {min(each[regions[0]]):.3f} |"
            )
        gain = [
            mean(curve[case, min(SCORED, self.clicks)], labels) - mean(curve[case, 0], labels)
            for case in cases
        ]
        interval = bootstrap(gain)
        better = sum(int(row["improved"]) for row in told)
        lines += [
            "",
            f"Gain of the mean of the regions after {min(SCORED, self.clicks)} clicks: "
            f"{100 * interval['mean']:+.1f} points "
            f"(bootstrap 95 % interval over cases {100 * interval['low']:+.1f} to "
            f"{100 * interval['high']:+.1f}).",
            (
                f"Clicks that improved the region they aimed at: {better} of {len(told)} "
                f"({better / max(1, len(told)):.1%})."
            ),
            f"Seconds a click (network and merge, no reading, no transfer): median "
            f"{np.median([float(r['seconds']) for r in told]):.2f}, "
            f"95th percentile {np.percentile([float(r['seconds']) for r in told], 95):.2f}.",
            "",
            f"DSC_AUC is the trapezoid over clicks 1 to {SCORED} (at most {SCORED - 1}), DSC_Final the "
            f"Dice after {SCORED}; clicks to a Dice count "
            f"{self.clicks + 1} where {self.clicks} do not reach it.",
            "",
            "| region | DSC_AUC | DSC_Final | "
            + " | ".join(f"mean clicks to {goal} (cases that reach it)" for goal in GOALS)
            + " |",
            "|---|---|---|" + "---|" * len(GOALS),
        ]
        for region in regions if self.clicks >= SCORED else ():
            # cases clicks+1
            paths = np.array(
                [[float(curve[case, n][region]) for n in range(self.clicks + 1)] for case in cases]
            )
            area = ((paths[:, 1:SCORED] + paths[:, 2 : SCORED + 1]) / 2).sum(axis=1)
            goals = [
                np.where((paths >= goal).any(axis=1), (paths >= goal).argmax(axis=1), self.clicks + 1)
                for goal in GOALS
            ]
            reached = " | ".join(
                f"{steps.mean():.1f} ({(steps <= self.clicks).sum()} of {len(cases)})" for steps in goals
            )
            lines.append(f"| {region} | {area.mean():.3f} | {paths[:, SCORED].mean():.3f} | {reached} |")
        lines += [
            "",
            "| case | fold | " + " | ".join(f"{r} {n}" for r in regions for n in shown) + " |",
            "|---|---|" + "---|" * (len(regions) * len(shown)),
        ]
        for case in cases:
            lines.append(
                f"| {case} | {curve[case, 0]['fold']} | "
                + " | ".join(f"{float(curve[case, n][r]):.3f}" for r in regions for n in shown)
                + " |"
            )
        return "\n".join(lines) + "\n"


def mean(row: Mapping[str, object], labels: LabelSet) -> float:
    """Mean Dice of the regions."""
    return float(np.mean([float(row[region.name]) for region in labels.regions]))


def rounded(scores: Mapping[str, float]) -> dict[str, float]:
    """To five digits."""
    return {name: round(value, 5) for name, value in scores.items()}


def hash_of(name: str) -> int:
    """A number that is the same on every machine."""
    return int.from_bytes(name.encode()[-6:], "big")


if __name__ == "__main__":
    tyro.cli(Clicks).run()
