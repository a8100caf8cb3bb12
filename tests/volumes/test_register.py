"""Rigid registration finds a known motion and moves affines only."""

import numpy as np
import pytest

from slem_app.errors import BadGrid
from slem_app.phantom import make
from slem_app.types import Grid
from slem_app.volumes.prepare import Volume

sitk = pytest.importorskip("SimpleITK")
from slem_app.volumes.register import register  # noqa: E402

# the brain's corners
POINTS = np.array([[x, y, z] for x in (-45, 45) for y in (-55, 55) for z in (-40, 40)], dtype=float)


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


def misplaced(case, cut: int | None = None) -> dict[str, Volume]:
    image, grid = case.images["t2f"], case.grid
    if cut:
        image, grid = image[:, :, :cut].copy(), grid.crop((0, 0, 0), (*grid.shape[:2], cut))
    moved = Grid(grid.shape, motion((3, -4, 5), (6, -4, 5)) @ grid.affine)
    return {"t1c": Volume(case.images["t1c"], case.grid), "t2f": Volume(image, moved)}


@pytest.mark.parametrize("cut", [None, 30], ids=["whole", "lower half only"])
def test_a_known_motion_is_undone(case, cut):
    result = register(misplaced(case, cut), "t1c")
    true = case.grid.affine
    left = result.volumes["t2f"].grid.affine @ np.linalg.inv(true)
    assert np.linalg.norm(POINTS @ left[:3, :3].T + left[:3, 3] - POINTS, axis=1).max() < 1.5
    assert 4 < result.shifts["t2f"] < 14
    assert result.shifts["t1c"] == 0


def test_voxels_stay_as_they_are_and_the_result_repeats(case):
    volumes = misplaced(case)
    one, other = register(volumes, "t1c"), register(volumes, "t1c")
    assert one.volumes["t2f"].array is volumes["t2f"].array
    assert one.volumes["t1c"] is volumes["t1c"]
    np.testing.assert_allclose(one.volumes["t2f"].grid.affine, other.volumes["t2f"].grid.affine, atol=1e-9)
    np.testing.assert_allclose(one.volumes["t2f"].grid.spacing, case.grid.spacing)


def test_an_unknown_target_is_refused(case):
    with pytest.raises(BadGrid, match="cannot register onto 'pd': this study has t1c, t2f"):
        register(misplaced(case), "pd")
