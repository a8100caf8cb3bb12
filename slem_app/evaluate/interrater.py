"""How far readers agree on one case: overlap, distance and volumes of each label and region, for each pair of
them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from slem_app.evaluate.scores import dice, hausdorff95
from slem_app.labels import LabelSet
from slem_app.types import Grid
from slem_app.volumes.geometry import resample

__all__ = ["Agreement", "agreements"]


@dataclass(frozen=True)
class Agreement:
    """Two readers on one part of one case."""

    case: str
    """Case id."""
    part: str
    """A label, or a region that is more than one."""
    one: str
    """A reader."""
    other: str
    """Another."""
    dice: float
    """Overlap, 0 to 1; 1 if both found nothing."""
    hd95: float | None
    """95 % Hausdorff distance, mm; None if one of them found nothing."""
    one_ml: float
    """Volume as the one has it."""
    other_ml: float
    """Volume as the other has it."""
    resampled: bool = False
    """The other's label lay on another grid and was brought to the one's (nearest voxel)."""


def agreements(
    case: str,
    maps: Mapping[str, tuple[np.ndarray, Grid]],
    labels: Sequence[str],
    regions: LabelSet | None = None,
) -> tuple[Agreement, ...]:
    """Compare every pair of readers of a case.

    Args:
        case: case id.
        maps: reader -> (I, J, K) label values and their grid.
        labels: names of the values, from 1 on.
        regions: of a model with these labels; None: labels alone are compared.

    Raises:
        BadGrid: grids that cannot be brought together.
    """
    found = []
    for (one, (array, grid)), (other, (second, second_grid)) in combinations(maps.items(), 2):
        moved = not second_grid.same_as(grid)
        second = resample(second, second_grid, grid, order=0) if moved else second
        for part, values in _parts(labels, regions).items():
            a, b = np.isin(array, values), np.isin(second, values)
            distance = None if a.any() != b.any() else hausdorff95(a, b, grid.spacing)
            mine, theirs = (grid.millilitres(mask) for mask in (a, b))
            found.append(Agreement(case, part, one, other, dice(a, b), distance, mine, theirs, moved))
    return tuple(found)


def _parts(labels: Sequence[str], regions: LabelSet | None) -> dict[str, list[int]]:
    """Name -> label values that it is made of."""
    parts = {name: [value] for value, name in enumerate(labels, 1)}
    if regions is not None:
        parts |= {
            region.name: [regions.value(name) for name in region.labels]
            for region in regions.regions
            if len(region.labels) > 1
        }
    return parts
