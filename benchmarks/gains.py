"""Dice of several ways to segment the same cases, and what one way gains over another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from slem_app.evaluate.scores import bootstrap

__all__ = ["Row", "gain"]


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
