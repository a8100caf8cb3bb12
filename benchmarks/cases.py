"""The labelled gliomas of the benchmarks: which folds they are tested in, and what is said of their enhancing
tumour.

Six folds of four are for new figures: each has its share of the cases without and with little enhancing
tumour. The four folds of the first sixteen cases are for comparison with older tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from slem_app.evaluate.scores import bootstrap
from slem_app.finetune.folds import folds
from slem_app.volumes.cache import CaseCache

__all__ = ["SIXTEEN", "SIX_APART", "SPLITS", "amounts", "enhancing", "split"]

LITTLE = 5.0  # ml of enhancing tumour under which a case has little
SIXTEEN = (
    "BraTS2021_01477",
    "BraTS2021_01479",
    "Brats18_2013_20_1",
    "Brats18_2013_3_1",
    "Brats18_CBICA_ABM_1",
    "Brats18_CBICA_ALU_1",
    "Brats18_CBICA_AME_1",
    "Brats18_CBICA_AQN_1",
    "Brats18_TCIA01_201_1",
    "Brats18_TCIA01_378_1",
    "Brats18_TCIA01_425_1",
    "Brats18_TCIA02_135_1",
    "Brats18_TCIA02_370_1",
    "Brats18_TCIA03_265_1",
    "Brats18_TCIA10_628_1",
    "Brats18_TCIA13_623_1",
)
"""The cases of the tables before 2026-11-27."""
SIX_APART = (
    "BraTS2021_01476",
    "Brats18_2013_11_1",
    "Brats18_2013_2_1",
    "Brats18_CBICA_AVG_1",
    "Brats18_TCIA05_396_1",
    "Brats18_TCIA10_637_1",
)
"""None of the sixteen: what `slem_brain` up to version 4, the second look and the editor are tested on."""
SPLITS = {"six": 6, "four": 4}
"""Name -> number of folds; `four` is the older one, of the first sixteen cases by name."""


def split(cache: CaseCache, name: str = "six", count: int = 0) -> list[tuple[str, ...]]:
    """The test folds, from what the cache holds, so that every machine makes the same.

    Args:
        cache: prepared cases with truth.
        name: in `SPLITS`.
        count: number of folds in place of the split's.
    """
    if name == "four":
        return folds([case for case in cache.ids() if case in SIXTEEN], count or SPLITS[name])
    return folds(cache.ids(), count or SPLITS[name], amounts(cache))


def amounts(cache: CaseCache) -> dict[str, int]:
    """Case -> how much of the last region, enhancing tumour, it has: 0 none, 1 under 5 ml, 2 more."""
    found = {}
    for name in cache.ids():
        case = cache.load(name)
        share = np.asarray(case.regions[-1], dtype=np.float64).sum() / 255
        ml = share * float(np.prod(case.grid.spacing)) / 1000
        found[name] = 0 if ml == 0 else 1 if ml < LITTLE else 2
    return found


def enhancing(rows: Mapping[str, Sequence[Mapping[str, object]]]) -> list[str]:
    """Lines on enhancing tumour, apart for cases with and without it.

    Args:
        rows: arm -> a row a case with `case`, `ET` (Dice, 0 to 1), `ET_ml` found and `ET_true_ml`.
    """
    first = next(iter(rows.values()))
    empty = sorted(str(row["case"]) for row in first if not float(row["ET_true_ml"]))
    lines = [
        f"Without enhancing tumour: {', '.join(empty) or 'no case'}. All that is found there is false; "
        "nothing found counts 100.",
        "",
        "| | ET Dice, all | ET Dice, where there is some | found / true ml there, median | false ml where "
        "there is none: mean (most) |",
        "|---|---|---|---|---|",
    ]
    for arm, each in rows.items():
        some = [row for row in each if float(row["ET_true_ml"])]
        false = [float(row["ET_ml"]) for row in each if not float(row["ET_true_ml"])]
        ratio = [float(row["ET_ml"]) / float(row["ET_true_ml"]) for row in some]
        lines.append(
            f"| {arm} | {_points(each)} | {_points(some)} | {np.median(ratio) if ratio else np.nan:.2f} | "
            f"{f'{np.mean(false):.2f} ({max(false):.2f})' if false else '-'} |"
        )
    return lines


def _points(rows: Sequence[Mapping[str, object]]) -> str:
    if not rows:
        return "-"
    b = bootstrap([100 * float(row["ET"]) for row in rows])
    return f"{b['mean']:.1f} ({b['low']:.1f} to {b['high']:.1f})"
