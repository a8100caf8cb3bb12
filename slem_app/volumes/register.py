"""Rigid registration of a study's sequences, and affine registration of an atlas, by SimpleITK.

Sequences are compared at 2 mm, intensities in 0..1, with the brain known. Only the affine of a moved
sequence changes; its voxels stay as they are, so nothing is interpolated twice. Whether a registration is to
be believed is told by how well the brains, found in each sequence apart, lie on each other afterwards.
"""

from __future__ import annotations

import itertools

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from slem_app.types import Grid, triple
from slem_app.volumes.coarse import Coarse
from slem_app.volumes.geometry import resample

__all__ = ["affine", "brains_agree", "distance_moved", "rigid"]

FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])  # RAS <-> LPS, the frame of ITK
AROUND = 6.0  # mm around the brain that the measure looks at, so that its border counts
BINS = 32
SHRINK = (3, 1)
SHARE = 0.15  # of the voxels around the brain that the measure looks at
TURNS = (-14.0, 0.0, 14.0)
"""Degrees about each of R, A, S that are tried from the brains' middles."""
DOUBTFUL = 0.9  # agreement of the brains under which a second start is tried, too


def rigid(fixed: Coarse, moving: Coarse, seed: int = 0, turns: tuple[float, ...] = TURNS) -> np.ndarray:
    """Where the moving sequence shows what the fixed one shows.

    Mattes mutual information (IEEE TMI 2003) around the fixed image's brain, in two resolutions, from the
    header's place or from the brains' middles.

    Args:
        fixed: the one that stays.
        moving: the one that is to be moved.
        seed: of the voxels that the measure looks at.
        turns: degrees about each axis that are tried from the brains' middles.

    Returns:
        (4, 4) RAS, from points of the fixed sequence's world to those of the moving one's; no motion where
        nothing overlaps.
    """
    images = _image(fixed.image, fixed.grid), _image(moving.image, moving.grid)
    method, centre = _method(fixed, seed), FLIP[:3, :3] @ _middle(fixed)
    starts = [_transform(start, centre) for start in _starts(fixed, moving, turns)]
    starts.sort(key=lambda start: _value(method, images, start))
    best, value = np.eye(4), np.inf
    for start in starts[:2]:
        method.SetInitialTransform(start, inPlace=True)
        try:
            method.Execute(*images)
        except RuntimeError:  # too few voxels overlap from there
            continue
        if method.GetMetricValue() < value:
            best, value = _matrix(start), method.GetMetricValue()
        if brains_agree(fixed, moving, best) >= DOUBTFUL:
            break
    return best


def affine(fixed: Coarse, moving: Coarse, start: np.ndarray, seed: int = 0) -> np.ndarray:
    """Where another brain shows what the fixed one shows, by turning, moving, stretching and shearing it.

    Args:
        fixed: the one that stays.
        moving: the other brain.
        start: as `rigid` returns it for both.
        seed: of the voxels that the measure looks at.

    Returns:
        (4, 4) RAS, as that of `rigid`; the start where nothing overlaps.
    """
    method, centre = _method(fixed, seed), FLIP[:3, :3] @ _middle(fixed)
    lps = FLIP @ start @ FLIP
    transform = sitk.AffineTransform(3)
    transform.SetCenter(centre.tolist())
    transform.SetMatrix(lps[:3, :3].ravel().tolist())
    transform.SetTranslation((lps[:3, 3] + lps[:3, :3] @ centre - centre).tolist())
    method.SetInitialTransform(transform, inPlace=True)
    try:
        method.Execute(_image(fixed.image, fixed.grid), _image(moving.image, moving.grid))
    except RuntimeError:  # too few voxels overlap from there
        return start
    return _matrix(transform)


def brains_agree(fixed: Coarse, moving: Coarse, matrix: np.ndarray) -> float:
    """Dice of the two brains with the moving sequence at its new place, where both fields of view reach.

    Args:
        fixed: the one that stayed.
        moving: the one that was moved.
        matrix: as `rigid` returns it.
    """
    back = np.linalg.inv(matrix)
    half = np.diag([2.0, 2.0, 2.0, 1.0])  # every second voxel of the fixed sequence is enough
    mine = fixed.brain[::2, ::2, ::2] > 0.5
    grid = Grid(triple(mine.shape), fixed.grid.affine @ half)
    other = resample(moving.brain, Grid(moving.grid.shape, back @ moving.grid.affine), grid, order=1) > 0.5
    both = _reach(fixed.field, grid) & _reach(Grid(moving.field.shape, back @ moving.field.affine), grid)
    mine = mine & both
    other &= both
    total = np.count_nonzero(mine) + np.count_nonzero(other)
    return 2 * np.count_nonzero(mine & other) / total if total else 0.0


def distance_moved(fixed: Coarse, matrix: np.ndarray) -> float:
    """How far, in mm, points of the fixed sequence's brain are moved on average."""
    points = fixed.grid.to_world(np.argwhere(fixed.brain[::4, ::4, ::4] > 0.5) * 4)
    if not len(points):
        points = fixed.grid.corners()
    there = points @ matrix[:3, :3].T + matrix[:3, 3]
    return float(np.linalg.norm(there - points, axis=1).mean())


def _reach(field: Grid, grid: Grid) -> np.ndarray:
    """(I, J, K) bool on `grid`: inside a field of view."""
    index = np.argwhere(np.ones(grid.shape, bool))
    places = field.to_index(grid.to_world(index))
    inside = ((places >= -0.5) & (places <= np.array(field.shape) - 0.5)).all(axis=1)
    return inside.reshape(grid.shape)


def _starts(fixed: Coarse, moving: Coarse, turns: tuple[float, ...]) -> list[np.ndarray]:
    """(4, 4) RAS matrices to begin from: the header's place, and turns about the brains' middles."""
    middle, there = _middle(fixed), _middle(moving)
    starts = [np.eye(4)]
    for degrees in itertools.product(turns, repeat=3):
        turn = sitk.Euler3DTransform()
        turn.SetRotation(*np.deg2rad(degrees))
        matrix = np.eye(4)
        matrix[:3, :3] = np.array(turn.GetMatrix()).reshape(3, 3)
        matrix[:3, 3] = there - matrix[:3, :3] @ middle
        starts.append(matrix)
    return starts


def _middle(image: Coarse) -> np.ndarray:
    return image.grid.to_world(np.array(ndimage.center_of_mass(image.brain > 0.5)))


def _image(array: np.ndarray, grid: Grid) -> sitk.Image:
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0)))
    affine = FLIP @ grid.affine
    image.SetSpacing(grid.spacing.tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((affine[:3, :3] / grid.spacing).ravel().tolist())
    return image


def _transform(matrix: np.ndarray, centre: np.ndarray) -> sitk.Euler3DTransform:
    """A (4, 4) RAS matrix as an LPS transform that turns about a point."""
    lps = FLIP @ matrix @ FLIP
    transform = sitk.Euler3DTransform()
    transform.SetCenter(centre.tolist())
    transform.SetMatrix(lps[:3, :3].ravel().tolist(), 1e-6)
    transform.SetTranslation((lps[:3, 3] + lps[:3, :3] @ centre - centre).tolist())
    return transform


def _value(method: sitk.ImageRegistrationMethod, images: tuple, start: sitk.Transform) -> float:
    """The measure at a start, less is better; infinite where nothing overlaps."""
    method.SetInitialTransform(start)
    try:
        return float(method.MetricEvaluate(*images))
    except RuntimeError:
        return np.inf


def _method(fixed: Coarse, seed: int) -> sitk.ImageRegistrationMethod:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(SHARE, seed + 1)  # a seed of zero means the clock
    near = ndimage.binary_dilation(fixed.brain > 0.5, iterations=round(AROUND / 2))
    method.SetMetricFixedMask(_image(near.astype(np.uint8), fixed.grid))
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=2.0, minStep=0.01, numberOfIterations=100, relaxationFactor=0.6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel(SHRINK)
    method.SetSmoothingSigmasPerLevel([3, 1])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetNumberOfThreads(1)  # with several the sums, and so the result, depend on the machine
    return method


def _matrix(transform: sitk.Transform) -> np.ndarray:
    """(4, 4) RAS matrix of an LPS transform."""
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    matrix = np.eye(4)
    matrix[:3, :3] = np.column_stack(
        [np.array(transform.TransformPoint(tuple(axis))) - origin for axis in np.eye(3)]
    )
    matrix[:3, 3] = origin
    return FLIP @ matrix @ FLIP
