"""What speaks against a result by itself: its size, its place, how sure the network is of it.

The limits are the model's own (`Card.plausible`), from the cases that it was trained on and from studies of
other kinds; `benchmarks/results/warnings.md` lists what was measured.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from slem_app.result_warning import ResultWarning
from slem_app.volumes.prepare import Prepared
from slem_app.weights import Plausible

__all__ = ["NEAR", "doubts", "near_surface"]

NEAR = 5.0
"""mm from the border of the brain within which a voxel is near the surface."""


def doubts(
    array: np.ndarray,
    voxel_volume: float,
    probabilities: np.ndarray,
    prepared: Prepared,
    threshold: float,
    plausible: Plausible,
) -> tuple[ResultWarning, ...]:
    """Warnings of an automatic result.

    Args:
        array: (I, J, K) label values on the image's grid.
        voxel_volume: mm3 of its voxels.
        probabilities: (R, I, J, K) on the network's grid, the outermost region first.
        prepared: the case on that grid.
        threshold: probability from which a voxel belongs to a region.
        plausible: the model's limits.
    """
    if not plausible:
        return ()
    ml = float(np.count_nonzero(array) * voxel_volume / 1000)
    if ml == 0:
        text = "nothing was segmented: either there is nothing to find, or the model missed it"
        return (ResultWarning("nothing-found", text),)
    found = probabilities[0] >= threshold
    return (
        *_size(ml, plausible),
        *_place(found, prepared, plausible),
        *_sure(found, probabilities, plausible),
    )


def near_surface(found: np.ndarray, prepared: Prepared) -> float:
    """Share of `found`, (I, J, K) bool on the network's grid, within `NEAR` of the border of what any
    sequence shows; 0 where nothing is found.
    """
    brain = ndimage.binary_fill_holes((prepared.images[prepared.present] != 0).any(axis=0))
    depth = ndimage.distance_transform_edt(np.pad(brain, 1), sampling=prepared.grid.spacing)[1:-1, 1:-1, 1:-1]
    return float((depth[found] <= NEAR).mean()) if found.any() else 0.0


def _size(ml: float, plausible: Plausible) -> tuple[ResultWarning, ...]:
    if ml < plausible.smallest:
        text = (
            f"only {ml:.1f} ml were segmented, less than in any training case: this may be something else, "
            f"or only part of the tumor"
        )
        return (ResultWarning("small-result", text),)
    if plausible.largest and ml > plausible.largest:
        text = f"{ml:.0f} ml were segmented, more than in any training case: this may not be a single tumor"
        return (ResultWarning("large-result", text),)
    return ()


def _place(found: np.ndarray, prepared: Prepared, plausible: Plausible) -> tuple[ResultWarning, ...]:
    share = near_surface(found, prepared)
    if share <= plausible.near_surface:
        return ()
    text = (
        f"{share:.0%} of the result lies within {NEAR:.0f} mm of the border of the brain: it may be skull, "
        f"meninges or an image artifact"
    )
    return (ResultWarning("near-surface", text),)


def _sure(found: np.ndarray, probabilities: np.ndarray, plausible: Plausible) -> tuple[ResultWarning, ...]:
    sure = float(probabilities[0][found].mean()) if found.any() else 0.0
    if sure >= plausible.least_sure:
        return ()
    text = (
        f"the model is not sure of this result (mean probability {sure:.0%}; usual is "
        f"{plausible.least_sure:.0%} or more): the study may show something that it was not trained on"
    )
    return (ResultWarning("unsure-result", text),)
