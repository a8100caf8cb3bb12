"""Rigid registration of a study's sequences, by SimpleITK. Off unless asked for: it moves images that the
scanner had placed.

Only the affine of a moved sequence changes; its voxels stay as they are, so nothing is interpolated twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from slem_app.errors import BadGrid
from slem_app.types import Grid
from slem_app.volumes.prepare import Volume

__all__ = ["Moved", "register"]

FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])  # RAS <-> LPS, the frame of ITK


@dataclass(frozen=True, eq=False)
class Moved:
    """What registration did."""

    volumes: Mapping[str, Volume]
    """All sequences, those that were moved with a new affine."""
    shifts: Mapping[str, float]
    """Sequence -> mm by which its centre moved."""


def register(volumes: Mapping[str, Volume], fixed: str, seed: int = 0) -> Moved:
    """Move every sequence onto one of them: rigid, Mattes mutual information, three resolutions.

    Args:
        volumes: by sequence name.
        fixed: the one that stays.
        seed: of the samples that the metric looks at.

    Raises:
        BadGrid: `fixed` is not among them, or the optimizer found no overlap.
    """
    if fixed not in volumes:
        raise BadGrid(f"cannot register onto {fixed!r}: this study has {', '.join(volumes)}")
    target = _image(volumes[fixed])
    moved, shifts = {}, {}
    for name, volume in volumes.items():
        if name == fixed:
            moved[name], shifts[name] = volume, 0.0
            continue
        matrix = _rigid(target, _image(volume), seed, name)  # RAS, fixed point -> moving point
        affine = np.linalg.inv(matrix) @ volume.grid.affine
        centre = (np.array(volume.grid.shape) - 1) / 2
        grid = Grid(volume.grid.shape, affine)
        shifts[name] = float(np.linalg.norm(grid.to_world(centre) - volume.grid.to_world(centre)))
        moved[name] = Volume(volume.array, grid)
    return Moved(moved, shifts)


def _image(volume: Volume) -> sitk.Image:
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.array.transpose(2, 1, 0)))
    affine = FLIP @ volume.grid.affine
    image.SetSpacing(volume.grid.spacing.tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((affine[:3, :3] / volume.grid.spacing).ravel().tolist())
    return image


def _rigid(fixed: sitk.Image, moving: sitk.Image, seed: int, name: str) -> np.ndarray:
    """(4, 4) RAS matrix from points of the fixed image to points of the moving one."""
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.05, seed + 1)  # a seed of zero means the clock
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=1.0, minStep=1e-3, numberOfIterations=150, relaxationFactor=0.6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([3, 1.5, 0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetNumberOfThreads(1)  # with several the sums, and so the result, depend on the machine
    try:
        start = _start(method, fixed, moving)
        method.SetInitialTransform(start, inPlace=True)
        method.Execute(fixed, moving)
    except RuntimeError as error:
        raise BadGrid(
            f"sequence {name} could not be registered ({str(error).strip().splitlines()[-1]}): leave it "
            f"out, or register it by hand"
        ) from error
    return _matrix(start)


def _start(
    method: sitk.ImageRegistrationMethod, fixed: sitk.Image, moving: sitk.Image
) -> sitk.VersorRigid3DTransform:
    """Where the scanner put the image, or centre of mass on centre of mass: whichever agrees better (a
    truncated image has its mass elsewhere).
    """
    moments = sitk.CenteredTransformInitializer(
        fixed, moving, sitk.VersorRigid3DTransform(), sitk.CenteredTransformInitializerFilter.MOMENTS
    )
    moments = sitk.VersorRigid3DTransform(moments)
    stay = sitk.VersorRigid3DTransform()
    stay.SetCenter(moments.GetCenter())
    values = []
    for transform in (stay, moments):
        method.SetInitialTransform(transform)
        try:
            values.append(method.MetricEvaluate(fixed, moving))
        except RuntimeError:  # nothing overlaps from there
            values.append(np.inf)
    return stay if values[0] <= values[1] else moments


def _matrix(transform: sitk.Transform) -> np.ndarray:
    """(4, 4) RAS matrix of an LPS transform."""
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    matrix = np.eye(4)
    matrix[:3, :3] = np.column_stack(
        [np.array(transform.TransformPoint(tuple(axis))) - origin for axis in np.eye(3)]
    )
    matrix[:3, 3] = origin
    return FLIP @ matrix @ FLIP
