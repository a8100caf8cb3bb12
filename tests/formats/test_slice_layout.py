"""The layout of slices: where every voxel goes, and what is refused."""

import itertools

import numpy as np
import pytest

from slem_app.errors import BadGrid
from slem_app.formats.slice_layout import SliceLayout
from slem_app.types import Grid

OBLIQUE = np.array(
    [[0.9363, -0.2751, 0.2184], [0.2896, 0.9564, -0.0370], [-0.1987, 0.0978, 0.9752]]
)  # turned by some 15 degrees about each axis, nearly


def rotation() -> np.ndarray:
    left, _, right = np.linalg.svd(OBLIQUE)
    return left @ right


def grid_of(orientation: str, spacing: tuple[float, float, float], turned: bool) -> Grid:
    """A grid of 5 x 6 x 7 voxels whose axes run to the sides of three letters."""
    sides = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, letter in enumerate(orientation):
        world, sign = sides[letter]
        affine[world, axis] = sign * spacing[axis]
    affine[:3, :3] = (rotation() if turned else np.eye(3)) @ affine[:3, :3]
    affine[:3, 3] = (-31.5, 12.25, 40.0)
    return Grid((5, 6, 7), affine)


ORIENTATIONS = [
    "".join(letters)
    for axes in itertools.permutations(("RL", "AP", "SI"))
    for letters in itertools.product(*axes)
]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_every_voxel_keeps_its_value_and_place(orientation: str, turned: bool) -> None:
    grid = grid_of(orientation, (1.0, 1.0, 1.0), turned)
    array = np.arange(5 * 6 * 7).reshape(grid.shape)
    layout = SliceLayout.of(grid, "image")
    slices = layout.arrange(array)

    assert layout.grid.orientation == "LPS"
    assert np.linalg.det(layout.grid.axes) > 0  # slices follow each other along their normal
    assert slices.shape == layout.grid.shape[::-1]
    for k, row, column in itertools.product(*map(range, slices.shape)):
        index = grid.to_index(layout.grid.to_world(np.array([column, row, k])))
        np.testing.assert_allclose(index, np.rint(index), atol=1e-6)
        assert array[tuple(np.rint(index).astype(int))] == slices[k, row, column]


@pytest.mark.parametrize(
    ("orientation", "spacing", "expected"),
    [
        ("RAS", (5.0, 1.0, 1.0), "PIR"),  # sagittal
        ("PIR", (1.0, 1.0, 4.0), "PIR"),
        ("LIA", (1.0, 1.0, 3.0), "LIP"),  # coronal
        ("RAS", (1.0, 2.0, 1.0), "LIP"),
        ("LAS", (0.9, 0.9, 5.5), "LPS"),  # left-handed
        ("SRA", (1.0, 1.0, 1.05), "LPS"),
    ],
)
def test_thick_slices_stay_slices_and_others_become_axial(
    orientation: str, spacing: tuple[float, float, float], expected: str
) -> None:
    assert SliceLayout.of(grid_of(orientation, spacing, False), "image").grid.orientation == expected


def test_a_sheared_image_is_refused_and_rounding_is_not() -> None:
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    affine[0, 2] = 1e-5
    SliceLayout.of(Grid((200, 200, 100), affine), "image")
    affine[0, 2] = 0.02
    with pytest.raises(BadGrid, match=r"t2w: its axes are not at right angles.*resample it"):
        SliceLayout.of(Grid((200, 200, 100), affine), "t2w")
    affine[0, 2] = 1.0
    with pytest.raises(BadGrid, match="t2w: its axes are sheared"):
        SliceLayout.of(Grid((20, 20, 10), affine), "t2w")
