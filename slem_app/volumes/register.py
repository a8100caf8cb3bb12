"""Rigid registration of a study's sequences, and affine registration of an atlas, by SimpleITK.

Sequences are compared with the brain known, at 4 mm from many starts and then at 2 mm from the best ones.
What the receive field does to the brightness is taken out first: else two images fit best where their fields
do, several mm beside the right place. Only the affine of a moved sequence changes; its voxels stay as they
are, so nothing is interpolated twice. Whether a registration is to be believed is told by how well the
brains, found in each sequence apart, lie on each other afterwards.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from operator import itemgetter

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from slem_app.types import Grid, triple
from slem_app.volumes.coarse import FINE, Coarse
from slem_app.volumes.geometry import bounding_box, resample

__all__ = ["affine", "brains_agree", "distance_moved", "rigid"]

FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])  # RAS <-> LPS, the frame of ITK
AROUND = 6.0  # mm around the brain that the measure looks at, so that its border counts
BINS = 32
FIELD = 15.0  # mm, standard deviation of the mean that is taken for the receive field
FAR = 1e-3  # weight of the brain's mean in the field, which decides far from the brain
LEAST_FIELD = 0.05  # of the brain's mean: what the receive field is at least
BRIGHTEST = 2.5  # times the field: what is brighter counts as this
TURNS = (-14.0, 0.0, 14.0)
"""Degrees about each of R, A, S that are tried from the brains' middles."""
TRIED = 4  # starts that are followed at 4 mm
DOUBTFUL = 0.9  # agreement of the brains under which more than the best of them is followed at 2 mm


@dataclass(frozen=True, eq=False)
class _Level:
    """Two images at one resolution and the measure between them."""

    method: sitk.ImageRegistrationMethod
    """Measure and descent."""
    fixed: sitk.Image
    """The one that stays, near its brain."""
    moving: sitk.Image
    """The other, all of it."""

    def value(self, transform: sitk.Transform) -> float:
        """The measure, less is better; infinite where nothing overlaps."""
        self.method.SetInitialTransform(transform)
        try:
            return float(self.method.MetricEvaluate(self.fixed, self.moving))
        except RuntimeError:
            return np.inf

    def descend(self, transform: sitk.Transform) -> float:
        """Improve a transform, in place, and return its value; infinite, and the transform means nothing,
        where too little overlaps.
        """
        self.method.SetInitialTransform(transform, inPlace=True)
        try:
            self.method.Execute(self.fixed, self.moving)
        except RuntimeError:
            return np.inf
        return float(self.method.GetMetricValue())


def rigid(fixed: Coarse, moving: Coarse, seed: int = 0, turns: tuple[float, ...] = TURNS) -> np.ndarray:
    """Where the moving sequence shows what the fixed one shows.

    Mattes mutual information (IEEE TMI 2003) around the fixed image's brain, from the header's place and from
    turns about the brains' middles: the best of them are followed at 4 mm, the best of those at 2 mm.

    Args:
        fixed: the one that stays.
        moving: the one that is to be moved.
        seed: of the voxels that the measure looks at.
        turns: degrees about each axis that are tried from the brains' middles.

    Returns:
        (4, 4) RAS, from points of the fixed sequence's world to those of the moving one's; no motion where
        nothing overlaps.
    """
    rough, fine = _levels(fixed, moving, seed)
    centre = FLIP[:3, :3] @ _middle(fixed)
    starts = [_transform(start, centre) for start in _starts(fixed, moving, turns)]
    starts.sort(key=rough.value)
    followed = [(rough.descend(start), number, start) for number, start in enumerate(starts[:TRIED])]
    found = []
    for value, _, transform in sorted(followed)[:2]:
        value = fine.descend(transform) if np.isfinite(value) else np.inf
        if not np.isfinite(value):
            continue
        matrix = _matrix(transform)
        agreement = brains_agree(fixed, moving, matrix)
        if agreement >= DOUBTFUL:
            return matrix
        found.append((-agreement, value, matrix))
    return min(found, key=itemgetter(0, 1))[2] if found else np.eye(4)


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
    centre = FLIP[:3, :3] @ _middle(fixed)
    lps = FLIP @ start @ FLIP
    transform = sitk.AffineTransform(3)
    transform.SetCenter(centre.tolist())
    transform.SetMatrix(lps[:3, :3].ravel().tolist())
    transform.SetTranslation((lps[:3, 3] + lps[:3, :3] @ centre - centre).tolist())
    for level in _levels(fixed, moving, seed):
        if not np.isfinite(level.descend(transform)):
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


def _levels(fixed: Coarse, moving: Coarse, seed: int) -> tuple[_Level, _Level]:
    """Both images at 4 and at 2 mm, without their receive fields."""
    images = _even(fixed), _even(moving)
    near = ndimage.binary_dilation(fixed.brain > 0.5, iterations=round(AROUND / FINE))
    made = []
    for step, share, rate in ((2, 0.5, 2.0), (1, 0.15, 1.0)):
        mine, other = (ndimage.gaussian_filter(one, step / 2)[::step, ::step, ::step] for one in images)
        grids = [
            Grid(triple(one.shape), seen.grid.affine @ np.diag([step, step, step, 1.0]))
            for one, seen in ((mine, fixed), (other, moving))
        ]
        mask = near[::step, ::step, ::step]
        box = bounding_box(mask) if mask.any() else (slice(None),) * 3
        mask, mine = mask[box], mine[box]
        own = grids[0].crop(triple(part.start or 0 for part in box), triple(mine.shape))
        method = _method(share, rate, seed)
        method.SetMetricFixedMask(_image(mask.astype(np.uint8), own))
        made.append(_Level(method, _image(mine, own), _image(other, grids[1])))
    return made[0], made[1]


def _even(seen: Coarse) -> np.ndarray:
    """(I, J, K) float32 in 0..1: the image over the mean of the brain around each voxel."""
    inside = (seen.brain > 0.5).astype(np.float32)
    if not inside.any():
        return seen.image
    width = FIELD / seen.grid.spacing
    mean = float(seen.image[inside > 0].mean())
    share = ndimage.gaussian_filter(inside, width, mode="constant") + FAR
    total = ndimage.gaussian_filter(seen.image * inside, width, mode="constant") + FAR * mean
    field = np.maximum(total / share, LEAST_FIELD * mean)
    return np.clip(seen.image / np.maximum(BRIGHTEST * field, 1e-6), 0, 1).astype(np.float32)


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


def _method(share: float, rate: float, seed: int) -> sitk.ImageRegistrationMethod:
    """Mutual information of a share of the voxels, and a descent that begins with steps of `rate` mm."""
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(share, seed + 1)  # a seed of zero means the clock
    method.SetMetricUseFixedImageGradientFilter(False)  # else each start filters both images whole
    method.SetMetricUseMovingImageGradientFilter(False)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=rate, minStep=0.01, numberOfIterations=100, relaxationFactor=0.6
    )
    method.SetOptimizerScalesFromPhysicalShift()
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
