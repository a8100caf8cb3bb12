"""What a coil does to the brightness of a brain, found by N4ITK and taken out.

The public cases that networks learn from are even: where a coil makes the cerebellum brighter than the rest,
such a network takes that for a tumour.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from slem_app.types import Grid, triple
from slem_app.volumes.brain import BrainMask
from slem_app.volumes.coarse import Coarse
from slem_app.volumes.geometry import bounding_box, resample
from slem_app.volumes.levels import Volume

__all__ = ["ReceiveField", "receive_field"]

STEP = 3  # voxels of the coarse image from one to the next that is looked at: 6 mm
ITERATIONS = (60, 60)  # of each level; a third level took tumours for a field
POINTS = (4, 4, 4)  # control points of the first level's cubic spline
LEAST = 1e-3  # of the image's range: what has a logarithm


@dataclass(frozen=True, eq=False)
class ReceiveField:
    """By what a brain is too bright or too dark."""

    log: np.ndarray
    """(I, J, K) float32, natural logarithm of the factor, 0 on average over the brain."""
    grid: Grid
    """The box around the brain."""

    @property
    def spread(self) -> float:
        """Largest over smallest factor in the box around the brain."""
        return float(np.exp(self.log.max() - self.log.min()))

    def taken_from(self, volume: Volume) -> Volume:
        """The volume without it; what lies outside the box stays as it is."""
        log = resample(self.log, self.grid, volume.grid, order=1)
        return Volume((volume.array * np.exp(-log)).astype(np.float32), volume.grid)


def receive_field(seen: Coarse, brain: BrainMask) -> ReceiveField | None:
    """Find it (Tustison et al., N4ITK, IEEE TMI 2010).

    Args:
        seen: a whole head.
        brain: where the brain is, in the same world.

    Returns:
        None where the brain lies outside the image.
    """
    image = seen.image[::STEP, ::STEP, ::STEP]
    whole = Grid(triple(image.shape), seen.grid.affine @ np.diag([STEP, STEP, STEP, 1.0]))
    inside = brain.on(whole)
    if not inside.any():
        return None
    box = tuple(slice(max(0, part.start - 2), part.stop + 2) for part in bounding_box(inside))
    image, inside = np.maximum(image[box], LEAST), inside[box]
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations(ITERATIONS)
    n4.SetNumberOfControlPoints(POINTS)
    n4.SetNumberOfThreads(1)  # as in registration: the same on every machine
    shown = sitk.GetImageFromArray(np.ascontiguousarray(image))
    n4.Execute(shown, sitk.GetImageFromArray(inside.astype(np.uint8)))
    log = sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(shown))
    grid = whole.crop(triple(part.start for part in box), triple(inside.shape))
    return ReceiveField((log - log[inside].mean()).astype(np.float32), grid)
