"""The tables of `missing.py`, from its CSV alone. Intervals are of means over cases, by bootstrap;
differences are paired by case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from slem_app.evaluate.scores import bootstrap

REGIONS = ("WT", "TC", "ET")
FULL = "t1n+t1c+t2w+t2f"
ARMS = ("dropping", "complete", "zeros")
# points: mean over subsets under the full set (WT); full set under that of a training without dropping
MOST_LOST, MOST_PAID = (8.0, 0.5)
RFNET = {"WT": 86.98, "TC": 78.23, "ET": 61.47}


class Figures:
    """Dice in points by arm, case, subset and region."""

    def __init__(self, rows: Sequence[Mapping[str, str]]) -> None:
        self.cases = sorted({row["case"] for row in rows})
        self.subsets = sorted({row["subset"] for row in rows}, key=lambda name: (-name.count("+"), name))
        self.values = {
            (row["arm"], row["case"], row["subset"], r): 100 * float(row[r]) for row in rows for r in REGIONS
        }

    def of(self, arm: str, subset: str, region: str) -> np.ndarray:
        """(cases,) of one subset."""
        return np.array([self.values[arm, case, subset, region] for case in self.cases])

    def mean(self, arm: str, region: str) -> np.ndarray:
        """(cases,) mean over the subsets, the full one among them."""
        return np.mean([self.of(arm, subset, region) for subset in self.subsets], axis=0)


def text(rows: Sequence[Mapping[str, str]], setting: str, about: str, where: str, folds: int) -> str:
    """The page of one setting of `folds` folds.

    Raises:
        ValueError: an arm that is not scored for all the cases and subsets of the others.
    """
    rows = [row for row in rows if row["setting"] == setting]
    figures = Figures(rows)
    lacking = len(ARMS) * len(figures.cases) * len(figures.subsets) - len(
        {(row["arm"], row["case"], row["subset"]) for row in rows}
    )
    if lacking or FULL not in figures.subsets:
        raise ValueError(
            f"{lacking} of the rows of setting {setting} are missing: train and score the rest of the "
            f"folds begun, see missing.py"
        )
    scored = sorted({row["fold"] for row in rows})
    alike = max(
        np.abs(figures.of("zeros", subset, r) - figures.of("complete", subset, r)).max()
        for subset in figures.subsets
        for r in REGIONS
    )
    lines = [
        (
            f"# Missing sequences: Dice of all {len(figures.subsets)} subsets, {len(figures.cases)} "
            f"held-out cases"
        ),
        "",
        f"`python benchmarks/missing.py`, setting `{setting}`: {about}. {where}.",
        (
            "Dice in points on the images' own grid, of the last step; both masks empty counts 100, one "
            "empty 0. Every case and subset: `missing.csv`."
        ),
        "",
        (
            "- `dropping`: trained with each sequence kept with probability 0.75 (the default); missing "
            "ones are flagged."
        ),
        "- `complete`: the same without dropping; missing ones are flagged.",
        "- `zeros`: the model of `complete`; missing ones are zero volumes and said to be there.",
        "",
        f"Folds scored: {', '.join(scored)} ({len(scored)} of {folds})"
        + (
            "."
            if len(scored) == folds
            else "; the cases of the others were not measured, and intervals over so few cases say little."
        ),
        f"`zeros` differs from `complete` by at most {alike:.1f} points in any case and subset: the "
        f"features of a zero volume are one value a channel, "
        "which the norm behind the fusion takes out again. So zeros and flags are the same in this "
        "network until dropping has trained the gain and "
        "shift of flags.",
        "",
        (
            "| trained | region | full set (sd, 95 % interval) | mean over subsets (sd, 95 % interval) | "
            "subsets less full set (95 % interval) |"
        ),
        "|---|---|---|---|---|",
    ]
    for arm in ARMS:
        for region in REGIONS:
            full, mean = figures.of(arm, FULL, region), figures.mean(arm, region)
            lines.append(
                f"| {arm} | {region} | {_spread(full)} | {_spread(mean)} | {_interval(mean - full)} |"
            )
    lines += [
        "",
        *_targets(figures),
        "",
        "| subset | " + " | ".join(f"{arm} {region}" for arm in ARMS for region in REGIONS) + " |",
    ]
    lines.append("|---|" + "---|" * (len(ARMS) * len(REGIONS)))
    for subset in figures.subsets:
        lines.append(
            f"| {subset} | "
            + " | ".join(
                f"{figures.of(arm, subset, region).mean():.1f}" for arm in ARMS for region in REGIONS
            )
            + " |"
        )
    published = "/".join(f"{value}" for value in RFNET.values())
    lines += [
        "",
        f"For orientation only: RFNet (Ding et al., ICCV 2021) publishes {published} (WT/TC/ET) as "
        f"mean over the 15 subsets, trained on all of BraTS 2020; "
        "other data, other network, other training.",
    ]
    return "\n".join(lines) + "\n"


def _targets(figures: Figures) -> list[str]:
    lost = -(figures.mean("dropping", "WT") - figures.of("dropping", FULL, "WT"))
    lines = [
        "## Targets",
        "",
        f"- Mean over the subsets at most {MOST_LOST:g} points under the full set for WT: "
        f"{_verdict(lost.mean() <= MOST_LOST)}, "
        f"{lost.mean():.1f} points under it ({_interval(-lost)}).",
    ]
    paid = {r: figures.of("dropping", FULL, r) - figures.of("complete", FULL, r) for r in REGIONS}
    paid["mean of the regions"] = np.mean(list(paid.values()), axis=0)
    each = ", ".join(f"{name} {_interval(value)}" for name, value in paid.items())
    lines.append(
        f"- Full set at most {MOST_PAID:g} points lower than without dropping: "
        f"{_verdict(paid['mean of the regions'].mean() >= -MOST_PAID)} for the "
        f"mean of the regions, "
        f"{', '.join(f'{r} {_verdict(paid[r].mean() >= -MOST_PAID)}' for r in REGIONS)} (differences: "
        f"{each})."
    )
    gained = [
        f"{r} {_interval(figures.mean('dropping', r) - figures.mean('complete', r))} over `complete` and "
        f"{_interval(figures.mean('dropping', r) - figures.mean('zeros', r))} over `zeros`"
        for r in REGIONS
    ]
    return [*lines, f"- What dropping brings on the mean over the subsets: {'; '.join(gained)}."]


def _verdict(reached: bool) -> str:
    return "reached" if reached else "NOT reached"


def _spread(values: np.ndarray) -> str:
    b = bootstrap(values)
    return f"{b['mean']:.1f} ({b['sd']:.1f}, {b['low']:.1f} to {b['high']:.1f})"


def _interval(values: np.ndarray) -> str:
    b = bootstrap(values)
    return f"{b['mean']:+.1f} ({b['low']:+.1f} to {b['high']:+.1f})"
