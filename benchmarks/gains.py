"""Dice of several ways to segment the same cases, and what one way gains over another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from slem_app.evaluate.scores import bootstrap, region_scores
from slem_app.finetune.cases import truth
from slem_app.grouping import group
from slem_app.labels import LabelSet
from slem_app.predict import Predictor
from slem_app.studies import Study
from slem_app.types import Grid
from slem_app.volumes.prepare import Prepared

__all__ = ["Row", "asked", "gain", "row_of", "scored"]


@dataclass(frozen=True)
class Row:
    """One case of one arm."""

    case: str
    arm: str
    dice: tuple[float, ...]
    """Of each region."""
    found: float
    """ml of the last region."""
    there: float
    """ml of it in the truth."""


def asked(study: Study, predictor: Predictor) -> tuple[Prepared, np.ndarray, Grid]:
    """A case as the predictor sees it, its truth in the model's values, and the grid of both."""
    expected, grid = truth(study, predictor.card.labels)
    return replace(predictor.prepare_case(group(study))[0], reference=grid), expected, grid


def scored(
    case: str, predictor: Predictor, arm: str, prepared: Prepared, expected: np.ndarray, grid: Grid
) -> Row:
    """One case, segmented as the server does and compared with the truth.

    Args:
        case: its id.
        predictor: of the arm.
        arm: its name.
        prepared: from `asked`, or with sequences taken away.
        expected: label map on `grid`.
        grid: of the truth.
    """
    return row_of(case, arm, predictor.predict(prepared).array, expected, grid, predictor.card.labels)


def row_of(case: str, arm: str, array: np.ndarray, expected: np.ndarray, grid: Grid, labels: LabelSet) -> Row:
    """A result beside the truth.

    Args:
        case: its id.
        arm: whose result.
        array: label map on `grid`.
        expected: the truth, likewise.
        grid: of both.
        labels: the model's.
    """
    scores = region_scores(array, expected, grid, labels, surface=False)
    found, there = (grid.millilitres(labels.region_masks(one)[-1]) for one in (array, expected))
    return Row(case, arm, tuple(float(value) for value in scores.values()), found, there)


def gain(rows: Sequence[Row], arm: str, than: str) -> list[str]:
    """Cells of a table: cases, Dice of each region, mean Dice, points by which it is more than another arm's
    with the interval, cases that are better.

    Args:
        rows: of all arms.
        arm: whose cells.
        than: the other one.
    """
    before = {row.case: float(np.mean(row.dice)) for row in rows if row.arm == than}
    mine = [row for row in rows if row.arm == arm]
    dice = np.array([row.dice for row in mine])
    more = [100 * (float(np.mean(row.dice)) - before[row.case]) for row in mine]
    b = bootstrap(more)
    return [
        str(len(mine)),
        *(f"{value:.3f}" for value in dice.mean(axis=0)),
        f"{dice.mean():.3f}",
        f"{b['mean']:+.1f} ({b['low']:+.1f} to {b['high']:+.1f})",
        str(sum(value > 0 for value in more)),
    ]
