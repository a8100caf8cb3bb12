"""The table of `recipes.py`: means with intervals, enhancing tumour where there is some and where there is
none, every subset, every case.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from datetime import date

import numpy as np
from cases import enhancing
from page import commit
from recipes_arms import ARMS, SETTINGS
from recipes_bench import REGIONS

from slem_app.evaluate.scores import bootstrap

__all__ = ["text"]

Rows = Sequence[Mapping[str, str]]


def text(rows: Rows, setting: str) -> str:
    """The page of one setting."""
    rows = _comparable(rows)
    arms = [arm for arm in ARMS if any(row["arm"] == arm for row in rows)]
    full = max((row["subset"] for row in rows), key=lambda name: name.count("+"))
    whole = [row for row in rows if row["subset"] == full]
    folds = sorted({row["fold"] for row in rows})
    steps = ", ".join(sorted({row["steps"] for row in rows}))
    lines = [
        f"# Recipes of fine-tuning, setting `{setting}`",
        "",
        f"`python benchmarks/recipes.py`; {SETTINGS[setting].about}, "
        f"{steps} steps of {SETTINGS[setting].passes} passes; folds {', '.join(folds)} of "
        f"{SETTINGS[setting].folds}, {len({row['case'] for row in rows})} held-out cases, seeds "
        f"{', '.join(sorted({row['seed'] for row in rows}))}. {date.today()}, commit {commit()}, "
        f"{platform.machine()}.",
        "Dice in points on the images' own grid, of the last step; both masks empty counts 100, one empty 0.",
        "Intervals: bootstrap over cases, 95 %. All arms: the same cases, steps and network passes.",
        "",
        *(f"- `{arm}`: {ARMS[arm].about}." for arm in arms),
        "",
        "## All sequences",
        "",
        *_means(whole, arms),
        "",
        "## Mean over the 15 sets of sequences",
        "",
        *_means(rows, arms),
        "",
        "## Enhancing tumour",
        "",
        *_enhancing(whole, arms),
        "",
        "## Every set of sequences",
        "",
        *_subsets(rows, arms),
        "",
        "## Every case, all sequences",
        "",
        *_cases(whole, arms),
        "",
    ]
    return "\n".join(lines)


def _comparable(rows: Rows) -> list[Mapping[str, str]]:
    """The folds and seeds that every arm has."""
    arms = {row["arm"] for row in rows}
    have = {arm: {(r["seed"], r["fold"]) for r in rows if r["arm"] == arm} for arm in arms}
    shared = set.intersection(*have.values())
    return [row for row in rows if (row["seed"], row["fold"]) in shared]


def _by_case(rows: Iterable[Mapping[str, str]], arm: str, column: str) -> dict[str, float]:
    """Case -> mean over its rows of an arm, in points."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row["arm"] == arm:
            found.setdefault(row["case"], []).append(100 * float(row[column]))
    return {case: float(np.mean(values)) for case, values in found.items()}


def _interval(values: Sequence[float], sign: str = "") -> str:
    b = bootstrap(list(values))
    return f"{b['mean']:{sign}.1f} ({b['low']:{sign}.1f} to {b['high']:{sign}.1f})"


def _means(rows: Rows, arms: Sequence[str]) -> list[str]:
    lines = ["| arm | " + " | ".join(REGIONS) + " | " + " | ".join(f"{r} less {arms[0]}" for r in REGIONS)]
    lines = [lines[0] + " |", "|---|" + "---|" * (2 * len(REGIONS))]
    for arm in arms:
        own = {region: _by_case(rows, arm, region) for region in REGIONS}
        base = {region: _by_case(rows, arms[0], region) for region in REGIONS}
        cells = [_interval(list(own[region].values())) for region in REGIONS]
        if arm == arms[0]:
            cells += [""] * len(REGIONS)
        else:
            cells += [_interval([own[r][case] - base[r][case] for case in base[r]], "+") for r in REGIONS]
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return lines


def _enhancing(rows: Rows, arms: Sequence[str]) -> list[str]:
    return enhancing({arm: _one_a_case([row for row in rows if row["arm"] == arm]) for arm in arms})


def _one_a_case(rows: Rows) -> list[dict[str, object]]:
    """Means over seeds."""
    columns = ("ET", "ET_ml", "ET_true_ml")
    found = []
    for case in sorted({row["case"] for row in rows}):
        here = [row for row in rows if row["case"] == case]
        found.append({"case": case} | {c: float(np.mean([float(r[c]) for r in here])) for c in columns})
    return found


def _subsets(rows: Rows, arms: Sequence[str]) -> list[str]:
    names = list(dict.fromkeys(sorted((row["subset"] for row in rows), key=lambda n: (-n.count("+"), n))))
    columns = [(arm, region) for arm in arms for region in REGIONS]
    lines = ["| set | " + " | ".join(f"{arm} {region}" for arm, region in columns) + " |"]
    lines.append("|---|" + "---|" * len(columns))
    for name in names:
        here = [row for row in rows if row["subset"] == name]
        cells = [f"{np.mean(list(_by_case(here, arm, region).values())):.1f}" for arm, region in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _cases(rows: Rows, arms: Sequence[str]) -> list[str]:
    columns = [(arm, region) for arm in arms for region in REGIONS]
    head = " | ".join(f"{arm} {region}" for arm, region in columns)
    lines = [f"| case | fold | ET ml | {head} | " + " | ".join(f"{arm} ET ml" for arm in arms) + " |"]
    lines.append("|---|---|---|" + "---|" * (len(columns) + len(arms)))
    for case in sorted({row["case"] for row in rows}):
        here = [row for row in rows if row["case"] == case]
        cells = [f"{_by_case(here, arm, region)[case]:.1f}" for arm, region in columns]
        found = [f"{np.mean([float(row['ET_ml']) for row in here if row['arm'] == arm]):.1f}" for arm in arms]
        first = here[0]
        lines.append(
            f"| {case} | {first['fold']} | {float(first['ET_true_ml']):.1f} | "
            + " | ".join(cells + found)
            + " |"
        )
    return lines
