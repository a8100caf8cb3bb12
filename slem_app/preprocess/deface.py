"""Where the face is, told by the brain alone, as Quickshear does (Schimke and Hale, USENIX HealthSec 2011):
in the view from the side a line is laid along the lower front of the brain, and all in front of and below it
is face.

The line here is the longest edge of the brain's outline that looks forwards and downwards, from the frontal
lobe to the temporal lobe, so it follows the head's own tilt. Ears and the back of the head stay.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import ConvexHull

from slem_app.types import Grid

__all__ = ["CLEARANCE", "face"]

CLEARANCE = 5.0  # mm between the brain and what is taken away
STEEPEST, FLATTEST = 20.0, 75.0  # degrees below the horizontal at which the line may look


def face(brain: np.ndarray, grid: Grid) -> np.ndarray:
    """The part of a head that is face.

    Args:
        brain: (I, J, K) bool.
        grid: where it lies.

    Returns:
        (I, J, K) bool; no voxel of it is within `CLEARANCE` mm of the brain's outline from the side.
    """
    world = grid.to_world(np.argwhere(brain))[:, 1:]  # anterior, superior
    forwards, upwards = _normal(world)
    limit = float((world @ np.array([forwards, upwards])).max()) + CLEARANCE
    i, j, k = np.ogrid[tuple(slice(n) for n in grid.shape)]
    rows = forwards * grid.affine[1] + upwards * grid.affine[2]
    return np.asarray(rows[0] * i + rows[1] * j + rows[2] * k + rows[3] > limit)


def _normal(points: np.ndarray) -> tuple[float, float]:
    """Towards the face, a unit vector along A and S: across the longest edge of the outline that looks there.

    Args:
        points: (N, 2) mm along A and S.
    """
    hull = ConvexHull(points)
    outline = points[hull.vertices]  # counter-clockwise
    edges = np.roll(outline, -1, axis=0) - outline
    lengths = np.linalg.norm(edges, axis=1)
    normals = np.stack([edges[:, 1], -edges[:, 0]], axis=1) / lengths[:, None]  # outwards
    below = np.degrees(np.arctan2(-normals[:, 1], normals[:, 0]))
    fits = (below >= STEEPEST) & (below <= FLATTEST)
    if not fits.any():  # an outline as no brain has it
        angle = np.radians((STEEPEST + FLATTEST) / 2)
        return float(np.cos(angle)), float(-np.sin(angle))
    best = int(np.where(fits, lengths, 0).argmax())
    return float(normals[best, 0]), float(normals[best, 1])
