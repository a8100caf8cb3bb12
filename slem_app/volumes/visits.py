"""An earlier examination of the same patient laid on a later one: rigid, by one sequence that both have, and
whether that is to be believed.

Only the label map of the earlier visit is carried over; images stay where they are. Two things tell a
registration that failed, or another patient: the brains do not cover each other, or the images, once they
should lie on each other, do not look alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from slem_app.errors import NotFound
from slem_app.types import Grid
from slem_app.volumes.coarse import Coarse, coarse
from slem_app.volumes.geometry import resample
from slem_app.volumes.levels import Levels, Volume

__all__ = ["Move", "carry", "move_between", "shared_sequence"]

LEAST_AGREEMENT = 0.85  # Dice of the brains
LEAST_LIKENESS = 0.5  # correlation of the images' detail within both brains; other patients: some 0.25
DETAIL = 4.0  # mm: what is smoother than this says nothing of whose brain it is


@dataclass(frozen=True, eq=False)
class Move:
    """Where a later examination's points lie in the earlier one."""

    matrix: np.ndarray
    """(4, 4) RAS, from the later world to the earlier one."""
    sequence: str
    """By which it was found."""
    distance: float
    """mm by which points of the brain are moved on average."""
    agreement: float
    """Dice of the brains afterwards."""
    likeness: float
    """Correlation of the images' detail within both brains, -1 to 1."""

    @property
    def doubt(self) -> str:
        """Why it is not to be believed; empty: it is."""
        if self.agreement < LEAST_AGREEMENT:
            return (
                f"the brains of the two visits overlap by {self.agreement:.2f} after registration, at least "
                f"{LEAST_AGREEMENT} is needed"
            )
        if self.likeness < LEAST_LIKENESS:
            return (
                f"the two visits' {self.sequence} do not look alike after registration (correlation "
                f"of detail {self.likeness:.2f}, at least {LEAST_LIKENESS} is needed)"
            )
        return ""

    def table(self) -> dict[str, object]:
        """For JSON."""
        return {
            "sequence": self.sequence,
            "moved_mm": round(self.distance, 1),
            "brains_dice": round(self.agreement, 3),
            "likeness": round(self.likeness, 3),
            "doubt": self.doubt,
        }


def move_between(
    later: Volume, earlier: Volume, sequence: str, tumours: tuple[Volume, Volume] | None = None
) -> Move:
    """Register the earlier visit with the later one.

    Args:
        later: one sequence of the later visit.
        earlier: the same sequence of the earlier visit.
        sequence: its name.
        tumours: where the later and the earlier visit's tumour lies, more than 0 there: what may change does
            not tell whose brain it is.

    Raises:
        BadVolume: an image in which nothing can be found.
        NotFound, BadCard, BadWeights: the network that finds the brain in a whole head is not there.
    """
    fixed, moving = (
        coarse(volume, Levels.of(volume.array, sequence), sequence, head=True) for volume in (later, earlier)
    )
    # takes a second to import, which a server would wait for at its start
    from slem_app.volumes.register import brains_agree, distance_moved, rigid

    matrix = rigid(fixed, moving)
    return Move(
        matrix,
        sequence,
        distance_moved(fixed, matrix),
        brains_agree(fixed, moving, matrix),
        _likeness(fixed, moving, matrix, tumours),
    )


def shared_sequence(wanted: Sequence[str], later: Sequence[str], earlier: Sequence[str]) -> str:
    """The first of the wanted sequences that both visits have.

    Raises:
        NotFound: they share none.
    """
    for name in wanted:
        if name in later and name in earlier:
            return name
    raise NotFound(
        f"the two visits have no sequence in common ({', '.join(later)}; {', '.join(earlier)}): they cannot "
        f"be laid on each other"
    )


def carry(array: np.ndarray, grid: Grid, matrix: np.ndarray, onto: Grid) -> np.ndarray:
    """A label map of the earlier visit on a grid of the later one, nearest neighbour.

    Args:
        array: (I, J, K) values.
        grid: their grid, in the earlier world.
        matrix: as `Move.matrix`.
        onto: a grid in the later world.

    Returns:
        (I', J', K') of the same type; 0 outside the earlier field of view.
    """
    return resample(array, Grid(grid.shape, np.linalg.inv(matrix) @ grid.affine), onto, order=0)


def _likeness(
    fixed: Coarse, moving: Coarse, matrix: np.ndarray, tumours: tuple[Volume, Volume] | None
) -> float:
    """Correlation of what is finer than DETAIL, within both brains away from their border and from the
    tumours.
    """
    back = np.linalg.inv(matrix)
    place = Grid(moving.grid.shape, back @ moving.grid.affine)
    image = resample(moving.image, place, fixed.grid, order=1)
    brain = resample(moving.brain, place, fixed.grid, order=1) > 0.5
    inner = ndimage.binary_erosion(
        (fixed.brain > 0.5) & brain, iterations=round(DETAIL / fixed.grid.spacing[0])
    )
    if tumours is not None:
        now, before = tumours
        before = Volume(before.array, Grid(before.grid.shape, back @ before.grid.affine))
        sick = [resample(one.array, one.grid, fixed.grid, order=0) > 0 for one in (now, before)]
        inner &= ~ndimage.binary_dilation(sick[0] | sick[1], iterations=round(DETAIL / fixed.grid.spacing[0]))
    if np.count_nonzero(inner) < 1000:
        return 0.0
    mine, other = (_detail(one, fixed.grid)[inner] for one in (fixed.image, image))
    return float(np.corrcoef(mine, other)[0, 1]) if mine.std() and other.std() else 0.0


def _detail(image: np.ndarray, grid: Grid) -> np.ndarray:
    """The image, a little smoothed against noise, without what is smooth."""
    sigma = DETAIL / grid.spacing
    return ndimage.gaussian_filter(image, sigma / 4) - ndimage.gaussian_filter(image, sigma)
