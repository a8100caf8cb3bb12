"""The tables and pictures of `pretraining.py`, from its CSV alone.

    python benchmarks/pretraining.py table

Differences are paired by case: the mean over seeds of one arm minus that of the other, and the 95 % interval of its mean over cases by
bootstrap. Settings are never mixed.
"""

from __future__ import annotations

import csv
import subprocess
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

import numpy as np

REGIONS = ("wt", "tc", "et")
BASELINES = ("scratch", "jigen", "multimodal_puzzle", "supervoxel")
TARGET = {"wt": 2.03, "tc": 3.92, "et": 1.75}
DRAWS = 10_000
DOCS = Path(__file__).parents[1] / "docs"


class Figures:
    """The rows of one setting and number of labels: arm and block -> case -> seed -> value."""

    def __init__(self, rows: Sequence[Mapping[str, str]]) -> None:
        self.rows = rows

    def arms(self) -> list[tuple[str, int]]:
        """Arms and blocks that are there."""
        return sorted({(row["arm"], int(row["cfb"])) for row in self.rows})

    def cases(self, arm: str, cfb: int, column: str) -> dict[str, dict[str, float]]:
        """Case -> seed -> value."""
        found: dict[str, dict[str, float]] = {}
        for row in self.rows:
            if (row["arm"], int(row["cfb"])) == (arm, cfb):
                found.setdefault(row["case"], {})[row["seed"]] = float(row[column])
        return found

    def mean(self, arm: str, cfb: int, column: str) -> tuple[float, float, int]:
        """Mean and sd over cases of the means over seeds, and how many values there are."""
        cases = self.cases(arm, cfb, column)
        values = [np.mean(list(seeds.values())) for seeds in cases.values()]
        return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0, sum(map(len, cases.values()))

    def difference(self, one: tuple[str, int], other: tuple[str, int], column: str) -> tuple[float, float, float, int] | None:
        """Mean of one minus other over the cases and seeds that both have, its 95 % interval, and the number of cases."""
        a, b = self.cases(*one, column), self.cases(*other, column)
        pairs = []
        for case in sorted(set(a) & set(b)):
            if seeds := set(a[case]) & set(b[case]):
                pairs.append(np.mean([a[case][s] - b[case][s] for s in seeds]))
        if len(pairs) < 2:
            return None
        draws = np.random.default_rng(0).integers(len(pairs), size=(DRAWS, len(pairs)))
        low, high = np.percentile(np.array(pairs)[draws].mean(axis=1), [2.5, 97.5])
        return float(np.mean(pairs)), float(low), float(high), len(pairs)


def report(path: Path, about: Mapping[str, str]) -> None:
    """Write results/pretraining.md beside the CSV and the bar charts to docs/."""
    rows = list(csv.DictReader(path.read_text().splitlines()))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    lines = [
        "# Pre-training: does it make a few labels go further?",
        "",
        f"`python benchmarks/pretraining.py`; {date.today()}, commit {commit}. Dice in points (0 to 100) and HD95 in mm on the images' own grid,",
        "mean over test cases of the mean over seeds, sd over cases. Both masks empty count 100, one empty 0 (HD95 0 and 374 mm). Weights of the",
        "last step; no test case chose anything. cfb 1: contextual fusion block, cfb 0: a plain residual block of as many weights.",
        "Every case: `pretraining.csv`.",
    ]
    for setting in sorted({row["setting"] for row in rows}):
        mine = [row for row in rows if row["setting"] == setting]
        for labels in sorted({int(row["labels"]) for row in mine}):
            figures = Figures([row for row in mine if int(row["labels"]) == labels])
            lines += ["", f"## Setting {setting}, {labels} labelled cases", "", f"{about.get(setting, '')}", "", *table(figures), "", *verdict(figures)]
        picture(setting, mine)
    path.with_suffix(".md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def table(figures: Figures) -> list[str]:
    """A row an arm."""
    names = [r.upper() for r in REGIONS]
    head = ["arm", "cfb", *names, *(f"HD95 {name}" for name in names), *(f"{name} against scratch" for name in names), "runs x cases"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for arm, cfb in figures.arms():
        cells = [arm, str(cfb)]
        for region in REGIONS:
            mean, sd, count = figures.mean(arm, cfb, region)
            cells.append(f"{100 * mean:.1f} ± {100 * sd:.1f}")
        cells += [f"{figures.mean(arm, cfb, f'hd95_{r}')[0]:.1f}" for r in REGIONS]
        cells += [_points(figures.difference((arm, cfb), ("scratch", cfb), r)) if arm != "scratch" else "" for r in REGIONS]
        lines.append("| " + " | ".join([*cells, str(count)]) + " |")
    return lines


def verdict(figures: Figures) -> list[str]:
    """SLeM with CFB against the best baseline of each region, with either block, beside the margin that the paper claims."""
    there = figures.arms()
    if ("slem", 1) not in there or not (rivals := [pair for pair in there if pair[0] in BASELINES]):
        return []
    lines = ["| slem + CFB against the best of the baselines | best | difference (95 % interval) | aim |", "|---|---|---|---|"]
    for region in REGIONS:
        best = max(rivals, key=lambda pair: figures.mean(*pair, region)[0])
        lines.append(f"| {region.upper()} | {best[0]}, cfb {best[1]} | {_points(figures.difference(('slem', 1), best, region))} | +{TARGET[region]} |")
    return lines


def picture(setting: str, rows: Sequence[Mapping[str, str]]) -> None:
    """Bars with 95 % bootstrap intervals of the mean over cases: docs/pretraining_SETTING.png."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    counts = sorted({int(row["labels"]) for row in rows})
    figure, axes = pyplot.subplots(len(counts), 3, figsize=(13, 3.2 * len(counts)), sharey="row", squeeze=False, layout="constrained")
    for line, labels in zip(axes, counts, strict=True):
        figures = Figures([row for row in rows if int(row["labels"]) == labels])
        for axis, region in zip(line, REGIONS, strict=True):
            for place, (arm, cfb) in enumerate(figures.arms()):
                values = np.array([np.mean(list(seeds.values())) for seeds in figures.cases(arm, cfb, region).values()])
                draws = values[np.random.default_rng(0).integers(len(values), size=(2000, len(values)))].mean(axis=1)
                low, high = np.percentile(draws, [2.5, 97.5])
                mean = values.mean()
                axis.bar(place, 100 * mean, color="tab:blue" if cfb else "lightsteelblue")
                axis.errorbar(place, 100 * mean, yerr=[[100 * (mean - low)], [100 * (high - mean)]], color="black", capsize=2)
            axis.set_title(f"{region.upper()}, {labels} labelled cases")
            axis.set_xticks(range(len(figures.arms())), [f"{arm}{'' if cfb else ' (plain)'}" for arm, cfb in figures.arms()], rotation=90, fontsize=7)
        line[0].set_ylabel("Dice (points)")
    DOCS.mkdir(exist_ok=True)
    figure.savefig(DOCS / f"pretraining_{setting}.png", dpi=110)
    pyplot.close(figure)


def _points(difference: tuple[float, float, float, int] | None) -> str:
    if difference is None:
        return ""
    mean, low, high, _ = (100 * value for value in difference)
    return f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"
