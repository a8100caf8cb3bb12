"""What recalibration brings: a model's results with and without the lines of its card, case by case, and the
line of the enhancing region as it is fitted on cases that the networks have not seen.

    python benchmarks/recalibration.py --data ../shared/data/brats --model runs/model --cases ID ID ...

Each case is scored on its own grid by the card's lines, and once more by a line of the enhancing region that
was fitted on the other cases alone. A network must not have seen the cases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from gains import Row, gain, row_of
from page import table, where, write_page
from scipy.optimize import minimize

from slem_app.finetune.cases import truth
from slem_app.grouping import group
from slem_app.predict import Predictor
from slem_app.predict.closer_look import Likely
from slem_app.predict.recalibrate import enhancement, normal_tissue, recalibrated
from slem_app.studies import Study, open_source
from slem_app.types import Grid
from slem_app.volumes.geometry import resample
from slem_app.volumes.prepare import Prepared
from slem_app.weights import Recalibration, load_model

RESULTS = Path(__file__).parent / "results"
SAMPLED = 20_000  # voxels a case from which a line is fitted
RIDGE = 1e-4  # keeps a line of few cases small


@dataclass(frozen=True, eq=False)
class Case:
    """What the networks say of one case."""

    id: str
    prepared: Prepared
    first: np.ndarray
    """(R, I, J, K) of the first network on its grid."""
    likely: Likely
    """After the second look."""
    expected: np.ndarray
    """Label map."""
    grid: Grid
    """Of that."""


@dataclass(frozen=True)
class Benchmark:
    """A model's results with and without recalibration."""

    data: Path
    """Folder of labelled studies."""
    model: str = "slem_brain"
    """Name or folder."""
    cases: tuple[str, ...] = ()
    """Default: all."""
    fit: bool = True
    """Fit the enhancing region's line on all cases but one, for each."""
    threads: int = 1
    """torch threads."""
    note: str = ""
    """A sentence for the page."""
    name: str = "recalibration"
    """Name of the page."""

    def run(self) -> None:
        """Predict, fit, score, write the page."""
        torch.set_num_threads(self.threads)
        predictor = Predictor(load_model(self.model), precision="float32")
        source = open_source(self.data)
        cases = [_case(predictor, source.study(one)) for one in self.cases or source.ids()]
        rules = predictor.card.recalibration
        bright = {name: rule for name, rule in rules.items() if rule.bright}
        plain = {name: replace(rule, near="", away=0.0) for name, rule in rules.items()}
        arms: dict[str, Mapping[str, Recalibration]] = {
            "as it was": {},
            "lines on the logits": {name: rule for name, rule in plain.items() if not rule.bright},
            "brightness": bright,
            "lines and brightness": plain,
            "all": rules,
        }
        rows = [_scored(predictor, case, arm, of) for case in cases for arm, of in arms.items()]
        lines = []
        if self.fit and len(cases) > 1:
            for name, rule in bright.items():
                samples = [_samples(predictor, case, name, rule) for case in cases]
                for case, own in zip(cases, samples):
                    other = _fitted(rule, [one for one in samples if one is not own])
                    rows.append(_scored(predictor, case, "all, line of the others", {**rules, name: other}))
                lines.append(_said(name, _fitted(rule, samples)))
        write_page(
            RESULTS / f"{self.name}.md",
            self._page(rows, lines, [region.name for region in predictor.card.labels.regions]),
        )

    def _page(self, rows: list[Row], lines: list[str], regions: list[str]) -> str:
        head = ["arm", "cases", *regions, "mean", "mean more", "better in"]
        each = [
            [
                row.case,
                row.arm,
                *(f"{value:.3f}" for value in row.dice),
                f"{row.found:.1f}",
                f"{row.there:.1f}",
            ]
            for row in sorted(rows, key=lambda row: row.case)
        ]
        command = (
            f"python benchmarks/recalibration.py --data {self.data.name} --model {Path(self.model).name}"
        )
        page = [
            "# Recalibration",
            "",
            f"`{command}`; {where()}. {self.note}",
            "",
            "Dice on the images' own grid. `mean more`: mean Dice less that of `as it was`, points, with the "
            "bootstrap 95 % interval over cases. `line of the others`: the line of the enhancing region "
            "fitted on the other cases of this table alone.",
            "",
            *table(
                head, [[arm, *gain(rows, arm, "as it was")] for arm in dict.fromkeys(row.arm for row in rows)]
            ),
            "",
            *lines,
            "",
            *table(["case", "arm", *regions, f"{regions[-1]} ml found", "true"], each),
        ]
        return "\n".join(page)


def _case(predictor: Predictor, study: Study) -> Case:
    expected, grid = truth(study, predictor.card.labels)
    prepared = replace(predictor.prepare_case(group(study))[0], reference=grid)
    first = predictor.probabilities(prepared)
    print(study.id, flush=True)
    return Case(study.id, prepared, first, predictor.look_again(prepared, first, {}), expected, grid)


def _scored(predictor: Predictor, case: Case, arm: str, rules: Mapping[str, Recalibration]) -> Row:
    labels = predictor.card.labels
    likely = recalibrated(case.likely, case.prepared, case.first, labels, rules)
    array = predictor.restored(likely, case.prepared)
    return row_of(case.id, arm, array, case.expected, case.grid, labels)


def _samples(
    predictor: Predictor, case: Case, name: str, rule: Recalibration
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(n,) logits, (n,) brightness and (n,) truth of some voxels in which the region is looked for."""
    labels, likely = predictor.card.labels, case.likely
    names = [region.name for region in labels.regions]
    asked = likely.probabilities[names.index(rule.inside)] >= rule.least
    tissue = normal_tissue(case.prepared, case.first, labels)
    light = enhancement(likely.seen, case.prepared, tissue, (rule.bright, rule.less), asked)
    p = np.clip(likely.probabilities[names.index(name)][asked], 1e-3, 1 - 1e-3)
    there = labels.region_masks(resample(case.expected, case.grid, likely.grid, order=0))[names.index(name)]
    some = np.random.default_rng(0).permutation(light.size)[:SAMPLED]
    return np.log(p / (1 - p))[some], light[some], there[asked][some]


def _fitted(
    rule: Recalibration, samples: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]
) -> Recalibration:
    """Logistic regression in which each case counts the same."""

    def loss(line: np.ndarray) -> float:
        each = [
            np.logaddexp(0, (1 - 2 * there) * (line[0] * logit + line[1] * light + line[2])).mean()
            for logit, light, there in samples
            if there.size
        ]
        return float(np.mean(each) + RIDGE * line @ line)

    slope, weight, shift = minimize(loss, np.array([rule.slope, rule.weight, rule.shift])).x
    return replace(rule, slope=max(float(slope), 1e-3), weight=float(weight), shift=float(shift))


def _said(name: str, rule: Recalibration) -> str:
    return (
        f"Fitted on all cases of this table, the line of {name} is {rule.slope:.2f} of the logit, "
        f"{rule.weight:+.2f} of the brightness, {rule.shift:+.2f}."
    )


if __name__ == "__main__":
    tyro.cli(Benchmark).run()
