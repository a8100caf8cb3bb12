"""A line that is closed means what it encloses: found from the voxels that it goes through, for a client
lists these and not the way of the mouse.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from slem_app.types import Grid
from slem_app.volumes.geometry import bounding_box

__all__ = ["GAP", "enclosed"]

GAP = 4.0
"""Millimetres between the ends of a line that still meet."""
LOOP = 0.7  # share of all that is enclosed that lies in one piece: hatching encloses many small ones
LEAST = 0.25  # what is enclosed, of what is painted: a blob with a small hole is no loop


def enclosed(painted: np.ndarray, grid: Grid) -> np.ndarray | None:
    """What a line encloses, with the line itself.

    Args:
        painted: (I, J, K) bool, the line; some of it is painted.
        grid: of the image.

    Returns:
        (I, J, K) bool; None where the line is open, lies in several slices, or encloses no one area.

    Example:
        >>> ring = np.zeros((9, 9, 1), dtype=bool)
        >>> ring[1:8, 1:8] = True
        >>> ring[2:7, 2:7] = False
        >>> int(enclosed(ring, Grid((9, 9, 1), np.eye(4))).sum())
        49
    """
    box = bounding_box(painted)
    thin = [axis for axis, part in enumerate(box) if part.stop - part.start == 1]
    if len(thin) != 1:
        return None
    line = np.squeeze(painted[box], axis=thin[0])
    spacing = np.delete(grid.spacing, thin[0])
    filled = _filled(line, 0, spacing)
    if filled is None:
        filled = _filled(line, (GAP + spacing.min()) / 2, spacing)
    if filled is None:
        return None
    found = np.zeros_like(painted)
    found[box] = np.expand_dims(filled, thin[0])
    return found


def _filled(line: np.ndarray, reach: float, spacing: np.ndarray) -> np.ndarray | None:
    """(A, B) bool: a line with its inside; None where it has none that counts.

    Args:
        line: (A, B) bool.
        reach: mm by which it is widened on all sides to be closed.
        spacing: (2,) mm.
    """
    margin = int(np.ceil(reach / spacing.min())) + 1
    free = np.pad(~line, margin, constant_values=True)
    wide = ndimage.distance_transform_edt(free, sampling=spacing) <= reach
    whole = np.asarray(ndimage.binary_fill_holes(wide))
    pieces, count = ndimage.label(whole & ~wide)
    if not count:
        return None
    sizes = np.bincount(pieces.ravel())[1:]
    filled = (ndimage.distance_transform_edt(whole, sampling=spacing) > reach) | ~free
    inside = np.count_nonzero(filled & free)
    if sizes.max() < LOOP * sizes.sum() or inside < LEAST * np.count_nonzero(line):
        return None
    return np.asarray(filled[(slice(margin, -margin),) * 2])
