"""The page of `active_learning.py`: strategies side by side, from the rows of its table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

import numpy as np
from active_learning_arms import ARMS, BASELINES, REGIONS, SETTINGS
from page import commit
from pretraining_arms import SETTINGS as TRAINING
from scipy.integrate import trapezoid

from slem_app.evaluate.scores import bootstrap


def areas(rows: Sequence[Mapping[str, str]], rounds: int) -> dict[str, dict[tuple[str, str], float]]:
    """Strategy -> (seed, fold) -> area under the learning curve, of the runs that are complete."""
    points: dict[tuple[str, str, str], dict[int, list[float]]] = {}
    for row in rows:
        run = points.setdefault((row["strategy"], row["seed"], row["fold"]), {})
        run.setdefault(int(row["labelled"]), []).append(
            float(np.mean([float(row[region]) for region in REGIONS]))
        )
    found: dict[str, dict[tuple[str, str], float]] = {}
    for (strategy, seed, fold), curve in points.items():
        counts = sorted(curve)
        if len(counts) == rounds and rounds > 1:
            area = trapezoid([np.mean(curve[n]) for n in counts], counts) / (counts[-1] - counts[0])
            found.setdefault(strategy, {})[seed, fold] = float(area)
    return found


def against(
    found: Mapping[str, Mapping[tuple[str, str], float]], one: str, other: str
) -> Mapping[str, float] | None:
    """Mean and 95 % interval of the difference of two strategies' areas over the runs that both have; None
    for fewer than two.
    """
    both = sorted(set(found.get(one, {})) & set(found.get(other, {})))
    return (
        bootstrap([found[one][run] - found[other][run] for run in both])
        if len(both) > 1 and one != other
        else None
    )


def report(rows: Sequence[Mapping[str, str]]) -> str:
    """The tables, and what they say, as Markdown."""
    lines = [
        "# Which case to label next",
        "",
        (
            f"`python benchmarks/active_learning.py`; {date.today()}, commit {commit()}. Area under the "
            f"learning curve: mean Dice of WT, TC and ET (points) over"
        ),
        (
            "the number of labelled cases, complete runs only. Differences are paired by run (seed and "
            "fold), with their 95 % bootstrap interval over runs."
        ),
        "Seconds are medians over rounds, by the wall clock. Every round and case: `active_learning.csv`.",
    ]
    for name in sorted({row["setting"] for row in rows}):
        mine = [row for row in rows if row["setting"] == name]
        about = f"{SETTINGS[name].about}. {_extent(mine, name)}"
        lines += [
            "",
            f"## Setting {name}",
            "",
            about,
            "",
            *_table(mine, SETTINGS[name].rounds),
            "",
            *_curves(mine),
        ]
    return "\n".join(lines) + "\n"


def _extent(rows: Sequence[Mapping[str, str]], name: str) -> str:
    """How much of the setting was run."""
    setting, folds = SETTINGS[name], TRAINING[name].folds
    done = sum(map(len, areas(rows, setting.rounds).values()))
    planned = len(ARMS) * len(setting.seeds) * folds
    counts = (
        f"{setting.start} to {setting.start + setting.each * (setting.rounds - 1)} labelled cases, "
        f"{len(setting.seeds)} seeds x {folds} folds"
    )
    return f"{counts}: {done} of {planned} runs" + (
        ", INCOMPLETE: the figures below are of those alone." if done < planned else "."
    )


def _table(rows: Sequence[Mapping[str, str]], rounds: int) -> list[str]:
    found = areas(rows, rounds)
    head = [
        "strategy",
        "area",
        *(f"against {base}" for base in BASELINES),
        "seconds a round: training",
        "measuring and choosing",
        "runs",
    ]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for strategy in [name for name in ARMS if name in found]:
        mine = [row for row in rows if row["strategy"] == strategy]
        cells = [
            strategy,
            f"{100 * np.mean(list(found[strategy].values())):.1f}",
            *(_points(against(found, strategy, base)) for base in BASELINES),
        ]
        measured = [float(row["measure_s"]) for row in mine if row["chosen"]]
        cells += [
            f"{np.median([float(row['train_s']) for row in mine]):.0f}",
            f"{np.median(measured):.1f}",
            str(len(found[strategy])),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, "", _verdict(found)]


def _verdict(found: Mapping[str, Mapping[tuple[str, str], float]]) -> str:
    compared = {name: against(found, name, "foreground_random") for name in found if name not in BASELINES}
    if not any(compared.values()):
        return "Too few complete runs for a comparison with foreground_random."
    better = [name for name, difference in compared.items() if difference and difference["low"] > 0]
    worse = [name for name, difference in compared.items() if difference and difference["high"] < 0]
    said = (
        f"Better than foreground_random: {', '.join(better)}."
        if better
        else "No strategy beats foreground_random: no interval lies above 0."
    )
    return said + (f" Worse: {', '.join(worse)}." if worse else "")


def _curves(rows: Sequence[Mapping[str, str]]) -> list[str]:
    counts = sorted({int(row["labelled"]) for row in rows})
    lines = [
        "| mean Dice by labelled cases | " + " | ".join(map(str, counts)) + " |",
        "|" + "---|" * (len(counts) + 1),
    ]
    for strategy in [name for name in ARMS if any(row["strategy"] == name for row in rows)]:
        cells = []
        for count in counts:
            values = [
                float(row[region])
                for row in rows
                if (row["strategy"], row["labelled"]) == (strategy, str(count))
                for region in REGIONS
            ]
            cells.append(f"{100 * np.mean(values):.1f}" if values else "")
        lines.append("| " + " | ".join([strategy, *cells]) + " |")
    return lines


def _points(difference: Mapping[str, float] | None) -> str:
    return (
        f"{100 * difference['mean']:+.1f} ({100 * difference['low']:+.1f} to {100 * difference['high']:+.1f})"
        if difference
        else ""
    )
