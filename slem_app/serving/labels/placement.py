"""On which image of its case a label map lies."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from slem_app.errors import BadGrid, SlemError
from slem_app.formats import place
from slem_app.serving.cases.catalogue import Case
from slem_app.types import Grid

__all__ = ["largest_grid", "placed"]


def largest_grid(case: Case) -> Grid:
    """The grid of most voxels among the case's images."""
    grids = [case.series.grid]
    for series in case.grouping.sequences.values():
        with suppress(SlemError):  # another sequence's trouble
            grids.append(series.grid)
    return max(grids, key=lambda grid: math.prod(grid.shape))


def placed(case: Case, array: np.ndarray, grid: Grid) -> tuple[dict[str, Any], np.ndarray]:
    """The image on whose grid a label lies, first of all the one that was asked for, and the label on all of
    that grid.
    """
    refusals, names = [], dict.fromkeys((case.sequence, *case.grouping.sequences))
    for image in (
        *([{"onto": case.onto}] if case.onto else []),
        *({"sequence": name, "onto": None} for name in names),
    ):
        try:
            return image, place(array, grid, replace(case, **image).series.grid, "the label")
        except BadGrid as error:
            refusals.append(str(error))
    raise BadGrid(
        f"{refusals[0]}. No other sequence of case {case.id!r} has that grid either. "
        "Export it with the image as reference volume; nothing was saved, and earlier versions are kept"
    )
