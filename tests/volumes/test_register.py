"""Rigid registration finds a known motion, near and far, and tells when it has failed."""

from dataclasses import replace

import numpy as np
import pytest

from slem_app.phantom import make
from slem_app.types import Grid
from slem_app.volumes.coarse import Coarse, coarse
from slem_app.volumes.levels import Levels, Volume
from slem_app.volumes.register import brains_agree, distance_moved, rigid

POINTS = np.array(
    [[x, y, z] for x in (-45, 45) for y in (-55, 55) for z in (-40, 40)], dtype=float
)  # the brain's corners


def motion(degrees: tuple[float, float, float], shift: tuple[float, float, float]) -> np.ndarray:
    """(4, 4) RAS."""
    matrix = np.eye(4)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        a, b = [n for n in range(3) if n != axis]
        turn = np.eye(4)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    matrix[:3, 3] = shift
    return matrix


@pytest.fixture(scope="module")
def case():
    return make(1, (70, 82, 60), (2.4, 2.4, 2.4))


def seen(case, name: str, move: np.ndarray | None = None, cut: int | None = None) -> Coarse:
    image, grid = case.images[name], case.grid
    if cut:
        image, grid = image[:, :, :cut].copy(), grid.crop((0, 0, 0), (*grid.shape[:2], cut))
    volume = Volume(image, Grid(grid.shape, (np.eye(4) if move is None else move) @ grid.affine))
    return coarse(volume, Levels.of(volume.array, name), name, head=True)


def shaded(case, slopes: tuple[float, float, float]):
    """The case as a coil sees it that is nearer to some side: logarithm of the brightness, middle to end."""
    axes = [np.linspace(-1, 1, n, dtype=np.float32) for n in case.grid.shape]
    rows = np.meshgrid(*axes, indexing="ij", sparse=True)
    field = np.exp(sum(slope * row for slope, row in zip(slopes, rows, strict=True)))
    return replace(case, images={name: image * field for name, image in case.images.items()})


@pytest.mark.parametrize(
    ("degrees", "shift", "cut"),
    [((3, -4, 5), (6, -4, 5), None), ((3, -4, 5), (6, -4, 5), 30), ((8, -6, 20), (-24, 20, 30), None)],
    ids=["small", "lower half only", "30 mm and 20 degrees"],
)
def test_a_known_motion_is_undone(case, degrees, shift, cut):
    true = motion(degrees, shift)
    fixed, moving = seen(case, "t1c"), seen(case, "t2f", true, cut)
    found = rigid(fixed, moving)
    left = found @ np.linalg.inv(true)
    assert np.linalg.norm(POINTS @ left[:3, :3].T + left[:3, 3] - POINTS, axis=1).max() < 1.5
    assert brains_agree(fixed, moving, found) > 0.93
    assert brains_agree(fixed, moving, found) > brains_agree(fixed, moving, np.eye(4))
    true_mean = np.linalg.norm(POINTS @ true[:3, :3].T + true[:3, 3] - POINTS, axis=1).mean()
    assert distance_moved(fixed, found) == pytest.approx(true_mean, rel=0.3)


def test_the_same_registration_gives_the_same_matrix(case):
    fixed, moving = seen(case, "t1c"), seen(case, "t2w", motion((2, 0, 0), (3, 2, 0)))
    np.testing.assert_allclose(rigid(fixed, moving), rigid(fixed, moving), atol=1e-9)


def test_nothing_that_does_not_meet_agrees(case):
    fixed, far = seen(case, "t1c"), seen(case, "t2w", motion((0, 0, 0), (900, 0, 0)))
    assert brains_agree(fixed, far, np.eye(4)) == 0.0


@pytest.mark.parametrize("other", ["t1n", "t2w"])
def test_what_two_coils_make_brighter_does_not_draw_them_beside_their_place(case, other):
    true = motion((3, -4, 5), (6, -4, 5))
    fixed = seen(shaded(case, (0.0, 0.5, 0.8)), "t1c")
    moving = seen(shaded(case, (0.0, -0.5, 0.8)), other, true)
    left = rigid(fixed, moving) @ np.linalg.inv(true)
    assert np.linalg.norm(POINTS @ left[:3, :3].T + left[:3, 3] - POINTS, axis=1).max() < 1.5
