"""Whether a brain lies as its header says, by its shape: the cerebellum lies below and behind, the forehead
is narrower than the back of the head. Left and right cannot be told so.

Moments of a brain's shape up to the third order (Hu 1962, "Visual pattern recognition by moment invariants",
IRE Trans. Inform. Theory 8) are compared with those of upright brains: as the header has it, and mirrored.
`benchmarks/results/warnings.md` says what was measured.
"""

from __future__ import annotations

import numpy as np

from slem_app.result_warning import ResultWarning
from slem_app.types import Grid

__all__ = ["turned", "unlikelihood"]

USUAL = np.array([1.278, 0.796, 0.241, 0.302, 0.038, -0.146, -0.111, 0.015, -0.056])
"""Median of the moments of 24 brains, in the order of `_moments`."""
SPREAD = np.array([0.158, 0.130, 0.103, 0.094, 0.116, 0.058, 0.084, 0.043, 0.037])
"""One and a half standard deviations of them over 50 brains of other sources, too."""
NODS = range(-24, 25, 6)  # degrees by which the head may be bent
NOD = 15.0  # of them, what is as unusual as one of SPREAD
POINTS = 4000  # of the brain that are looked at
LEAST = 1000  # voxels of a brain that has a shape
DOUBTFUL = 10.0  # how much better a mirror image must fit
MIRRORS = {
    "upside down": (1, 1, -1),
    "back to front": (1, -1, 1),
    "upside down and back to front": (1, -1, -1),
}
"""How it seems to lie -> factors of R, A, S."""


def turned(brain: np.ndarray, grid: Grid) -> tuple[ResultWarning, ...]:
    """A warning where a brain's shape speaks clearly against its header.

    Args:
        brain: (I, J, K) bool, a whole brain.
        grid: where it lies.
    """
    there = np.argwhere(brain)
    if len(there) < LEAST:
        return ()
    points = grid.to_world(there[:: max(1, len(there) // POINTS)])
    found = {how: unlikelihood(points * signs) for how, signs in MIRRORS.items()}
    how = min(found, key=found.__getitem__)
    if unlikelihood(points) - found[how] <= DOUBTFUL:
        return ()
    text = (
        f"by its shape, the brain lies {how}, unlike what the header says: the image may have been stored or "
        f"converted wrongly, and left and right may be swapped; compare it with the images on the scanner"
    )
    return (ResultWarning("orientation-doubtful", text),)


def unlikelihood(points: np.ndarray) -> float:
    """How far the shape of some points is from an upright brain's, bent in any usual way; 0: not at all.

    Args:
        points: (n, 3) R, A, S.
    """
    middle = points - points.mean(axis=0)
    unit = middle / np.sqrt((middle**2).mean())
    return min(
        float((((_moments(_bent(unit, nod)) - USUAL) / SPREAD) ** 2).sum() + (nod / NOD) ** 2) for nod in NODS
    )


def _bent(points: np.ndarray, degrees: float) -> np.ndarray:
    """Points turned about the R axis."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.asarray(points @ np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]).T)


def _moments(points: np.ndarray) -> np.ndarray:
    """(9,) central moments of the second and third order in which left and right count the same."""
    x, y, z = points.T
    products = (y * y, z * z, y * z, y**3, y * y * z, y * z * z, z**3, x * x * y, x * x * z)
    return np.array([one.mean() for one in products])
