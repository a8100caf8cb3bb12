"""Whether there is anything in an image but one even substance.

A brain has grey and white matter and fluid, which differ in every sequence; a bottle of water has none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from scipy import ndimage

from slem_app.errors import BadVolume

__all__ = ["check_tissue", "contrast"]

FIELD = 15.0  # mm, standard deviation of the mean that a coil may make uneven
GRAIN = 2.0  # mm, standard deviation of the mean that takes noise away
RIM = 8.0  # mm below the surface that are not looked at
INNER = (5, 95)  # percentiles between which most of the inside lies
SOME = (slice(None, None, 2),) * 3  # voxels that are looked at, once the grain is smoothed
LEAST_INSIDE = 500  # of them
LEAST_CONTRAST = 0.13  # bottles of water have 0.06 to 0.1, the least of real sequences 0.16


def contrast(image: np.ndarray, mask: np.ndarray, spacing: Sequence[float]) -> float:
    """How much the inside differs from its own surroundings, relative to its median.

    Args:
        image: (I, J, K) intensities, about 0 in air.
        mask: (I, J, K) bool, what looks like a brain.
        spacing: mm.

    Returns:
        Range of the middle 90 % of the inside; infinite where the mask has no inside.
    """
    step = np.asarray(spacing, float)
    weight = mask.astype(np.float32)
    height = np.where(mask, image, np.float32(0))
    near, share = (ndimage.gaussian_filter(one, GRAIN / step)[SOME] for one in (height, weight))
    deep = ndimage.distance_transform_edt(mask[SOME], sampling=2 * step) > RIM
    if np.count_nonzero(deep) < LEAST_INSIDE:
        return np.inf
    around, known = (ndimage.gaussian_filter(one, FIELD / (2 * step)) for one in (near, share))
    inside = (near / np.maximum(share, 0.01) - around / np.maximum(known, 0.01))[deep]
    low, high = np.percentile(inside, INNER)
    return float((high - low) / max(float(np.median(np.abs(height[SOME][deep]))), 1e-6))


def check_tissue(images: Iterable[tuple[np.ndarray, np.ndarray]], spacing: Sequence[float]) -> None:
    """Refuse a study in which no sequence shows tissues.

    Args:
        images: of each sequence the image and the mask, as for `contrast`.
        spacing: mm.

    Raises:
        BadVolume: all are of one even substance.
    """
    most = 0.0
    for image, mask in images:
        most = max(most, contrast(image, mask, spacing))
        if most >= LEAST_CONTRAST:
            return
    raise BadVolume(
        f"no brain is found: what looks most like one is an even substance in every sequence (its "
        f"brightness varies by {most:.0%}, that of a brain by {LEAST_CONTRAST:.0%} and more): is it a "
        f"phantom? Give an MR image of a whole head"
    )
