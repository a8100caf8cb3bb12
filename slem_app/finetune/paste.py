"""The tumour of one training case put into another (TumorCP, Yang et al. 2021; CarveMix, Zhang et al. 2021).

Both lie on the network's grid with mean 0 and sd 1, so intensities are taken as they are; the seam is blended
over some voxels. Only cases of the same training set give and take.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from slem_app.volumes.geometry import bounding_box

__all__ = ["LEAST_INSIDE", "paste_tumour"]

LEAST_INSIDE = 0.8  # share of the tumour that must lie inside the other head
SEAM = 1.5  # voxels, standard deviation of the blending
RIM = 2  # voxels around the tumour that come along: its border belongs to it


def paste_tumour(
    images: np.ndarray, regions: np.ndarray, donor_images: np.ndarray, donor_regions: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Put the donor's tumour where it lies in its own patch.

    Args:
        images: (M, i, j, k) patch, 0 outside the head.
        regions: (R, i, j, k) uint8, 255 inside.
        donor_images: (M, i, j, k) patch of the donor, the same sequences.
        donor_regions: (R, i, j, k) uint8.

    Returns:
        New images and regions; None where the donor's patch holds no tumour or it would not lie in the head.
    """
    tumour = donor_regions.max(axis=0) >= 128
    if not tumour.any():
        return None
    head = (images != 0).any(axis=0)
    if np.count_nonzero(tumour & head) < LEAST_INSIDE * np.count_nonzero(tumour):
        return None
    margin = RIM + int(np.ceil(3 * SEAM))
    box = tuple(slice(max(0, side.start - margin), side.stop + margin) for side in bounding_box(tumour))
    both = head[box] & (donor_images[(slice(None), *box)] != 0).any(axis=0)
    core = ndimage.binary_dilation(tumour[box], iterations=RIM) & both
    weight = ndimage.gaussian_filter(core.astype(np.float32), SEAM) * both
    weight = np.where(tumour[box] & both, np.maximum(weight, 0.5), weight).astype(np.float32)
    images, regions = images.copy(), regions.copy()
    mine, theirs = images[(slice(None), *box)], donor_images[(slice(None), *box)]
    images[(slice(None), *box)] = mine + weight * (theirs.astype(np.float32) - mine)
    regions[(slice(None), *box)] = np.where(
        core, donor_regions[(slice(None), *box)], regions[(slice(None), *box)]
    )
    return images, regions
