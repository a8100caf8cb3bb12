"""A brain that is stored upside down or back to front is told by its shape; one that is bent, turned or cut
is not taken for one.
"""

import nibabel as nib
import numpy as np
import pytest

from slem_app.types import Grid
from slem_app.volumes.levels import Volume
from slem_app.volumes.prepare import Preparation, prepare
from slem_app.volumes.upright import MIRRORS, turned

SHAPE = (48, 56, 48)
GRID = Grid(SHAPE, np.array([[4.0, 0, 0, -94], [0, 4, 0, -110], [0, 0, 4, -94], [0, 0, 0, 1]]))


def brain() -> np.ndarray:
    """(I, J, K) bool: hemispheres that are narrower in front and flat below, temporal lobes, a cerebellum."""
    index = np.indices(SHAPE).reshape(3, -1).T
    x, y, z = (one.reshape(SHAPE) for one in GRID.to_world(index).T)

    def ball(middle, radii):
        return sum(((c - m) / r) ** 2 for c, m, r in zip((x, y, z), middle, radii, strict=True)) < 1

    narrow = 1 - 0.18 * y / 85
    hemispheres = ((x / (68 * narrow)) ** 2 + (y / 86) ** 2 + (z / 58) ** 2 < 1) & (z > -22)
    temporal = ball((44, 5, -28), (24, 42, 20)) | ball((-44, 5, -28), (24, 42, 20))
    return hemispheres | temporal | ball((0, -52, -42), (50, 32, 28)) | ball((0, -18, -48), (15, 15, 32))


@pytest.fixture(scope="module")
def shape():
    return brain()


def mirrored(grid: Grid, signs: tuple[int, int, int]) -> Grid:
    return Grid(grid.shape, np.diag([*signs, 1.0]) @ grid.affine)


def test_an_upright_brain_passes(shape):
    assert turned(shape, GRID) == ()
    assert turned(shape, mirrored(GRID, (-1, 1, 1))) == (), "sides cannot be told by shape"


@pytest.mark.parametrize("how", MIRRORS)
def test_a_brain_that_lies_against_its_header_is_warned_of(shape, how):
    (warning,) = turned(shape, mirrored(GRID, MIRRORS[how]))
    assert warning.code == "orientation-doubtful"
    assert f"lies {how}, unlike what the header says" in warning.text


@pytest.mark.parametrize("degrees", [-15, 15])
def test_a_bent_head_is_no_turned_one(shape, degrees):
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    bend = np.array([[1, 0, 0, 0], [0, cos, -sin, 0], [0, sin, cos, 0], [0, 0, 0, 1]])
    assert turned(shape, Grid(SHAPE, bend @ GRID.affine)) == ()


def test_what_has_no_shape_passes():
    assert turned(np.zeros(SHAPE, bool), GRID) == ()
    assert turned(np.ones(SHAPE, bool), GRID) == ()


def test_a_prepared_study_carries_the_warning(shape):
    noise = np.random.default_rng(0).uniform(200, 400, SHAPE).astype(np.float32)
    image = np.where(shape, noise, 0).astype(np.float32)
    codes = [
        [one.code for one in prepare({"t1c": Volume(image, grid)}, ("t1c",), Preparation()).warnings]
        for grid in (GRID, mirrored(GRID, (1, 1, -1)))
    ]
    assert codes == [[], ["orientation-doubtful"]]


def test_real_brains_are_upright(real_data):
    for path in sorted((real_data / "brats").glob("*/*t1ce.nii.gz"))[:2]:
        image = nib.load(path)
        there = np.asanyarray(image.dataobj)[::4, ::4, ::4] != 0
        grid = Grid(there.shape, image.affine @ np.diag([4, 4, 4, 1.0]))
        assert turned(there, grid) == ()
        assert len(turned(there, mirrored(grid, (1, 1, -1)))) == 1
